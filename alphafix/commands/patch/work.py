"""`alphafix patch`: head, correction and a model file -> a patched model file."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from alphafix.checkpoints import find_head
from alphafix.checkpoints.formats.opening import files_of, find_file
from alphafix.checkpoints.patch.copies import plan_copies
from alphafix.checkpoints.patch.delta import load_delta
from alphafix.checkpoints.patch.inplace import (
    condition,
    is_patched,
    refuse_patched,
    require_changeable,
    revert,
    take_back_unfinished,
)
from alphafix.checkpoints.patch.patching import Action, Way, carry_out
from alphafix.checkpoints.patch.planning import PatchPlan, make_plan
from alphafix.checkpoints.patch.writing import is_copy
from alphafix.commands.command import Watch
from alphafix.commands.patch.card import card_of
from alphafix.commands.patch.effect import Effect, measure_effect
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.records import record_of
from alphafix.errors import Interruption, StaleInputError, call, option
from alphafix.files import digest, flush, holds, refuse_existing, sha256_file, write_files
from alphafix.locks import all_locked
from alphafix.progress import Progress
from alphafix.run.artifact import Artifact, State, read_outputs
from alphafix.run.directory import CORRECTION, FEATURES, HEAD, REPORT, Run, versions
from alphafix.values.arrays import FloatArray
from alphafix.values.correction import Correction
from alphafix.values.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchResult:
    """What was, or would be, written.

    Attributes:
        action: What was done.
        target: The patched (or restored) file, or the delta.
        plan: What changes; None for a file that was restored, or is up to date.
        effect: Accuracies on validation features, if there are any.
        files: All files that were, or would be, written.
        kept_because: Why the base model is what is written, if it is; None where rows change.
    """

    action: Action | Literal["dry run", "revert", "up to date"]
    target: Path
    plan: PatchPlan | None = None
    effect: Effect | None = None
    files: tuple[Path, ...] = ()
    kept_because: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        changes = () if self.plan is None else self.plan.changes
        return {
            "action": self.action,
            "target": str(self.target),
            "files": [str(file) for file in self.files],
            "format": None if self.plan is None else self.plan.checkpoint.format.name,
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
            **({} if self.kept_because is None else {"kept_because": self.kept_because}),
        }


def work(options: PatchOptions, watch: Watch) -> PatchResult:
    """Write the corrected rows of a run into a model file, or into a copy of it.

    Raises:
        MissingStageError: If there is no head or no correction yet, or nothing to revert.
        StaleInputError: If the correction was made from something that has changed since.
        InputError: If the head is not in the file or cannot hold the correction, or the file
            cannot be written.
        FileFormatError: If the file is damaged.
        TargetExistsError: If the target is there already, and not as it would be made.
        VerificationError: If what was written is not what was to be written.
    """
    with _alone_with_model(options, watch) as files:
        if options.revert:
            return _revert(options, files)
        if options.apply is None and options.correction is None:
            Run(options.run).require(HEAD)
            Run(options.run).require_fresh(CORRECTION)
        if not options.overwrite and not options.dry_run and state(options) is State.CURRENT:
            return _up_to_date(options, watch)
        made_by = digest(_record(options).plan)
        _require_original(options, files, made_by)
        plan, provenance, effect = _planned(options, watch)
        result = _carried_out(options, plan, provenance, effect, made_by, watch)
        result = replace(result, kept_because=_kept_because(provenance))
        if options.run.is_dir() and result.plan is not None and not options.dry_run:
            changed = result.plan.checkpoint.files if options.in_place else ()
            _record(options).record(file for file in result.files if file not in changed)
        return result


def _kept_because(provenance: dict[str, Any] | None) -> str | None:
    """Why a correction is the base model, if it is."""
    why = dict((provenance or {}).get("chosen") or {}).get("base")
    return None if why is None else str(why)


def patch_values(
    options: PatchOptions, head: Head | None, correction: Correction, watch: Watch
) -> PatchResult:
    """As `work`, with a correction and its head that are in no run directory.

    Args:
        options: The options.
        head: The head that the correction was made for, or None for the one in the file.
        correction: The correction.
        watch: Who is told.

    Raises:
        InputError, FileFormatError, TargetExistsError, VerificationError: As `work`.
    """
    with _alone_with_model(options, watch) as files:
        if options.revert:
            return _revert(options, files)
        made_by = digest([options.recorded(), *map(_content, (correction.rows, correction.biases))])
        _require_original(options, files, made_by)
        own = find_head(options.file, name=options.head) if head is None else head
        provenance = _provenance(options, own, correction, {}, None)
        plan = _plan(options, own, correction)
        result = _carried_out(options, plan, provenance, None, made_by, watch)
        return replace(result, kept_because=correction.kept_because)


def _content(values: FloatArray | None) -> str:
    return "" if values is None else hashlib.sha256(values.tobytes()).hexdigest()


@contextlib.contextmanager
def _alone_with_model(options: PatchOptions, watch: Watch) -> Iterator[tuple[Path, ...]]:
    """Hold the locks of the model's files; what an interruption says of them is true."""
    with all_locked([find_file(options.file)], wait=options.wait, say=watch.say):
        files = files_of(options.file)
        try:
            with all_locked(files, wait=options.wait, say=watch.say):
                yield files
        except KeyboardInterrupt:
            if options.in_place or options.revert:
                raise Interruption(condition(files)) from None
            raise


def _require_original(options: PatchOptions, files: Sequence[Path], made_by: str) -> None:
    """Refuse a model that is patched; finish what a command like this one has left."""
    if not options.in_place or options.dry_run:
        for file in files:
            refuse_patched(file)
    elif take_back_unfinished(files, made_by):
        logger.warning("%s: a patch by the same command is taken back first", options.file)


def _carried_out(
    options: PatchOptions,
    plan: PatchPlan,
    provenance: dict[str, Any] | None,
    effect: Effect | None,
    made_by: str,
    watch: Watch,
) -> PatchResult:
    target, run = target_of(options), Run(options.run)
    read = [options.apply, options.correction, run.path(HEAD), run.path(CORRECTION)]
    card = ""
    if options.card is not None:
        card = card_of(options, plan, target.name, provenance or {}, watch.progress)
        if not holds(options.card, card.encode()):
            refuse_existing(options.card, overwrite=options.overwrite)
    files = carry_out(
        plan,
        _way(options),
        provenance if options.provenance else None,
        read=[path for path in read if path is not None],
        also=() if options.card is None else (options.card,),
        made_by=made_by,
        progress=watch.progress,
    )
    if options.dry_run:
        return PatchResult("dry run", target, plan, effect, files)
    if options.card is not None:
        write_files({options.card: card.encode()}, overwrite=options.overwrite)
        files = (*files, options.card)
    return PatchResult(_way(options).action, target, plan, effect, files)


def _way(options: PatchOptions) -> Way:
    return Way(
        "in place" if options.in_place else "delta" if options.delta else "copy",
        options.output,
        options.overwrite,
        options.verify,
        options.dry_run,
    )


def target_of(options: PatchOptions) -> Path:
    """The file that is, or would be, written.

    Raises:
        InputError: If the model is not there, or a copy would be the original.
    """
    return _way(options).target(options.file)


def require_free(options: PatchOptions, *, overwrite: bool, trained: bool) -> None:
    """Check what can be known of the target before anything is done.

    Args:
        options: The options.
        overwrite: Whether files may be replaced.
        trained: Whether the rows are known: what is there may be what a killed command has left.

    Raises:
        InputError: If the model is not there, or cannot be patched in place.
        TargetExistsError: If the target or the card is there already, or the model is patched.
    """
    files = files_of(options.file)
    if options.revert or (trained and (options.in_place or options.delta)):
        return  # the work itself tells
    if options.in_place:
        if is_patched(files):
            refuse_patched(files[0])
        for file in files:
            require_changeable(file)
    else:
        for file in files:
            refuse_patched(file)
        target = target_of(options)
        if not (trained and target.exists() and _is_left(options, target)):
            refuse_existing(target, overwrite=overwrite)
    if options.card is not None and not trained:
        refuse_existing(options.card, overwrite=overwrite)


def _is_left(options: PatchOptions, target: Path) -> bool:
    """Whether a copy is there just as it would be written."""
    plan, provenance, _ = _planned(options, Watch())
    copies = plan_copies(plan, target, provenance if options.provenance else None)
    return all(is_copy(copy.source, copy.target, copy.splices) for copy in copies)


def state(options: PatchOptions) -> State:
    """Whether the files are there as `work` would write them."""
    if not _recorded_at(options).is_file():
        return State.MISSING  # before anything is hashed
    found = _record(options).state
    if found is State.CURRENT and options.in_place and not is_patched(files_of(options.file)):
        return State.MISSING
    return found


def _recorded_at(options: PatchOptions) -> Path:
    return Run(options.run).record("patch", _what(options))


def _what(options: PatchOptions) -> list[object]:
    run = Run(options.run)
    target = None if options.output is None else run.place_of(options.output)
    return [_way(options).action, run.place_of(options.file), target]


def _record(options: PatchOptions) -> Artifact:
    """How the files are made. A file that is patched in place is no input: it has the result."""
    model = () if options.in_place or not options.file.exists() else files_of(options.file)
    return record_of(
        Run(options.run),
        "patch",
        options,
        *(FEATURES, HEAD, CORRECTION),
        what=_what(options),
        made=("file",),
        read=model,
        of=target_of(options) if options.file.exists() else None,
        # The bytes in the file are those of the correction, whatever writes them there.
        versioned=not options.in_place,
    )


def _up_to_date(options: PatchOptions, watch: Watch) -> PatchResult:
    target = target_of(options)
    logger.info("%s is up to date", target)
    files = tuple(read_outputs(_recorded_at(options)))
    _renew_card(options, target, files, watch)
    return PatchResult("up to date", target, files=files)


def _renew_card(options: PatchOptions, target: Path, files: Sequence[Path], watch: Watch) -> None:
    """Write a card again that is ours, if the correction was evaluated since.

    What a file that is patched in place was like before cannot be read any more.
    """
    if options.card is None or options.in_place or not Run(options.run).has(REPORT):
        return
    plan, provenance, _ = _planned(options, watch)
    card = card_of(options, plan, target.name, provenance or {}, watch.progress)
    if not holds(options.card, card.encode()):
        write_files({options.card: card.encode()}, overwrite=True)
        _record(options).record(files)
        logger.info("%s is written anew: the correction was evaluated since", options.card)


def _planned(
    options: PatchOptions, watch: Watch
) -> tuple[PatchPlan, dict[str, Any] | None, Effect | None]:
    """What changes, how it was made, and what it does to accuracy if that is measured."""
    if options.apply is not None:
        return *load_delta(options.apply, options.file), None
    return _from_run(options, watch.progress)


def _from_run(
    options: PatchOptions, progress: Progress
) -> tuple[PatchPlan, dict[str, Any], Effect | None]:
    """The plan of a run's correction, how it was made, and what it does to accuracy."""
    run = Run(options.run)
    head = Head.load(run.require(HEAD))
    file = options.correction or run.path(CORRECTION)
    correction = Correction.load(file)
    if options.correction is not None:
        _require_same_head(run, file, correction)
    if (why := correction.kept_because) is not None:
        logger.warning("nothing is corrected, the base model is kept: %s", why)
    if (broken := correction.chosen.broken_promise) is not None:
        logger.warning("%s", broken)
    plan, effect = _plan(options, head, correction), None
    if options.measure:
        written = plan.written(correction)
        effect = measure_effect(run, head, correction, written, progress=progress)
    inputs = {str(HEAD): sha256_file(run.path(HEAD)), file.name: sha256_file(file)}
    return plan, _provenance(options, head, correction, inputs, effect), effect


def _plan(options: PatchOptions, head: Head, correction: Correction) -> PatchPlan:
    return make_plan(
        options.file, head, correction, name=options.head, direction_only=options.direction_only
    )


def _provenance(
    options: PatchOptions,
    head: Head,
    correction: Correction,
    inputs: dict[str, str],
    effect: Effect | None,
) -> dict[str, Any]:
    return {
        "stage": "patch",
        "options": options.recorded(),
        "versions": versions(),
        "inputs": inputs,
        "extracted_from": None
        if head.source is None
        else {"file": head.source.file, "sha256": head.source.sha256},
        "method": correction.method,
        "chosen": correction.chosen.to_dict(),
        "correction": correction.provenance,
        "effect": None if effect is None else effect.to_dict(),
    }


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
            todo=f"name the run directory that it belongs to with {option('run')}, or do "
            f"{call('train')} again",
        )


def _revert(options: PatchOptions, files: Sequence[Path]) -> PatchResult:
    # First, so that whatever cuts this off, the last thing to go is what restores the original.
    recorded = _recorded_at(options.model_copy(update={"in_place": True}))
    if recorded.is_file():
        recorded.unlink()
        flush(recorded.parent)
    restored = tuple(revert(files))
    return PatchResult("revert", find_file(options.file), files=restored)
