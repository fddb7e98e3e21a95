"""What would stop a later stage of a recipe, and can be known before the first is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphafix.commands.options import CommandOptions, extra_of
from alphafix.commands.outputs import require_apart
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.run.task import Task
from alphafix.errors import AlphafixError, InputError, option
from alphafix.reading.boundary import real
from alphafix.remote import is_address
from alphafix.run.artifact import State

# Values of options that name files, and stand for none.
_NO_FILES = ("wordnet",)


def require_ready(tasks: Sequence[Task], *, overwrite: bool, lacking: bool = True) -> None:
    """Raise what a stage would raise only when others were done before it.

    Args:
        tasks: The steps, as they were found.
        overwrite: Whether what is there may be replaced.
        lacking: Whether files that are missing are told too.

    Raises:
        TargetExistsError: If something is where a stage writes, and may not be replaced.
        InputError: If a file that no earlier stage makes is not there or not of a known format,
            or if something cannot be written where a stage is to write it.
    """
    for task, behind, earlier in _to_do(tasks):
        try:
            require_apart(task.options)
            _require_writable(task.options)
            # What it made otherwise is its own, and told of when that is to be replaced.
            may = overwrite or task.overwrite or task.state is State.OTHER
            if (in_the_way := _IN_THE_WAY.get(task.step.stage)) is not None:
                in_the_way(task.options, may, behind, earlier)
            if lacking and behind:  # otherwise it is the first to say so, in its own words
                _require_inputs(task.options, earlier)
        except AlphafixError as error:
            error.stage = task.label
            raise


def doubted(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Steps, with what each lacks that no earlier one makes."""
    found = {task.label: task for task in tasks}
    for task, behind, earlier in _to_do(tasks):
        try:
            if behind and not task.doubt:
                _require_inputs(task.options, earlier)
        except AlphafixError as error:
            found[task.label] = replace(task, doubt=str(error).splitlines()[0])
    return tuple(found.values())


def _to_do(tasks: Sequence[Task]) -> Iterator[tuple[Task, bool, Sequence[Path] | None]]:
    """Each step that is to be done, whether others are done before, and where these write.

    (None for where that is not known.)
    """
    behind, earlier = False, list[Path]()
    known = True
    for task in tasks:
        if task.state in (State.CURRENT, State.UNFINISHED):
            continue
        yield task, behind, earlier if known else None
        behind = behind or task.command.feeds
        named = [getattr(task.options, name) for name in task.options.outputs()]
        known = known and (task.step.stage not in ("make-lt", "import") or named[0] is not None)
        earlier += [place for place in (task.options.place, *named) if place is not None]
        if isinstance(task.options, PatchOptions):
            with suppress(InputError):
                earlier.append(_target(task.options))


def _require_inputs(options: CommandOptions, earlier: Sequence[Path] | None) -> None:
    """Check that what a step reads is there, unless an earlier one may make it."""
    if earlier is None:
        return
    for name, path in _read(options):
        if is_address(path) or _lies_in(path, earlier):
            continue
        if name == "file" and isinstance(options, PatchOptions):
            from alphafix.checkpoints import open_checkpoint

            open_checkpoint(path)
        elif not path.exists():
            raise InputError(
                f"{path} is not there",
                expected=f"what {option(name)} names",
                todo="check the path",
            )


def _read(options: CommandOptions) -> Iterator[tuple[str, Path]]:
    """The paths that a step reads, with the options that name them."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if name == "run" or name in options.outputs():
            continue
        metavar = extra_of(field)["metavar"]
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path):
                yield name, one
            elif isinstance(one, str) and metavar in ("FILE", "[SPLIT=]FILE"):
                file = one.partition("=")[2]
                place = file if file and not Path(one).exists() else one
                if place not in _NO_FILES:
                    yield name, Path(place)


def _lies_in(path: Path, places: Sequence[Path]) -> bool:
    return any(real(path).is_relative_to(real(place)) for place in places)


def _require_writable(options: CommandOptions) -> None:
    """Check that what a step writes has a folder, or can be given one."""
    targets = {name: getattr(options, name) for name in options.outputs()}
    if isinstance(options, PatchOptions) and not is_address(options.file):
        with suppress(InputError):
            targets["output"] = _target(options)
    for name, target in targets.items():
        summary = str(target) == os.environ.get("GITHUB_STEP_SUMMARY")  # which is only added to
        if target is None or is_address(target) or summary:
            continue
        is_folder = extra_of(type(options).model_fields[name])["metavar"] == "DIR"
        folder = target if is_folder else target.parent
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        _require_folder(target, folder)


def _require_folder(target: Path, folder: Path) -> None:
    """Check that something can be written in a folder."""
    effective = os.access in os.supports_effective_ids
    if not folder.is_dir():
        got = f"{folder}, which is no folder"
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        got = f"{folder}, where nothing may be written"
    else:
        return
    raise InputError(
        f"cannot write {target}",
        got=got,
        expected="a folder that can be written",
        todo="mend that, or choose another path",
    )


def _target(options: PatchOptions) -> Path:
    """Where a patch writes; the model itself, if it is restored or patched in place."""
    from alphafix.commands.patch.work import target_of

    return options.file if options.revert else target_of(options)


def _patch_in_the_way(
    options: Any, overwrite: bool, behind: bool, earlier: Sequence[Path] | None
) -> None:
    """See `alphafix.commands.patch.work.require_free`."""
    from alphafix.commands.patch.work import require_free

    if earlier is None or not options.file.exists():
        return
    if not (_lies_in(options.file, earlier) or _lies_in(_target(options), earlier)):
        require_free(options, overwrite=overwrite, trained=not behind)


def _page_in_the_way(
    options: Any, overwrite: bool, behind: bool, earlier: Sequence[Path] | None
) -> None:
    from alphafix.commands.report.work import require_free

    require_free(options, overwrite=overwrite)


def _files_in_the_way(
    options: Any, overwrite: bool, behind: bool, earlier: Sequence[Path] | None
) -> None:
    from alphafix.commands.evaluate.work import require_free

    require_free(options, overwrite=overwrite)


def _table_in_the_way(
    options: Any, overwrite: bool, behind: bool, earlier: Sequence[Path] | None
) -> None:
    from alphafix.files import refuse_existing

    if behind and options.csv is not None:
        refuse_existing(options.csv, overwrite=overwrite)


_IN_THE_WAY: dict[str, Callable[[Any, bool, bool, Sequence[Path] | None], None]] = {
    "neighbors": _table_in_the_way,
    "patch": _patch_in_the_way,
    "evaluate": _files_in_the_way,
    "report": _page_in_the_way,
}
