"""Carrying out a plan into copies beside the original."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.splices import Splice, in_order
from alphafix.checkpoints.patch.planning import PatchPlan
from alphafix.checkpoints.patch.writing import VerificationError, Verify, fill_copy, is_copy
from alphafix.errors import InputError, option
from alphafix.files import atomic_paths, refuse_existing, settle
from alphafix.progress import Progress, silent
from alphafix.reading.boundary import real


@dataclass(frozen=True)
class Copy:
    """One file to write.

    Attributes:
        source: The original.
        target: The copy.
        splices: What differs between them.
    """

    source: Path
    target: Path
    splices: tuple[Splice, ...] = ()


def alphafix_name(path: Path) -> Path:
    """``model.safetensors`` -> ``model.alphafix.safetensors``.

    For Hugging Face models that is the name of the variant "alphafix", which
    ``from_pretrained(folder, variant="alphafix")`` loads.
    """
    return path.with_name(f"{path.stem}.alphafix{path.suffix}")


def copy_target(main: Path, output: Path | None) -> Path:
    """Where a copy goes: a file, or a folder to write into; by default `alphafix_name`.

    Raises:
        InputError: If that is the original.
    """
    target = output or alphafix_name(main)
    if target.is_dir() or (not target.suffix and main.suffix):
        target = target / main.name
    if real(target) == real(main):
        raise InputError(
            f"{target} is the original",
            expected="another path, so that the original stays",
            todo=f"leave out {option('output')}, or give {option('in_place', True)} to change the "
            "original (it can be restored)",
        )
    return target


def plan_copies(plan: PatchPlan, target: Path, provenance: Mapping[str, Any] | None) -> list[Copy]:
    """Return the files to write, that of the target's name last.

    In the folder of the original only the files that change are written, under new names,
    and the index (or graph) that names them; into another folder all files go, with their own
    names, and those that readers of the format need beside them.

    Args:
        plan: What changes.
        target: The file to write (see `copy_target`).
        provenance: How the rows were made, or None to leave the metadata alone.
    """
    checkpoint, main = plan.checkpoint, plan.checkpoint.path
    note = None if provenance is None else json.dumps(provenance, sort_keys=True, allow_nan=False)
    sealed = checkpoint.format.seal(checkpoint, plan.splices(), note)
    others = [file for file in checkpoint.files if file != main]
    own = sealed.get(main, ())
    if real(target.parent) != real(main.parent):
        beside = [main.with_name(name) for name in checkpoint.format.companions]
        others += [file for file in beside if file.is_file()]
        copies = [Copy(f, target.with_name(f.name), sealed.get(f, ())) for f in others]
        return [*copies, Copy(main, target, own)]
    names = {file.name: _part_name(file, main, target) for file in others if file in sealed}
    copies = [
        Copy(file, target.with_name(names[file.name]), sealed[file])
        for file in others
        if file.name in names
    ]
    if names:
        own = in_order((*own, *checkpoint.format.renaming(checkpoint, names)))
    return [*copies, Copy(main, target, own)]


def _part_name(file: Path, main: Path, target: Path) -> str:
    """A new name for a changed part of a model, beside the original part."""
    if file.name.startswith(main.name):  # model.onnx.data goes with model.onnx
        return target.name + file.name.removeprefix(main.name)
    return alphafix_name(file).name


def write_copies(
    plan: PatchPlan,
    copies: list[Copy],
    *,
    overwrite: bool = False,
    verify: Verify = "full",
    progress: Progress = silent,
) -> None:
    """Write and verify the copies; all get their names once all are whole, the target last.

    What is there already just as it would be written, because a command was killed, stays.

    Raises:
        TargetExistsError: If one is there already and ``overwrite`` is false.
        InputError: If a folder cannot be written or the disk is full.
        VerificationError: If what was written is not what was to be written.
    """
    todo = []
    for copy in copies:
        if not overwrite and is_copy(copy.source, copy.target, copy.splices):
            settle(copy.target)
        else:
            refuse_existing(copy.target, overwrite=overwrite)
            todo.append(copy)
    if not todo:
        return
    targets, sources = [copy.target for copy in todo], [copy.source for copy in todo]
    main = copies[-1] if copies[-1] in todo else None
    check = None if main is None else partial(_check_listing, plan.checkpoint, main.target.parent)
    with atomic_paths(targets, overwrite=overwrite, like=sources, check=check) as drafts:
        for copy, draft in zip(todo, drafts, strict=True):
            kept = copy.source.stat().st_size - sum(splice.length for splice in copy.splices)
            with progress(f"writing {copy.target.name}", kept) as advance:
                fill_copy(copy.source, draft, copy.splices, verify=verify, advance=advance)


def _check_listing(original: Checkpoint, folder: Path, written: Path) -> None:
    """Open what was written as any reader would, and compare what it holds."""
    found = original.format.open(written, section=original.section, folder=folder)
    expected = [(t.name, t.dtype, t.shape) for t in original.tensors]
    if [(t.name, t.dtype, t.shape) for t in found.tensors] != expected:
        raise VerificationError(
            f"what was written for {original.path} does not hold the same tensors",
            got=f"{len(found.tensors)} tensors",
            expected=f"the {len(expected)} of the original, in their order",
            todo="nothing was changed; this is a fault of alphafix, please report it",
        )
