"""Carrying out a plan into copies beside the original."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alphafix.checkpoints.formats.opening import open_format
from alphafix.checkpoints.formats.tensors import Checkpoint
from alphafix.checkpoints.patch.planning import Plan
from alphafix.checkpoints.formats.splices import Splice, in_order
from alphafix.checkpoints.patch.writing import VerificationError, Verify, write_copy
from alphafix.errors import InputError
from alphafix.files import METADATA_KEY, refuse_existing
from alphafix.progress import Progress, silent

# What `from_pretrained` needs beside the weights: copied along into another folder.
COMPANIONS = ("config.json", "generation_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Output:
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


def seal(
    checkpoint: Checkpoint,
    splices: Mapping[Path, tuple[Splice, ...]],
    provenance: Mapping[str, Any] | None,
) -> dict[Path, tuple[Splice, ...]]:
    """Add what else a format needs: an entry in its metadata, checksums.

    Args:
        checkpoint: The file.
        splices: New rows, by file.
        provenance: How they were made, or None to leave the metadata alone.
    """
    sealed = dict(splices)
    note = None if provenance is None else json.dumps(provenance, sort_keys=True, allow_nan=False)
    if checkpoint.format in ("safetensors", "sharded") and note is not None:
        from alphafix.checkpoints.formats.safetensors_metadata import metadata_splice

        for file, own in splices.items():
            sealed[file] = in_order((metadata_splice(file, METADATA_KEY, note), *own))
    elif checkpoint.format in ("torch", "torchscript"):
        from alphafix.checkpoints.formats._archive import checksum_splices, is_archive

        for file, own in splices.items():
            if is_archive(file):  # the older torch files have no checksums
                sealed[file] = in_order((*own, *checksum_splices(file, own)))
    elif checkpoint.format == "onnx" and note is not None:
        from alphafix.checkpoints.formats.onnx_format import metadata_splice as onnx_splice

        own = sealed.get(checkpoint.path, ())
        sealed[checkpoint.path] = (*own, onnx_splice(checkpoint, METADATA_KEY, note))
    return sealed


def plan_outputs(
    plan: Plan, target: Path | None, provenance: Mapping[str, Any] | None
) -> list[Output]:
    """Return the files to write, that of the target's name last.

    In the folder of the original only the files that change are written, under new names,
    and the index (or graph) that names them; into another folder all files go, with their own
    names.

    Args:
        plan: What changes.
        target: The file to write, or a folder to write into; by default `alphafix_name`.
        provenance: See `seal`.

    Raises:
        InputError: If the target is the original.
    """
    checkpoint, main = plan.checkpoint, plan.checkpoint.path
    target = target or alphafix_name(main)
    if target.is_dir() or (not target.suffix and main.suffix):
        target = target / main.name
    if target.resolve() == main.resolve():
        raise InputError(
            f"{target} is the original",
            expected="another path, so that the original stays",
            todo="leave out -o, or give --in-place to change the original (it can be restored)",
        )
    sealed = seal(checkpoint, plan.splices(), provenance)
    others = [file for file in checkpoint.files if file != main]
    own = sealed.get(main, ())
    if target.parent.resolve() != main.parent.resolve():
        copies = [Output(f, target.with_name(f.name), sealed.get(f, ())) for f in others]
        return [*copies, *_companions(checkpoint, target), Output(main, target, own)]
    names = {file.name: _part_name(file, main, target) for file in others if file in sealed}
    copies = [
        Output(file, target.with_name(names[file.name]), sealed[file])
        for file in others
        if file.name in names
    ]
    if names:
        own = in_order((*own, *_renaming(checkpoint, names)))
    return [*copies, Output(main, target, own)]


def _part_name(file: Path, main: Path, target: Path) -> str:
    """A new name for a changed part of a model, beside the original part."""
    if file.name.startswith(main.name):  # model.onnx.data goes with model.onnx
        return target.name + file.name.removeprefix(main.name)
    return alphafix_name(file).name


def _companions(checkpoint: Checkpoint, target: Path) -> list[Output]:
    folder = checkpoint.path.parent
    names = COMPANIONS if checkpoint.format in ("safetensors", "sharded") else ()
    return [
        Output(folder / name, target.with_name(name)) for name in names if (folder / name).is_file()
    ]


def _renaming(checkpoint: Checkpoint, names: Mapping[str, str]) -> list[Splice]:
    if checkpoint.format == "onnx":
        from alphafix.checkpoints.formats.onnx_format import location_splices

        return location_splices(checkpoint.path, names)
    from alphafix.checkpoints.formats.sharded_format import shard_splices

    return shard_splices(checkpoint.path, names)


def write_outputs(
    plan: Plan,
    outputs: list[Output],
    *,
    overwrite: bool = False,
    verify: Verify = "full",
    progress: Progress = silent,
) -> None:
    """Write and verify the copies; the one of the target's name last.

    Raises:
        TargetExistsError: If one is there already and ``overwrite`` is false.
        InputError: If a folder cannot be written or the disk is full.
        VerificationError: If what was written is not what was to be written.
    """
    for output in outputs:
        refuse_existing(output.target, overwrite=overwrite)
    for output in outputs:
        main = output.source == plan.checkpoint.path
        write_copy(
            output.source,
            output.target,
            output.splices,
            overwrite=overwrite,
            verify=verify,
            check=partial(_check_listing, plan.checkpoint) if main else None,
            progress=progress,
        )


def _check_listing(original: Checkpoint, written: Path) -> None:
    """Open what was written as any reader would, and compare what it holds."""
    found = open_format(written, original.format, section=original.section)
    expected = [(t.name, t.dtype, t.shape) for t in original.tensors]
    if [(t.name, t.dtype, t.shape) for t in found.tensors] != expected:
        raise VerificationError(
            f"what was written for {original.path} does not hold the same tensors",
            got=f"{len(found.tensors)} tensors",
            expected=f"the {len(expected)} of the original, in their order",
            todo="nothing was changed; this is a fault of alphafix, please report it",
        )
