"""The values that any correction is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

from alphafix.errors import InputError
from alphafix.features.features import Features
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours


@dataclass(frozen=True)
class Given:
    """What the user gives.

    Attributes:
        train: Training features and labels.
        val: Validation features and labels, on which epochs and settings are chosen, or None.
        head: The head to correct.
        classes: The class table.
        neighbours: The neighbours of its few-split classes.
    """

    train: Features
    val: Features | None
    head: Head
    classes: ClassTable
    neighbours: Neighbours

    def check(self) -> None:
        """Check that all fit together, and that there is something to correct.

        Raises:
            InputError: If not.
        """
        train, val = self.train, self.val
        self.classes.require_correctable()
        self.head.require_match(width=train.width, num_classes=train.num_classes)
        train.require_labels()
        if val is None:
            return
        val.require_labels()
        if (val.width, val.num_classes) != (train.width, train.num_classes):
            raise InputError(
                "training and validation features do not fit together",
                got=f"val: {val.num_classes} classes, width {val.width}",
                expected=f"train: {train.num_classes} classes, width {train.width}",
                todo="extract both with the same model and class order",
            )
