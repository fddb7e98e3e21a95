"""The card of a patched model: what the run directory says of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alphafix.checkpoints.patch.planning import PatchPlan
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import measure
from alphafix.commands.options import CommandOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.metrics.evaluation import Evaluation
from alphafix.progress import Progress
from alphafix.report.card import CardOf, Origin, model_card
from alphafix.run.artifact import recorded_plan
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, REPORT, Run

# A card is published: it names files, not the folders of the machine that made it.
_PATHS = ("file", "output", "correction", "apply", "card", "run")


def card_of(
    options: PatchOptions,
    plan: PatchPlan,
    target: str,
    provenance: Mapping[str, Any],
    progress: Progress,
) -> str:
    """The card as Markdown.

    Args:
        options: The options of the patch.
        plan: What it changes.
        target: Name of the patched file.
        provenance: How it was made.
        progress: Told of samples and draws, if the correction is measured on validation first.

    Raises:
        InputError: If features, head and correction do not fit together.
        FileFormatError: If a result of the run directory is damaged.
    """
    run = Run(options.run)
    own = set(dict(provenance.get("inputs") or {}).values())
    evaluation = _evaluation(options, run, own, progress)
    origin = Origin(base_model=options.base_model)
    if run.has(HEAD) and run.hashes(HEAD)[HEAD] in own:
        on = "test" if evaluation is None else evaluation.on
        backbone, data = _said(run, HEAD, "backbone"), _said(run, run.manifest(on), "data")
        origin = Origin(backbone, data, options.base_model)
    commands = tuple(_commands(options, provenance))
    return model_card(CardOf(plan, target, provenance, origin, evaluation, commands))


def _evaluation(
    options: PatchOptions, run: Run, own: set[str], progress: Progress
) -> Evaluation | None:
    """The run's evaluation if it is of this correction, else one on validation features.

    Args:
        options: The options of the patch.
        run: The run directory, if it is one.
        own: Hashes of what the correction was made from, and of itself.
        progress: Told of samples and draws.
    """
    if run.has(REPORT):
        found = Evaluation.load(run.path(REPORT))
        inputs = dict(found.provenance.get("inputs") or {})
        of_file = dict(found.provenance.get("options") or {}).get("model")
        if of_file is None and {inputs.get(HEAD), inputs.get(CORRECTION)} <= own:
            return found
    there = all(run.has(name) for name in (CLASSES, HEAD, CORRECTION, run.manifest("val")))
    if not (options.measure and there and run.hashes(CORRECTION)[CORRECTION] in own):
        return None
    return measure(EvaluateOptions(run=options.run, on="val"), progress=progress).evaluation


def _said(run: Run, name: str, option: str) -> str | None:
    """What the result ``name`` says of an option of the command that made it."""
    if not run.has(name):
        return None
    value = dict(recorded_plan(run.path(name)).get("options") or {}).get(option)
    return None if value is None else str(value)


def _commands(options: PatchOptions, provenance: Mapping[str, Any]) -> Iterator[str]:
    """The command lines that train and patch."""
    trained = dict(provenance.get("correction") or {})
    if trained.get("stage") == "train":
        recorded = {**dict(trained.get("options") or {}), "run": str(options.run)}
        yield _line("train", TrainOptions, recorded)
    given = options.model_dump(mode="json", exclude={"overwrite", "wait"})
    yield _line("patch", PatchOptions, given)


def _line(command: str, model: type[CommandOptions], values: Mapping[str, Any]) -> str:
    """The command line of options as they are recorded, of paths the last part alone."""
    defaults = model.model_construct().model_dump(mode="json")
    arguments, flags = [], []
    for name, field in model.model_fields.items():
        value = values.get(name, defaults.get(name))
        if value == defaults.get(name):
            continue
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        names = extra["flags"] or [f"--{name.replace('_', '-')}"]
        flag = str(names[-1]) if isinstance(names, list) else ""
        shown = Path(value).name if name in _PATHS else value
        if extra["argument"]:
            arguments.append(str(shown))
        elif isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        else:
            flags += [flag, ",".join(map(str, shown)) if isinstance(shown, list) else str(shown)]
    return shlex.join(["alphafix", command, *arguments, *flags])
