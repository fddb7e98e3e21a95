"""What a person sees of an extraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphafix.commands.command import Shown
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.part import PartResult
from alphafix.commands.extract.work import ExtractResult
from alphafix.errors import counted
from alphafix.remote import as_given
from alphafix.values.display import Table

# What of a transform's record is worth a line; libraries' names for the same things.
_TRANSFORM = (
    *("input_size", "resize", "size", "crop_size", "crop_pct", "interpolation", "resample"),
    *("mean", "std", "image_mean", "image_std", "rescale_factor"),
)


def show(found: ExtractResult | PartResult, options: ExtractOptions) -> Shown:
    """What a person sees of all features, or of one part of them."""
    return _part(found) if isinstance(found, PartResult) else _whole(found, options)


def _part(found: PartResult) -> Shown:
    rows = [
        [split, f"{found.shards[split]:,}", f"{count:,}", f"{found.skipped[split]:,}"]
        for split, count in found.samples.items()
    ]
    title = f"Part {found.division.index} of {found.division.count}"
    return Shown(as_given(found.folder), [Table(title, ["", "files", "images", "left out"], rows)])


def _whole(found: ExtractResult, options: ExtractOptions) -> Shown:
    """How labels were read, classes and images of each split, the base head, what was left out."""
    rows = [
        [name, *(f"{n:,}" for n in sizes.values())] for name, sizes in found.class_sizes().items()
    ]
    told: list[Table | str] = [
        *([_labels(found)] if any(found.labels.values()) else []),
        Table("Classes and images", ["", "classes", *found.samples], rows),
        found.classes.describe(),
        *([_base(found)] if found.base else []),
        f"transform: {_transform(found.transform)}",
    ]
    told += [
        f"{counted(count, 'image')} of {split} left out: see features/{split}/skipped.txt"
        for split, count in found.skipped.items()
        if count
    ]
    told += [
        f"{counted(count, 'image')} of {split} with more than 8 bits a channel (modes I, F and "
        "I;16): values were cut to 0..255, as torchvision and timm do in training; convert them if "
        "yours did otherwise"
        for split, count in found.cut.items()
        if count
    ]
    return Shown(str(options.run), told)


def _labels(found: ExtractResult) -> Table:
    rows = []
    for split, one in found.labels.items():
        value, number = one.get("example") or ("", None)
        example = "" if number is None else f"{value} = {number} ({found.classes.names[number]})"
        rows.append(
            [split, one["images"], one.get("labels", "none"), one.get("read_as", ""), example]
        )
    order = found.classes.labels.get("order", "")
    return Table(
        f"How labels were read (order of classes: {order})",
        ["", "from", "labels", "read as", "for example"],
        rows,
        left=(1, 2, 3, 4),
    )


def _base(found: ExtractResult) -> Table:
    by_split = found.base_accuracy()
    names = next(iter(by_split.values())).keys()
    rows = [[name, *(_percent(values[name]) for values in by_split.values())] for name in names]
    return Table("Base accuracy (%)", ["", *by_split], rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _transform(record: Mapping[str, Any]) -> str:
    parts = [f"{name} {record[name]}" for name in _TRANSFORM if record.get(name) is not None]
    return ", ".join([*parts, f"from {record['origin']}"] if "origin" in record else parts)
