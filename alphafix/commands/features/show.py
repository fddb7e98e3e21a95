"""What a person sees of features that came from a file or went to one."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.features.merge import MergeResult
from alphafix.commands.features.options import ExportOptions, ImportOptions, MergeOptions
from alphafix.commands.features.work import FeaturesResult
from alphafix.errors import counted
from alphafix.values.display import Table


def import_show(found: FeaturesResult, options: ImportOptions) -> Shown:
    """What was taken, and where it is now."""
    return Shown(str(found.store.folder), [_size(found)])


def export_show(found: FeaturesResult, options: ExportOptions) -> Shown:
    """What was given, and to which file."""
    return Shown(str(found.file), [_size(found)])


def merge_show(found: MergeResult, options: MergeOptions) -> Shown:
    """What became of the parts."""
    rows = [
        [split, f"{found.parts:,}", f"{len(store.shards):,}", f"{len(store):,}"]
        for split, store in found.stores.items()
    ]
    told = Table("Merged features", ["", "parts", "files", "images"], rows)
    return Shown(str(options.run), [told, found.classes.describe()])


def _size(found: FeaturesResult) -> str:
    store = found.store
    return f"{counted(len(store), 'sample')} of {store.width} features, {store.dtype}"
