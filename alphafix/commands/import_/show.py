"""What a person sees of an import."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.import_.options import ForeignOptions
from alphafix.commands.import_.work import ImportResult


def show(found: ImportResult, options: ForeignOptions) -> Shown:
    """What was made, and what to do with it."""
    told = [] if found.classes is None else [found.classes.describe()]
    told += [
        f"top-1 of the head on {split}: {value:.1f}%"
        for split, value in (found.accuracy or {}).items()
    ]
    if found.model is not None and found.run is not None:
        told.append(f"the model in plain form: {found.model}")
    if found.kind == "oltr" and found.model is not None:
        told.append(f"use it with: alphafix extract --backbone oltr:{found.model.parent}")
    return Shown(str(found.run or found.model), told)
