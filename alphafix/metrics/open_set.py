"""What an evaluation says of unknown classes; `alphafix.openset` measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alphafix.metrics.estimates import Paired
from alphafix.reading.schema import typed


@dataclass(frozen=True)
class OpenTier:
    """Top-1 of a tier beside unknown samples.

    Attributes:
        classes: Its number of classes.
        closed: With every sample accepted.
        open: With the threshold, where a rejected sample is a wrong one.
    """

    classes: int
    closed: Paired
    open: Paired


@dataclass(frozen=True)
class HeadCurve:
    """What the threshold does to one classifier, in percent.

    Attributes:
        figures: `alphafix.openset.curve.CURVES`, each at every threshold; None without samples.
        best_threshold: The threshold of the largest F-measure among all confidences, chosen on
            the very samples that it is measured on.
        best_f_measure: That F-measure.
    """

    figures: Mapping[str, Sequence[float | None]]
    best_threshold: float
    best_f_measure: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        best = {"threshold": self.best_threshold, "f_measure": self.best_f_measure}
        return {**self.figures, "best": best}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadCurve:
        """Read what `to_dict` gave (`OpenSet.from_dict` says what it raises)."""
        figures = {name: values for name, values in data.items() if name != "best"}
        best = {f"best_{name}": value for name, value in data["best"].items()}
        return typed(cls, {"figures": figures, **best}, "open_curve")


@dataclass(frozen=True)
class OpenCurve:
    """Base and corrected head over the same thresholds.

    Attributes:
        thresholds: P thresholds, ascending.
        base: The base head.
        corrected: The corrected head.
    """

    thresholds: Sequence[float]
    base: HeadCurve
    corrected: HeadCurve

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "thresholds": list(self.thresholds),
            "base": self.base.to_dict(),
            "corrected": self.corrected.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OpenCurve:
        """Read what `to_dict` gave (`OpenSet.from_dict` says what it raises)."""
        base, corrected = (HeadCurve.from_dict(data[name]) for name in ("base", "corrected"))
        return cls(typed(list[float], data["thresholds"], "thresholds"), base, corrected)


@dataclass(frozen=True)
class OpenSet:
    """Base against corrected on known and unknown samples.

    Attributes:
        threshold: Softmax confidence under which a sample is called unknown.
        known_samples: Samples of the C classes.
        unknown_samples: Samples of others.
        figures: `alphafix.openset.figures.FIGURES`.
        tiers: few, medium, many, base and overall.
        curve: The same over all thresholds.
    """

    threshold: float
    known_samples: int
    unknown_samples: int
    figures: Mapping[str, Paired]
    tiers: Mapping[str, OpenTier]
    curve: OpenCurve

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "threshold": self.threshold,
            "known_samples": self.known_samples,
            "unknown_samples": self.unknown_samples,
            **{name: asdict(figure) for name, figure in self.figures.items()},
            "splits": {name: asdict(tier) for name, tier in self.tiers.items()},
            "open_curve": self.curve.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OpenSet:
        """Read what `to_dict` gave.

        Raises:
            KeyError: If an entry is missing.
            AttributeError: If one is no object, where one is needed.
            ValueError: If one is of another type.
        """
        own = ("threshold", "known_samples", "unknown_samples")
        others = (*own, "splits", "open_curve")
        parts = {
            **{name: data[name] for name in own},
            "figures": {name: value for name, value in data.items() if name not in others},
            "tiers": data["splits"],
            "curve": OpenCurve.from_dict(data["open_curve"]),
        }
        return typed(cls, parts, "open_set")
