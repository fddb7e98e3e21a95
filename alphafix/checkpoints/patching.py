"""Carrying out a plan into a copy beside the original."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.checkpoints.plan import Plan
from alphafix.checkpoints.splices import Splice, in_order
from alphafix.checkpoints.tensors import Checkpoint
from alphafix.checkpoints.writing import Verify, write_copy
from alphafix.errors import InputError
from alphafix.files import METADATA_KEY, refuse_existing
from alphafix.progress import Progress, silent


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
    splices: tuple[Splice, ...]


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
    if checkpoint.format in ("safetensors", "sharded") and provenance is not None:
        from alphafix.checkpoints.metadata import metadata_splice

        text = json.dumps(provenance, sort_keys=True, ensure_ascii=False, allow_nan=False)
        for file, own in splices.items():
            sealed[file] = in_order((metadata_splice(file, METADATA_KEY, text), *own))
    return sealed


def plan_outputs(plan: Plan, target: Path, provenance: Mapping[str, Any] | None) -> list[Output]:
    """Return the files to write, that of the user's name last.

    Raises:
        InputError: If the target is the original.
    """
    if target.exists() and target.samefile(plan.checkpoint.path):
        raise InputError(
            f"{target} is the original",
            expected="another path, so that the original stays",
            todo="leave out -o, or give --in-place to change the original (it can be restored)",
        )
    sealed = seal(plan.checkpoint, plan.splices(), provenance)
    main = plan.checkpoint.path
    outputs = [
        Output(file, alphafix_name(target.with_name(file.name)), splices)
        for file, splices in sealed.items()
        if file != main
    ]
    return [*outputs, Output(main, target, sealed.get(main, ()))]


def write_outputs(
    plan: Plan,
    outputs: list[Output],
    *,
    overwrite: bool = False,
    verify: Verify = "full",
    progress: Progress = silent,
) -> None:
    """Write and verify the copies; the one of the user's name last.

    Raises:
        TargetExistsError: If one is there already and ``overwrite`` is false.
        InputError: If a folder cannot be written or the disk is full.
        VerificationError: If what was written is not what was to be written.
    """
    for output in outputs:
        refuse_existing(output.target, overwrite=overwrite)
    for output in outputs:
        write_copy(
            output.source,
            output.target,
            output.splices,
            overwrite=overwrite,
            verify=verify,
            progress=progress,
        )
