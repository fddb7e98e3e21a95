"""`alphafix patch`: head, correction and a model file -> a patched model file."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from alphafix.checkpoints.formats.opening import file_format, find_file, open_checkpoint
from alphafix.checkpoints.head.sections import section_of
from alphafix.checkpoints.patch.card import model_card
from alphafix.checkpoints.patch.delta import delta_name, load_delta, save_delta
from alphafix.checkpoints.patch.inplace import revert, undo_path, write_in_place
from alphafix.checkpoints.patch.patching import plan_outputs, seal, write_outputs
from alphafix.checkpoints.patch.plan import Plan, make_plan
from alphafix.commands.command import Watch
from alphafix.commands.patch.effect import Effect, measure_effect
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.records import record_of
from alphafix.errors import InputError, StaleInputError, TargetExistsError
from alphafix.files import refuse_existing, sha256_file, write_text
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CORRECTION, FEATURES, HEAD, Run, versions
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)

Action = Literal["copy", "in place", "delta", "dry run", "revert"]


@dataclass(frozen=True)
class PatchResult:
    """What was, or would be, written.

    Attributes:
        action: What was done.
        target: The patched (or restored) file, or the delta.
        plan: What changes; None for a file that was restored.
        effect: Accuracies on validation features, if there are any.
        files: All files that were written.
    """

    action: Action
    target: Path
    plan: Plan | None
    effect: Effect | None
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        changes = () if self.plan is None else self.plan.changes
        return {
            "action": self.action,
            "target": str(self.target),
            "files": [str(file) for file in self.files],
            "format": None if self.plan is None else self.plan.checkpoint.format,
            "changes": [
                {
                    "tensor": change.tensor.name,
                    "dtype": change.tensor.dtype,
                    "shape": list(change.tensor.shape),
                    "rows": len(change.rows),
                    "bytes": change.rows.size * change.tensor.itemsize,
                }
                for change in changes
            ],
            "effect": None if self.effect is None else self.effect.to_dict(),
        }


@dataclass(frozen=True)
class _Work:
    """A plan with what is known of it."""

    plan: Plan
    provenance: dict[str, Any] | None
    effect: Effect | None = None


def work(options: PatchOptions, watch: Watch) -> PatchResult:
    """Write the corrected rows of a run into a model file, or into a copy of it.

    Raises:
        MissingStageError: If there is no head or no correction yet, or nothing to revert.
        StaleInputError: If the correction was made from something that has changed since.
        InputError: If the head is not in the file or cannot hold the correction, or the file
            cannot be written.
        FileFormatError: If the file is damaged.
        TargetExistsError: If the target is there already.
        VerificationError: If what was written is not what was to be written.
    """
    if options.revert:
        return _revert(options)
    progress = watch.progress
    if options.card is not None:
        refuse_existing(options.card, overwrite=options.overwrite)
    _refuse_cut_off(options.file)
    if options.apply is not None:
        made = _from_delta(options.apply, options)
    else:
        made = _from_run(options, progress)
    result = _write(made, options, progress)
    if options.card is not None and not options.dry_run:
        card = model_card(made.plan, result.target.name, made.provenance or {}, _command(options))
        write_text(options.card, card, overwrite=options.overwrite)
        result = replace(result, files=(*result.files, options.card))
    if not options.dry_run and options.run.is_dir():
        _record(options).record(result.files)
    return result


def state(options: PatchOptions) -> State:
    """Whether the files are there as `work` would write them."""
    return _record(options).state


def _record(options: PatchOptions) -> Artifact:
    what = [options.file, options.output]
    return record_of(Run(options.run), "patch", options, FEATURES, HEAD, CORRECTION, what=what)


def _from_run(options: PatchOptions, progress: Progress) -> _Work:
    run = Run(options.run)
    head = Head.load(run.require(HEAD))
    if options.correction is None:
        run.require_fresh(CORRECTION)
    file = options.correction or run.path(CORRECTION)
    correction = Correction.load(file)
    if options.correction is not None:
        _require_same_head(run, file, correction)
    section = section_of(options.head or (head.source.weights[0] if head.source else ""))
    plan = make_plan(
        open_checkpoint(options.file, section=section),
        head,
        correction,
        name=options.head,
        direction_only=options.direction_only,
    )
    effect = None
    if options.measure:
        written = plan.written(correction)
        effect = measure_effect(run, head, correction, written, progress=progress)
    provenance = {
        "stage": "patch",
        "options": options.recorded(),
        "versions": versions(),
        "inputs": {HEAD: sha256_file(run.path(HEAD)), file.name: sha256_file(file)},
        "extracted_from": None
        if head.source is None
        else {"file": head.source.file, "sha256": head.source.sha256},
        "method": correction.method,
        "chosen": correction.chosen.to_dict(),
        "correction": correction.provenance,
        "effect": None if effect is None else effect.to_dict(),
    }
    return _Work(plan, provenance, effect)


def _require_same_head(run: Run, file: Path, correction: Correction) -> None:
    """Check that a correction given as a file was made for this run's head."""
    recorded = dict(correction.provenance.get("inputs") or {}).get(HEAD)
    current = sha256_file(run.path(HEAD))
    if recorded is None:
        logger.warning("%s does not say for which head it was made", file)
    elif recorded != current:
        raise StaleInputError(
            f"{file} was made for another head",
            got=f"{HEAD} {recorded[:12]}",
            expected=f"{HEAD} {current[:12]}, that of {run.folder}",
            todo="name the run directory that it belongs to with --run, or train again",
        )


def _refuse_cut_off(file: Path) -> None:
    """A file with an undo record holds other rows than its head's, or half of them."""
    path = find_file(file)
    if undo_path(path).exists():
        raise TargetExistsError(
            f"{path} has been patched in place, or that was cut off",
            got=f"its undo record {undo_path(path).name}",
            expected="the original",
            todo=f"restore it first: alphafix patch --revert {path}",
        )


def _require_apart(targets: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check, before anything is written, that no target is an input or another target.

    Raises:
        InputError: If one is, whatever --overwrite says.
    """
    taken = {path.resolve(): "read for it" for path in inputs}
    for target in targets:
        place = target.resolve()
        if place in taken:
            raise InputError(
                f"{target} cannot be written by this patch",
                got=f"a file that is {taken[place]}",
                expected="a path of its own for everything that is written",
                todo="give another name",
            )
        taken[place] = "written by it too"


def _inputs(work: _Work, options: PatchOptions) -> list[Path]:
    run = Run(options.run)
    given = [options.apply, options.correction, run.path(HEAD), run.path(CORRECTION)]
    return [*work.plan.checkpoint.files, *(path for path in given if path is not None)]


def _from_delta(delta: Path, options: PatchOptions) -> _Work:
    return _Work(*load_delta(delta, options.file))


def _write(work: _Work, options: PatchOptions, progress: Progress) -> PatchResult:
    plan, provenance = work.plan, work.provenance if options.provenance else None
    main = plan.checkpoint.path
    inputs = _inputs(work, options)
    card = [] if options.card is None else [options.card]
    if options.delta:
        target = options.output or delta_name(main)
        _require_apart([target, *card], inputs)
        if not options.dry_run:
            save_delta(target, plan, provenance, overwrite=options.overwrite)
        return _result("delta", target, work, [target], options)
    if options.in_place:
        # No provenance: metadata has no room to grow where it is. The record has the rest.
        splices = seal(plan.checkpoint, plan.splices(), None)
        _require_apart([*map(undo_path, splices), *card], inputs)
        records = (
            [] if options.dry_run else write_in_place(splices, verify=options.verify or "rows")
        )
        return _result("in place", main, work, [*splices, *records], options)
    outputs = plan_outputs(plan, options.output, provenance)
    _require_apart([*(output.target for output in outputs), *card], inputs)
    if not options.dry_run:
        write_outputs(
            plan,
            outputs,
            overwrite=options.overwrite,
            verify=options.verify or "full",
            progress=progress,
        )
    return _result("copy", outputs[-1].target, work, [o.target for o in outputs], options)


def _result(
    action: Action, target: Path, work: _Work, files: list[Path], options: PatchOptions
) -> PatchResult:
    action = "dry run" if options.dry_run else action
    return PatchResult(action, target, work.plan, work.effect, tuple(files))


def _revert(options: PatchOptions) -> PatchResult:
    path = find_file(options.file)
    several = file_format(path) in ("sharded", "onnx")
    files = open_checkpoint(path).files if several else (path,)
    return PatchResult("revert", path, None, None, tuple(revert(files)))


def _command(options: PatchOptions) -> str:
    """The command line of these options."""
    words = ["alphafix", "patch", options.file.name]
    for name, value in options.model_dump(mode="json", exclude_defaults=True).items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is False:
            words.append(f"--no-{flag[2:]}")
        elif name != "file":
            words += [flag, Path(value).name if name in _PATHS else str(value)]
    return shlex.join(words)


# A card is published: it names files, not the folders of the machine that made it.
_PATHS = ("output", "correction", "apply", "card", "run")
