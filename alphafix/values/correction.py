"""The correction: the head rows that change, and all that is known of how they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from alphafix.errors import FileFormatError, InputError, call, counted, option
from alphafix.files import read_tensors, write_tensors
from alphafix.reading.boundary import reading
from alphafix.reading.schema import require_arrays, typed
from alphafix.remote import home_path
from alphafix.values.arrays import Array, FloatArray, IntArray
from alphafix.values.curve import Curve, Point
from alphafix.values.display import Displayed
from alphafix.values.head import Head
from alphafix.values.trials import Trials

# Slack that is read from a file may be the margin itself.
_ROUNDING = 1e-9


def require_class_ids(classes: IntArray, num_classes: int | None = None) -> None:
    """Check that ids name different rows of a head, in ascending order.

    A wrong id would be a wrong place in a model file, so this is asked wherever ids come
    from a file and again before bytes are replaced.

    Args:
        classes: Class ids, of shape R.
        num_classes: C, if it is known.

    Raises:
        InputError: If an id is negative, repeated, out of order or not under C.
    """
    ids = np.asarray(classes)
    ascending = ids.ndim == 1 and bool((np.diff(ids) > 0).all())
    inside = ids.min(initial=0) >= 0 and (num_classes is None or ids.max(initial=-1) < num_classes)
    if not (np.issubdtype(ids.dtype, np.integer) and ascending and inside):
        limit = "C - 1" if num_classes is None else num_classes - 1
        raise InputError(
            "the class ids of a correction are not those of rows",
            got=f"{ids.dtype} {np.array2string(ids.ravel(), threshold=6)}",
            expected=f"different whole numbers in 0..{limit}, ascending",
            todo="the file is damaged or belongs to another model; make it again",
        )


@dataclass(frozen=True)
class _Settings:
    """What is read of the settings of a correction, if it is there."""

    rho: float | None = None
    k: int | None = None
    seeds: tuple[int, ...] = ()
    offset: FiniteFloat = 0.0


@dataclass(frozen=True)
class Chosen:
    """Which setting was chosen on validation, and what validation said of it.

    Attributes:
        settings: Its hyper-parameters by name, as JSON data: for AlphaNet "rho", "k", "seeds",
            "ensemble", "why", "offset" and "curve"; for another method its name and its own.
            Empty where nothing was chosen.
        val: Accuracy in percent by split of the correction, or None.
        val_base: The same of the base model.
        auto: What `alphafix.rivals.auto` says of its choice among methods, as JSON data.
        promise: What the choice says of fresh samples, as JSON data (see
            `alphafix.metrics.selection.Promise`); None where it was not made within limits. Its
            "holds" is false where the correction was moved to a point that it does not cover.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, float | None] | None = None
    val_base: Mapping[str, float | None] | None = None
    auto: Mapping[str, Any] | None = None
    promise: Mapping[str, Any] | None = None

    @property
    def rho(self) -> float | None:
        """AlphaNet's rho; None for other methods."""
        return self.settings.get("rho")

    @property
    def k(self) -> int | None:
        """AlphaNet's K; None for other methods."""
        return self.settings.get("k")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trials that the correction is made of; none for other methods."""
        return tuple(self.settings.get("seeds", ()))

    @property
    def offset(self) -> float:
        """The scalar that was added to all few-split biases."""
        return float(self.settings.get("offset", 0.0))

    @property
    def limit(self) -> str | None:
        """What is promised of fresh samples, or no longer is, in sentences; None without limits."""
        return None if self.promise is None else str(self.promise.get("text", ""))

    @property
    def broken_promise(self) -> str | None:
        """The same, where the correction was moved beyond what was promised; else None."""
        promise = self.promise or {}
        return None if promise.get("holds", True) else self.limit

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data, as the file of a correction and ``--json`` have it."""
        if not self.settings:
            return {}
        found = {
            **self.settings,
            "val": None if self.val is None else dict(self.val),
            "val_base": None if self.val_base is None else dict(self.val_base),
        }
        for name in ("auto", "promise"):
            value = getattr(self, name)
            found |= {} if value is None else {name: dict(value)}
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Chosen:
        """Read what `to_dict` gave.

        Raises:
            ValueError: If an entry is of another type.
        """
        own = ("val", "val_base", "auto", "promise")
        settings = {name: value for name, value in data.items() if name not in own}
        typed(_Settings, settings, "chosen")
        return typed(
            cls, {"settings": settings, **{name: data.get(name) for name in own}}, "chosen"
        )


@dataclass(frozen=True)
class Correction(Displayed):
    """New values for some rows of a head.

    Attributes:
        classes: The R class ids whose rows change, int64, ascending (for AlphaNet the F
            few-split classes).
        rows: Their new rows, float32 of shape R x D.
        biases: Their new biases, float32 of shape R, or None to leave the biases alone.
        method: What made it ("alphanet", "tau-norm", ...).
        chosen: Which setting was chosen, and why.
        trials: The trials behind it, or None for methods without.
        curve: Accuracy on validation by the offset on few-split scores, of which the correction
            has one, ``chosen.offset``; None where it was not measured.
        provenance: How it was made, as JSON data.
    """

    classes: IntArray
    rows: FloatArray
    biases: FloatArray | None
    method: str = "alphanet"
    chosen: Chosen = Chosen()
    trials: Trials | None = None
    curve: Curve | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_class_ids(self.classes)
        for name, array in (("rows", self.rows), ("biases", self.biases)):
            if array is not None and len(array) != len(self.classes):
                raise InputError(
                    f"a correction's {name} do not fit its classes",
                    got=f"{len(array)} {name} for {counted(len(self.classes), 'class')}",
                    expected="one a class",
                )
            if array is not None and not np.isfinite(array).all():
                raise InputError(
                    f"a correction's {name} are not finite",
                    got=f"{int((~np.isfinite(array)).sum())} values of NaN or inf",
                    expected="finite numbers",
                    todo=f"train again, with a smaller {option('lr')} if it diverged",
                )

    def apply(self, head: Head) -> Head:
        """Return the corrected head.

        Raises:
            InputError: If the correction belongs to a head of another shape.
        """
        if self.rows.shape[1] != head.width or self.classes.max(initial=-1) >= head.num_classes:
            raise InputError(
                "the correction belongs to another head",
                got=f"head {head.num_classes} x {head.width}, correction of "
                f"{counted(len(self.classes), 'row')} of width {self.rows.shape[1]}, "
                f"largest class id {self.classes.max(initial=-1)}",
                expected="the head that it was trained for",
                todo="run the stages again with this model",
            )
        return head.with_rows(self.classes, self.rows, self.biases)

    @classmethod
    def none(
        cls, head: Head, classes: IntArray, chosen: Chosen, method: str, *, why: str
    ) -> Correction:
        """The base model itself, where no correction is better.

        Args:
            head: The base head.
            classes: The few-split classes, whose rows stay as they are.
            chosen: What was looked at.
            method: What was tried.
            why: Why it is no good, in words.
        """
        settings = {**chosen.settings, "base": why}
        return cls(classes, head.weight[classes], None, method, replace(chosen, settings=settings))

    @property
    def is_base(self) -> bool:
        """Whether this is the base model itself, because no correction is better."""
        return self.kept_because is not None

    @property
    def kept_because(self) -> str | None:
        """Why the base model is kept, in words; None where it is not."""
        return self.chosen.settings.get("base")

    def moved(self, to: Point, head: Head, few: IntArray) -> Correction:
        """The correction with another offset on its few-split scores.

        What the choice promised of fresh samples holds for the new point too where its slack is
        that which the promise takes; elsewhere `Chosen.promise` says that it does not.

        Args:
            to: Which point of the curve.
            head: The head that it corrects.
            few: Few-split class ids.

        Raises:
            InputError: If the curve was not measured or does not get there.
        """
        curve, base = self.curve, self.chosen.val_base
        if curve is None or base is None:
            raise InputError(
                "the correction has no curve to pick a point of",
                got="a correction without validation, or of a file from elsewhere",
                expected="one that was trained with validation features",
                todo=f"run {call('train')} with features of the split val",
            )
        offset = to.on(curve, base)
        apart = float(offset - self.chosen.offset) / head.scale
        # Few-split rows that the correction does not have are those of the base head.
        corrected = self.apply(head)
        changed = np.union1d(self.classes, few)
        biases = corrected.bias_or_zeros[changed].astype(np.float64)
        biases[np.isin(changed, few)] += apart
        settings = {**self.chosen.settings, "offset": offset, "at": f"{to.name}={to.value:g}"}
        settings.pop("base", None)
        position = curve.position(offset)
        val = curve.at(position)
        return replace(
            self,
            classes=changed,
            rows=corrected.weight[changed],
            biases=biases.astype(np.float32),
            chosen=Chosen(settings, val, base, promise=self._promised_at(position, val, base)),
        )

    def _promised_at(
        self,
        position: int,
        val: Mapping[str, float | None],
        base: Mapping[str, float | None],
    ) -> dict[str, Any] | None:
        """What the promise is worth at a point of the curve."""
        promise, curve = self.chosen.promise, self.curve
        if promise is None or curve is None:
            return None
        margin, asked = promise.get("margin"), promise.get("asked", "its limits")
        holds = (
            margin is not None
            and curve.slack is not None
            and float(curve.slack[position]) >= margin - _ROUNDING
        )
        few, overall = ((val[name] or 0.0) - (base[name] or 0.0) for name in ("few", "overall"))
        gain = f"few-split {few:+.1f} points, overall {overall:+.1f} on validation"
        told = (
            f"{gain}, {asked}: this point is within what was promised."
            if holds
            else f"{gain}. This point is beyond what was promised ({asked}): nothing is promised "
            "of fresh samples any longer."
        )
        kept = {"limits": promise.get("limits"), "margin": margin, "asked": asked}
        return {**kept, "few_gain": few, "overall_drop": -overall, "holds": holds, "text": told}

    def save(self, path: Path, *, overwrite: bool = False, like: Path | None = None) -> None:
        """Write the correction as safetensors; no more people can read it than ``like``.

        The tensors are ``classes``, ``rows``, ``biases``, ``trial_neighbors``,
        ``trial_alphas`` and ``trial_biases`` where there are trials (and ``trial_own_rows`` and
        ``trial_own_alphas`` where their pool holds an own row), and ``curve_offsets``,
        ``curve_gaps``, ``curve_few`` and so on where there is a curve.
        """
        path = home_path(path)
        tensors: dict[str, Array] = {"classes": self.classes, "rows": self.rows}
        metadata: dict[str, Any] = {
            "value": "correction",
            "method": self.method,
            "chosen": self.chosen.to_dict(),
            "provenance": self.provenance,
        }
        if self.biases is not None:
            tensors["biases"] = self.biases
        if self.trials is not None:
            tensors |= self.trials.tensors()
            metadata["trials"] = self.trials.to_metadata()
        if self.curve is not None:
            tensors |= self.curve.tensors()
        write_tensors(path, tensors, metadata, overwrite=overwrite, like=like)

    @classmethod
    def load(cls, path: Path) -> Correction:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If the file is damaged or no correction.
        """
        path = home_path(path)
        tensors, metadata = read_tensors(path)
        if metadata.get("value") != "correction":
            raise FileFormatError(
                f"{path} is not a correction",
                got=f"tensors {', '.join(sorted(tensors))}",
                expected=f"a file that {call('train')} wrote",
                todo=f"run {call('train')}",
            )
        form = {"classes": "i R", "rows": "f R D", "biases": "f R"}
        require_arrays(path, tensors, form, optional=("biases",))
        with reading(path, "a correction", todo=f"run {call('train')} again"):
            return cls(
                classes=tensors["classes"],
                rows=tensors["rows"],
                biases=tensors.get("biases"),
                method=typed(str, metadata["method"], "method"),
                chosen=Chosen.from_dict(typed(dict[str, Any], metadata["chosen"], "chosen")),
                trials=_trials(path, tensors, metadata["trials"]) if "trials" in metadata else None,
                curve=Curve.of(tensors),
                provenance=typed(dict[str, Any], metadata.get("provenance") or {}, "provenance"),
            )


def _trials(path: Path, tensors: Mapping[str, Array], records: Any) -> Trials:
    form = {"trial_neighbors": "i T F K", "trial_alphas": "f T F K", "trial_biases": "f T F"}
    own = {"trial_own_rows": "f F D", "trial_own_alphas": "f T F"}
    require_arrays(path, tensors, form | own if own.keys() & tensors.keys() else form)
    trials = Trials.of(tensors, records)
    few = len(tensors["classes"])
    if trials.alphas.shape[:2] != (len(trials), few) or trials.neighbors.min(initial=0) < -1:
        raise ValueError(f"{counted(len(trials), 'trial')} of {few} classes with other arrays")
    return trials
