"""What a person sees of a model file."""

from __future__ import annotations

import shlex

from alphafix.checkpoints.head.inspection import Inspection
from alphafix.commands.command import Shown
from alphafix.commands.inspect.options import InspectOptions
from alphafix.errors import counted, some
from alphafix.remote import as_given
from alphafix.report.cells import number
from alphafix.shown import in_list
from alphafix.values.display import Table


def show(found: Inspection, options: InspectOptions) -> Shown:
    """The layers that could be the head; the name of the one that must be it."""
    told: list[Table | str] = [_table(found), *_class_names(found)]
    if found.head is None:
        return Shown("", [*told, f"no head taken: {found.why}"])
    return Shown(found.head.name, told)


def _class_names(found: Inspection) -> list[str]:
    """Which class names the file holds, and how they are used."""
    there, names = found.class_names, found.own_names
    where = " and ".join(there)
    if names is None:
        several = f"{where} hold different class names: which are in the order of the logits?"
        return [several] if there else []
    file = shlex.quote(as_given(found.checkpoint.path))
    return [
        f"{counted(len(names), 'class name')} in {where} ({some(map(in_list, names), 3)}): "
        f"`alphafix inspect {file} --json > classes.json` writes them to a file, and "
        "`alphafix extract ... --class-map classes.json` reads labels in their order"
    ]


def _table(found: Inspection) -> Table:
    checkpoint = found.checkpoint
    tiers = list(found.shown[0].norms) if found.shown else ["overall"]
    title = f"{checkpoint.path.name}: {checkpoint.format.name}, {len(checkpoint.tensors)} tensors"
    if found.others:
        more = f"{len(found.shown)} of {len(found.shown) + found.others} layers"
        title += f"; {more} (--all shows all)"
    rows = [
        [
            ("-> " if item.candidate == found.head else "   ") + item.candidate.name,
            item.candidate.source.kind,
            f"{item.candidate.num_classes} x {item.candidate.width}",
            item.candidate.dtype,
            "yes" if item.candidate.source.biases else "no",
            *(number(item.norms.get(tier), ".4g") for tier in tiers),
        ]
        for item in found.shown
    ]
    columns = ["layer", "kind", "C x D", "dtype", "bias", *(f"norm {tier}" for tier in tiers)]
    return Table(title, columns, rows)
