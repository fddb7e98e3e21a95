"""The stage `alphafix patch`: head, correction and a model file -> a patched model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.checkpoints.opening import open_checkpoint
from alphafix.checkpoints.patching import plan_outputs, write_outputs
from alphafix.checkpoints.plan import Plan, make_plan
from alphafix.correction import Correction
from alphafix.head import Head
from alphafix.options.patch import PatchOptions
from alphafix.progress import Progress, silent
from alphafix.run import CORRECTION, HEAD, Run, versions


@dataclass(frozen=True)
class PatchResult:
    """What was, or would be, written.

    Attributes:
        target: The patched file.
        written: Whether it has been written.
        plan: What changes.
    """

    target: Path
    written: bool
    plan: Plan

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "target": str(self.target),
            "written": self.written,
            "format": self.plan.checkpoint.format,
            "changes": [
                {
                    "tensor": change.tensor.name,
                    "dtype": change.tensor.dtype,
                    "rows": len(self.plan.classes),
                }
                for change in self.plan.changes
            ],
        }


def patch(options: PatchOptions, *, progress: Progress = silent) -> PatchResult:
    """Write the corrected rows of a run into a copy of a model file.

    Raises:
        MissingStageError: If there is no head or no correction yet.
        StaleInputError: If the correction was made from something that has changed since.
        InputError: If the head is not in the file or cannot hold the correction.
        FileFormatError: If the file is damaged.
        TargetExistsError: If the target is there already.
    """
    run = Run(options.run)
    head = Head.load(run.require(HEAD))
    correction = _correction(run, options)
    checkpoint = open_checkpoint(options.file)
    plan = make_plan(
        checkpoint, head, correction, name=options.head, direction_only=options.direction_only
    )
    outputs = plan_outputs(plan, options.output, _provenance(run, options, correction))
    if not options.dry_run:
        write_outputs(
            plan,
            outputs,
            overwrite=options.overwrite,
            verify=options.verify or "full",
            progress=progress,
        )
    return PatchResult(outputs[-1].target, not options.dry_run, plan)


def _correction(run: Run, options: PatchOptions) -> Correction:
    if options.correction is not None:
        return Correction.load(options.correction)
    run.require_fresh(CORRECTION)
    return Correction.load(run.path(CORRECTION))


def _provenance(run: Run, options: PatchOptions, correction: Correction) -> dict[str, Any]:
    return {
        "stage": "patch",
        "options": options.recorded(),
        "inputs": run.hashes(HEAD),
        "versions": versions(),
        "method": correction.method,
        "chosen": correction.chosen,
        "correction": correction.provenance,
    }
