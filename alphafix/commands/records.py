"""How a command's files were made, where they cannot say so themselves: a record in the run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from alphafix.commands.options import CommandOptions, FeatureStageOptions, StageOptions
from alphafix.files import fingerprint
from alphafix.run.artifact import Artifact
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
        what: What tells its results apart, like the path of a target.
        made: Options that name no input although they name no output alone.
        read: What else it reads.
        of: What the user knows its results by (see `Artifact`).
        versioned: Whether other versions of the packages would make something else.
    """
    read = [*read, *(run.path(name) for name in inputs if name != FEATURES)]
    if FEATURES in inputs:
        read += sorted(run.path(FEATURES).glob("*/manifest.json"))
    hashes = {
        str(file): fingerprint(file)
        for file in [*read, *options.inputs(but=made)]
        if file.is_file()
    }
    kind = FeatureStageOptions if isinstance(options, FeatureStageOptions) else StageOptions
    recorded = options.model_dump(mode="json", exclude=set(kind.model_fields))
    plan = Provenance(command, recorded, hashes)
    if not versioned:
        plan = replace(plan, versions={})
    return Artifact(run.record(command, what), plan.to_dict(), of=of)
