"""The evaluation: base against corrected on the same samples, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import call
from alphafix.files import read_object, write_json
from alphafix.metrics.bootstrap import LEVEL, Resampling
from alphafix.metrics.estimates import Paired
from alphafix.metrics.mcnemar import McNemar
from alphafix.metrics.open_set import OpenSet
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.remote import home_path
from alphafix.values.arrays import FloatArray64, IntArray
from alphafix.values.classes import TIERS, ClassTable
from alphafix.values.display import Displayed


@dataclass(frozen=True)
class TierResult:
    """What is known of one tier.

    Attributes:
        name: "few", "medium", "many", "base" (medium and many) or "overall".
        classes: Its number of classes.
        samples: Its number of samples in the evaluated data.
        figures: Figure by measure (`alphafix.metrics.figures.MEASURES`, "grouped").
        mcnemar: Paired test of top-1, or None without samples.
    """

    name: str
    classes: int
    samples: int
    figures: Mapping[str, Paired]
    mcnemar: McNemar | None


@dataclass(frozen=True)
class ClassResults:
    """What is known of each class, arrays of shape C.

    Attributes:
        samples: Evaluated samples, int64.
        base: Samples that the base head gets right, int64.
        corrected: Samples that the corrected head gets right, int64.
        low: Lower end of the change's interval in points, float64, NaN without samples.
        high: Upper end.
    """

    samples: IntArray
    base: IntArray
    corrected: IntArray
    low: FloatArray64
    high: FloatArray64

    @property
    def base_accuracy(self) -> FloatArray64:
        """Accuracy of each class with the base head in percent, NaN without samples."""
        return self._percent(self.base)

    @property
    def corrected_accuracy(self) -> FloatArray64:
        """Accuracy of each class with the corrected head in percent, NaN without samples."""
        return self._percent(self.corrected)

    @property
    def change(self) -> FloatArray64:
        """Change of each class's accuracy in points, float64, NaN without samples."""
        return self._percent(self.corrected - self.base)

    def _percent(self, samples: IntArray) -> FloatArray64:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares: FloatArray64 = 100.0 * samples / self.samples
        return shares


@dataclass(frozen=True)
class Evaluation(Displayed):
    """Base against corrected on one set of samples. All figures are in percent.

    Attributes:
        classes: The class table.
        on: Which samples: "test", "val" or a description.
        method: What made the correction.
        tiers: few, medium, many, base and overall.
        summaries: "worst_class" and "harmonic_mean" (of the tiers' top-1).
        by_class: Counts and intervals of each class.
        resampling: The bootstrap draws behind the intervals.
        open_set: Figures on unknown classes, or None if there were none.
        provenance: How it was made.
    """

    classes: ClassTable
    on: str
    method: str
    tiers: tuple[TierResult, ...]
    summaries: Mapping[str, Paired]
    by_class: ClassResults
    resampling: Resampling
    open_set: OpenSet | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def tier(self, name: str) -> TierResult:
        """The result of one tier."""
        return next(tier for tier in self.tiers if tier.name == name)

    @property
    def samples(self) -> int:
        """N."""
        return self.tier("overall").samples

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data, the format of report.json; n/a is null."""
        return {
            "value": "evaluation",
            "on": self.on,
            "method": self.method,
            "unit": "percent",
            "thresholds": asdict(self.classes.thresholds),
            "settings": {**self.resampling.to_dict(), "level": LEVEL},
            "splits": {
                tier.name: {
                    "classes": tier.classes,
                    "samples": tier.samples,
                    **{name: asdict(change) for name, change in tier.figures.items()},
                    "mcnemar": None if tier.mcnemar is None else asdict(tier.mcnemar),
                }
                for tier in self.tiers
            },
            "summaries": {name: asdict(change) for name, change in self.summaries.items()},
            "open_set": None if self.open_set is None else self.open_set.to_dict(),
            "classes": self._class_records(),
            "provenance": dict(self.provenance),
        }

    def _class_records(self) -> list[dict[str, Any]]:
        found = self.by_class
        columns = zip(
            self.classes.names,
            self.classes.counts.tolist(),
            self.classes.tiers.tolist(),
            found.samples.tolist(),
            found.base.tolist(),
            found.corrected.tolist(),
            _optional(found.low),
            _optional(found.high),
            strict=True,
        )
        return [
            {
                "id": i,
                "name": name,
                "train": train,
                "split": TIERS[tier],
                "samples": samples,
                "base_correct": base,
                "corrected_correct": corrected,
                "change_low": low,
                "change_high": high,
            }
            for i, (name, train, tier, samples, base, corrected, low, high) in enumerate(columns)
        ]

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write report.json."""
        write_json(home_path(path), self.to_dict(), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If it is not an evaluation.
        """
        path = home_path(path)
        with reading(path, "an evaluation", todo=f"run {call('evaluate')} again"):
            return cls.from_dict(read_object(path))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Evaluation:
        """Read what `to_dict` gave.

        Raises:
            KeyError: If an entry is missing.
            AttributeError: If one is no object, where one is needed.
            ValueError: If one is of another type.
        """
        records = typed(list[_ClassRecord], data["classes"], "classes")
        return cls(
            classes=ClassTable.from_dict(data),
            on=typed(str, data["on"], "on"),
            method=typed(str, data["method"], "method"),
            tiers=tuple(_read_tier(name, entry) for name, entry in data["splits"].items()),
            summaries=typed(dict[str, Paired], data["summaries"], "summaries"),
            by_class=ClassResults(
                samples=np.array([r.samples for r in records], dtype=np.int64),
                base=np.array([r.base_correct for r in records], dtype=np.int64),
                corrected=np.array([r.corrected_correct for r in records], dtype=np.int64),
                low=np.array([r.change_low for r in records], dtype=np.float64),
                high=np.array([r.change_high for r in records], dtype=np.float64),
            ),
            resampling=Resampling.from_dict(data["settings"]),
            open_set=None if data["open_set"] is None else OpenSet.from_dict(data["open_set"]),
            provenance=typed(dict[str, Any], data["provenance"], "provenance"),
        )


@dataclass(frozen=True)
class _ClassRecord:
    """What is read of a class in report.json, beside its entry in the class table."""

    samples: int
    base_correct: int
    corrected_correct: int
    change_low: float | None
    change_high: float | None


def _optional(values: FloatArray64) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _read_tier(name: str, data: dict[str, Any]) -> TierResult:
    own = {name: data[name] for name in ("classes", "samples", "mcnemar")}
    figures = {key: entry for key, entry in data.items() if key not in own}
    return typed(TierResult, {"name": name, **own, "figures": figures}, f"splits.{name}")
