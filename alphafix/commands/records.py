"""How a command's files were made, where they cannot say so themselves: a record in the run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphafix.commands.options import CommandOptions, FeatureStageOptions, StageOptions
from alphafix.files import fingerprint
from alphafix.reading.boundary import reading, real
from alphafix.reading.schema import typed
from alphafix.run.artifact import Artifact, recorded_plan
from alphafix.run.directory import FEATURES, Provenance, Run


def record_of(
    run: Run,
    command: str,
    options: CommandOptions,
    *inputs: str,
    what: object = None,
    made: Collection[str] = (),
    read: Iterable[Path] = (),
    of: Path | None = None,
    versioned: bool = True,
) -> Artifact:
    """The record of what a command makes, as it would be made now.

    Args:
        run: The run directory, which holds the record.
        command: Name of the command.
        options: Its options; files that they name are inputs too.
        *inputs: Results of the run that it reads, or `FEATURES` for those of all splits.
        what: What tells its results apart, like the place of a target (`Run.place_of`).
        made: Options that name no input although they name no output alone.
        read: What else it reads.
        of: What the user knows its results by (see `Artifact`).
        versioned: Whether other versions of the packages would make something else.
    """
    read = [*read, *(run.path(name) for name in inputs if name != FEATURES)]
    if FEATURES in inputs:
        read += sorted(run.path(FEATURES).glob("*/manifest.json"))
    hashes = {
        run.place_of(file): fingerprint(file)
        for file in [*read, *options.inputs(but=made)]
        if file.is_file()
    }
    kind = FeatureStageOptions if isinstance(options, FeatureStageOptions) else StageOptions
    recorded = placed(run, options, options.model_dump(mode="json", exclude=set(kind.model_fields)))
    plan = Provenance(command, recorded, hashes)
    if not versioned:
        plan = replace(plan, versions={})
    return Artifact(run.record(command, what), plan.to_dict(), of=of)


def is_stale(run: Run, record: Path, *read: str) -> bool:
    """Whether files were made from others than those that are there now.

    Args:
        run: The run directory, which holds the record.
        record: Their record (see `record_of`).
        read: Results of the run that are read where they are there, as they may be since.

    Raises:
        FileFormatError: If the record is damaged.
    """
    with reading(record, "a record of files", todo="make them again"):
        inputs = typed(dict[str, str], recorded_plan(record).get("inputs", {}), "inputs")
    # Whether files elsewhere are others now is for those to tell that fetch them.
    recorded = {place: found for place, found in inputs.items() if "://" not in place}
    folder = real(run.folder)
    now = {place: folder / place for place in recorded}
    now |= {run.place_of(run.path(name)): run.path(name) for name in read if run.has(name)}
    return recorded != {p: fingerprint(file) for p, file in now.items() if file.is_file()}


def placed(run: Run, options: CommandOptions, recorded: dict[str, Any]) -> dict[str, Any]:
    """Recorded options, with every path as seen from the run directory, however it was named.

    Args:
        run: The run directory.
        options: The options.
        recorded: Those of them that are recorded, as JSON data.
    """
    found = dict(recorded)
    for name, value in recorded.items():
        given = getattr(options, name)
        text = isinstance(given, str) and name in options.files() and Path(given).exists()
        if isinstance(given, Path) or text:
            found[name] = run.place_of(Path(value))
    return found
