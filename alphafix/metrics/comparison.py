"""The comparison of many methods on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import call
from alphafix.files import read_object, write_json
from alphafix.metrics.accuracy import COLUMNS, Accuracy
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.limits import Limits
from alphafix.metrics.margins import Steered
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.values.classes import ClassTable
from alphafix.values.display import Displayed

BASE = "base head"
"""Name of the method that all others are compared with."""


@dataclass(frozen=True)
class OverSeeds:
    """One figure of several single trials, in percent.

    Attributes:
        values: The figure of each.
        mean: Their mean.
        std: Their standard deviation (ddof = 1), or None of a single one.
    """

    values: tuple[float, ...]
    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> OverSeeds:
        """Take the figures of at least one trial."""
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(tuple(values), float(np.mean(values)), spread)

    def to_dict(self) -> dict[str, float | None]:
        """Mean and standard deviation, as JSON data."""
        return {"mean": self.mean, "sd": self.std}


BySeeds = Mapping[str, "OverSeeds | None"]
"""Accuracy of single trials by tier; None for an empty one."""


def over_seeds(accuracies: Sequence[Accuracy]) -> BySeeds:
    """Gather the accuracies of T single trials by tier."""
    found: dict[str, OverSeeds | None] = {}
    for name in COLUMNS:
        known = [value for one in accuracies if (value := one[name]) is not None]
        found[name] = OverSeeds.of(known) if known else None
    return found


@dataclass(frozen=True)
class Method:
    """One classifier of a comparison, before it is measured.

    Attributes:
        name: Its name.
        family: "base", "simple" (closed forms and scalars), "trained", "alphanet", "random"
            (AlphaNet's control), "calibrated", "on top", "choice" (a setting of another row's
            method that validation chooses among all methods) or "shipped" (the correction in the
            run directory).
        linear: Whether it is a linear head that can be patched.
        settings: The hyper-parameters that validation chose.
        val: Accuracy by tier on validation.
        seeds: Accuracy of the single seeds by tier, or None where there is one fit.
        seconds: Time that fitting took.
        within: Whether it keeps the limits of the comparison, as sure as these ask for.
    """

    name: str
    family: str
    linear: bool
    settings: Mapping[str, Any]
    val: Accuracy
    seeds: BySeeds | None = None
    seconds: float = 0.0
    within: bool = True


@dataclass(frozen=True)
class Row:
    """One measured classifier; all figures in percent, changes in points against the base head.

    Attributes:
        method: What was measured.
        figures: Top-1 by tier, None for an empty one.
        changes: Its paired difference to the base head by tier.
        dominated_by: Methods at least as good both on few-split classes and overall, and
            better in one of them.
        surely_dominated_by: Those of them for which this holds in 95% of the draws.
    """

    method: Method
    figures: Mapping[str, Estimate | None]
    changes: Mapping[str, Estimate | None]
    dominated_by: tuple[str, ...] = ()
    surely_dominated_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison(Displayed):
    """Many methods on the same samples.

    Attributes:
        classes: The class table.
        on: Which samples.
        samples: N.
        limits: What a method could cost, and how surely not more.
        rows: The methods, the base head first.
        verdict: What follows, in sentences; the first is for a person who decides.
        roles: Names of the rows that the verdict is about: "shipped" (the correction in the run
            directory), and what validation chooses within the limits: "best" of all linear
            methods, of the "simple" ones, and of "alphanet" settings.
        resampling: The bootstrap draws behind the intervals.
        curves: Few and overall accuracy along the few-bias of the base head, for the picture.
        by_k: Figures of AlphaNet's single trials by K, as `Method.seeds`.
        steered: The methods whose every offset on few-split logits is known, sample by sample;
            they have a file of their own (see `alphafix.metrics.margins`).
        left_out: Methods for which the time was up, by name.
        provenance: How it was made.
    """

    classes: ClassTable
    on: str
    samples: int
    limits: Limits
    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    resampling: Resampling
    roles: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    by_k: Mapping[str, BySeeds] = field(default_factory=dict)
    steered: tuple[Steered, ...] = field(default=(), repr=False, compare=False)
    left_out: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.method.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data, the format of compare.json."""
        return {
            "value": "comparison",
            "on": self.on,
            "samples": self.samples,
            "unit": "percent",
            "limits": asdict(self.limits),
            "roles": dict(self.roles),
            "settings": self.resampling.to_dict(),
            "verdict": list(self.verdict),
            "rows": [asdict(row) for row in self.rows],
            "curves": dict(self.curves),
            "by_k": {
                k: {name: one and asdict(one) for name, one in found.items()}
                for k, found in self.by_k.items()
            },
            "left_out": list(self.left_out),
            **self.classes.to_dict(),
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write compare.json."""
        write_json(path, self.to_dict(), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If it is not a comparison.
        """
        with reading(path, "a comparison", todo=f"run {call('compare')} again"):
            data = read_object(path)
            return cls(
                classes=ClassTable.from_dict(data),
                on=typed(str, data["on"], "on"),
                samples=typed(int, data["samples"], "samples"),
                limits=typed(Limits, data["limits"], "limits"),
                roles=typed(dict[str, str], data["roles"], "roles"),
                rows=typed(tuple[Row, ...], data["rows"], "rows"),
                verdict=typed(tuple[str, ...], data["verdict"], "verdict"),
                resampling=Resampling.from_dict(data["settings"]),
                curves=typed(dict[str, dict[str, list[float]]], data["curves"], "curves"),
                by_k=typed(dict[str, dict[str, OverSeeds | None]], data["by_k"], "by_k"),
                left_out=typed(tuple[str, ...], data.get("left_out", []), "left_out"),
                provenance=typed(dict[str, Any], data["provenance"], "provenance"),
            )
