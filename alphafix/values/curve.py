"""What a scalar on the few-split scores of a classifier buys, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphafix.errors import FileFormatError, InputError, call, option
from alphafix.values.arrays import Array, FloatArray64

# Points of a curve that are kept with a correction: all of them, up to this many samples.
KEPT = 1 << 16


@dataclass(frozen=True)
class Curve:
    """Accuracy as a function of the offset on few-split scores.

    Attributes:
        offsets: Ascending offsets, one between any two neighbouring gaps (the first is below
            all, the last above all), float64 of shape P.
        gaps: The gap below each offset but the first: from there on, up to the next gap, accuracy
            is that of the offset; float64 of shape P - 1.
        accuracy: Percent for "few", "medium", "many" and "overall" at each offset, float64 of
            shape P; NaN throughout for a tier without samples.
        slack: Standard errors between each offset and the nearest limit of the choice (see
            `alphafix.metrics.limits`), float64 of shape P; None where there was no limit.
    """

    offsets: FloatArray64
    gaps: FloatArray64
    accuracy: dict[str, FloatArray64]
    slack: FloatArray64 | None = None

    def at(self, position: int) -> dict[str, float | None]:
        """Accuracy at one of the offsets."""
        values = {name: float(curve[position]) for name, curve in self.accuracy.items()}
        return {name: None if np.isnan(value) else value for name, value in values.items()}

    def position(self, offset: float) -> int:
        """Position whose accuracy ``offset`` has: between the same gaps, if not the nearest."""
        return int(np.searchsorted(self.gaps, offset))

    def outline(self, points: int = 12) -> list[dict[str, float | None]]:
        """Offsets and accuracies at steps of equal few-split gain, as JSON data."""
        few = np.nan_to_num(self.accuracy["few"])
        rising = np.maximum.accumulate(few)
        wanted = np.linspace(rising[0], rising[-1], points)
        places = np.unique(np.searchsorted(rising, wanted).clip(max=len(few) - 1))
        return [{"offset": float(self.offsets[i]), **self.at(int(i))} for i in places]

    def shifted(self, by: float) -> Curve:
        """The same with offsets counted from elsewhere, at most `KEPT` points of it."""
        kept = np.unique(np.linspace(0, len(self.offsets) - 1, KEPT).round().astype(np.int64))
        accuracy = {name: values[kept] for name, values in self.accuracy.items()}
        slack = None if self.slack is None else self.slack[kept]
        return Curve(self.offsets[kept] + by, self.gaps[kept[1:] - 1] + by, accuracy, slack)

    def tensors(self) -> dict[str, Array]:
        """The arrays under the names that they have in files."""
        return {
            "curve_offsets": self.offsets,
            "curve_gaps": self.gaps,
            **{f"curve_{name}": values for name, values in self.accuracy.items()},
            **({} if self.slack is None else {"curve_slack": self.slack}),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Array]) -> Curve | None:
        """Read what `tensors` gave; None if there is nothing of it.

        Raises:
            FileFormatError: If it is the curve of an earlier version.
        """
        if "curve_offsets" not in tensors:
            return None
        if "curve_gaps" not in tensors:
            raise FileFormatError(
                "the correction was made by an earlier version of alphafix",
                got="a curve without its gaps",
                expected="one that this version has written",
                todo=f"run {call('train', overwrite=True)}",
            )
        names = ("few", "medium", "many", "overall")
        accuracy = {name: tensors[f"curve_{name}"] for name in names}
        slack = tensors.get("curve_slack")
        return cls(tensors["curve_offsets"], tensors["curve_gaps"], accuracy, slack)


@dataclass(frozen=True)
class Point:
    """A point of a curve, as a user asks for it: "few=80", "overall=-0.5" or "t=0.6".

    Attributes:
        name: "few": at least this few-split accuracy in percent, for the least offset;
            "overall": the largest few-split accuracy at a change of overall accuracy, in points
            against the base model, not below this; "t": this offset.
        value: Which.
    """

    name: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Point:
        """Read the text of a user.

        Raises:
            ValueError: If it is none of these.
        """
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            name = ""
        if name not in ("few", "overall", "t"):
            raise ValueError(f"a point is few=PERCENT, overall=POINTS or t=NUMBER, not {text!r}")
        if not np.isfinite(number):
            raise ValueError(f"a point of {text!r} is nowhere")
        return cls(name, number)

    def on(self, curve: Curve, base: Mapping[str, Any]) -> float:
        """The offset of this point.

        Args:
            curve: Accuracy on validation by the offset.
            base: Accuracy of the base model there.

        Raises:
            InputError: If the curve does not get there.
        """
        if self.name == "t":
            return self.value
        few = np.nan_to_num(curve.accuracy["few"])
        if self.name == "few":
            reached = np.flatnonzero(few >= self.value - 1e-9)
            if not len(reached):
                raise self._unreachable("few-split accuracy", "%", few.min(), few.max())
            return float(curve.offsets[reached[0]])
        change = np.nan_to_num(curve.accuracy["overall"]) - (base["overall"] or 0.0)
        allowed = np.flatnonzero(change >= self.value - 1e-9)
        if not len(allowed):
            raise self._unreachable("overall change", " points", change.min(), change.max())
        best = allowed[few[allowed] == few[allowed].max()]
        return float(curve.offsets[best[change[best].argmax()]])

    def _unreachable(self, what: str, unit: str, least: float, most: float) -> InputError:
        return InputError(
            f"no offset reaches this {what} on validation",
            got=option("at", f"{self.name}={self.value:g}"),
            expected=f"{least:.1f} to {most:.1f}{unit}",
            todo="choose a point within that",
        )
