"""What a person sees of features that came from a file or went to one."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.features.options import ExportOptions, ImportOptions
from alphafix.commands.features.work import FeaturesResult


def import_show(found: FeaturesResult, options: ImportOptions) -> Shown:
    """What was taken, and where it is now."""
    return Shown(str(found.store.folder), [_size(found)])


def export_show(found: FeaturesResult, options: ExportOptions) -> Shown:
    """What was given, and to which file."""
    return Shown(str(found.file), [_size(found)])


def _size(found: FeaturesResult) -> str:
    store = found.store
    return f"{len(store):,} samples of {store.width} features, {store.dtype}"
