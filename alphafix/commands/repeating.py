"""A command to be given (again), with what the user chose: no line to type forgets an option."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alphafix.commands import COMMANDS
from alphafix.commands.command import Command
from alphafix.commands.options import CommandOptions, Several, StageOptions, extra_of, is_path
from alphafix.errors import AlphafixError, Pairs, on_command_line, spelt
from alphafix.files import read_object
from alphafix.images.labels import whole_number
from alphafix.images.names import SPLITS
from alphafix.images.order import natural_key
from alphafix.reading.boundary import reading, real
from alphafix.remote import as_given, is_address, named
from alphafix.run.artifact import PLAN, recorded_plan
from alphafix.run.directory import (
    CLASSES,
    COMPARISON,
    CORRECTION,
    FEATURES,
    MADE,
    NEIGHBORS,
    REPORT,
    Run,
)
from alphafix.values.classes import ClassTable, Thresholds

# The result of each that says itself how it was made.
RESULTS = {
    "neighbors": NEIGHBORS,
    "train": CORRECTION,
    "evaluate": REPORT,
    "compare": COMPARISON,
}

# Those whose results are described by records, one a target.
_RECORDED = ("patch", "report")

# Options of an evaluation that go with a model file.
_OF_MODEL = ("model", "backbone", "data", "trust_run")

# What is said of a command anew each time.
_ANEW = (*StageOptions.model_fields, "dry_run", "plan", "revert")


def completed(options: CommandOptions) -> Callable[[str, Pairs], Pairs]:
    """What completes the commands that an error of a command names (see `AlphafixError.complete`).

    A command of the same name is given the options of the one at hand; another one those that its
    result in the run directory was made with.
    """
    run = Run(options.run) if isinstance(options, StageOptions) else None

    def complete(name: str, pairs: Pairs) -> Pairs:
        command = COMMANDS[name]
        if isinstance(options, command.options):
            chosen = given(options)
        else:
            chosen = {} if run is None else chosen_before(run, name)
        apart = command.options.ALTERNATIVES
        if any(said in apart for said, _ in pairs):
            chosen = {name: value for name, value in chosen.items() if name not in apart}
        return (*line(command, chosen, pairs, run),)

    return complete


def completed_by_part(folder: Path, run: Path | None) -> Callable[[str, Pairs], Pairs] | None:
    """What completes commands of extraction by how a part, finished or not, says it was made.

    Args:
        folder: The part's folder.
        run: The run directory or address that its job was given, if that is known.

    Returns:
        See `completed`; None where the part does not say it.
    """
    try:
        with reading(folder, "a part of features"):
            chosen = _chosen(COMMANDS["extract"].options, _of_part(Run(folder)))
    except AlphafixError:  # what is damaged is the command's own to tell
        return None
    if not chosen:
        return None

    def complete(name: str, pairs: Pairs) -> Pairs:
        if name != "extract":
            return pairs
        return (*line(COMMANDS[name], chosen, pairs, None if run is None else Run(run)),)

    return complete


def in_words(text: str, options: CommandOptions) -> str:
    """A text of a command, whose marks are completed and spelt for the command line."""
    complete = completed(options)

    def spelling(command: str | None, pairs: Pairs) -> str:
        return on_command_line(command, complete(command, pairs) if command else pairs)

    return spelt(text, spelling)


def line(
    command: Command, chosen: Mapping[str, Any], pairs: Pairs = (), run: Run | None = None
) -> Iterator[tuple[str, str | None]]:
    """All options of a command to be given, in the order of a line to type.

    Args:
        command: The command.
        chosen: What the user chose before, by name.
        pairs: What is to be said in any case, which comes before that.
        run: The run directory that it is given for, which is named unless it is the usual one.
    """
    said = {name for name, _ in pairs}
    fields = command.options.model_fields
    for name, field in fields.items():  # what has to be said, or at least asked for
        if name not in said and (field.is_required() or name in chosen):
            value = chosen.get(name, extra_of(field)["metavar"])
            label = "" if extra_of(field)["argument"] else name
            yield from ((label, word) for word in _words(field, value))
    last = [pair for pair in pairs if pair[0] == "overwrite"]
    yield from (pair for pair in pairs if pair not in last)
    if run is not None and "run" in fields and "run" not in said and not is_usual(run.folder):
        yield "run", as_given(run.folder)
    yield from last


def is_usual(folder: Path) -> bool:
    """Whether a run directory is the one that is meant where none is named."""
    usual = os.environ.get("ALPHAFIX_RUN") or StageOptions.model_fields["run"].default
    return folder == named(str(usual))


def _words(field: Any, value: Any) -> list[str]:
    """The values of a flag, one each time that it is given."""
    several = isinstance(value, (list, tuple))
    places = is_path(field.annotation)
    words = [as_given(Path(one)) if places else str(one) for one in (value if several else [value])]
    return [",".join(words)] if several and Several in field.metadata else words


def given(options: CommandOptions) -> dict[str, Any]:
    """What a user chose in giving a command, by name: all that is not as by default."""
    return _chosen(type(options), options.model_dump(mode="json"))


def chosen_before(run: Run, stage: str) -> dict[str, Any]:
    """What a user chose when the result of a stage was made, by name; {} where nothing says it."""
    try:
        with reading(run.folder, "a run directory"):
            found = _recorded(run, stage)
            return {} if found is None else _chosen(COMMANDS[stage].options, found)
    except AlphafixError:  # what is damaged is the command's own to tell
        return {}


def _chosen(model: type[CommandOptions], values: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, field in model.model_fields.items():
        if name not in values or name in _ANEW:
            continue
        value = values[name]
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        default = list(default) if isinstance(default, tuple) else default
        if value != (str(default) if isinstance(default, Path) else default):
            found[name] = value
    return found


def _recorded(run: Run, stage: str) -> dict[str, Any] | None:
    """The options that the result of a stage says it was made with."""
    if stage == "extract":
        return _of_extraction(run)
    if stage in _RECORDED:
        made = own_patches(run) if stage == "patch" else records(run, stage)
        return _placed_options(run, stage, _options(made[-1])) if made else None
    if stage not in RESULTS or not run.has(RESULTS[stage]):
        return None
    options = _placed_options(run, stage, _options(run.path(RESULTS[stage])))
    if stage == "train":
        return _unresolved(options, "device")
    if stage == "evaluate":  # where versions up to 0.2 wrote those of model files too
        return {name: value for name, value in options.items() if name not in _OF_MODEL}
    return options


def _options(path: Path) -> dict[str, Any]:
    return dict(recorded_plan(path).get("options") or {})


def records(run: Run, command: str) -> list[Path]:
    """The records of what a command made, the latest last."""
    found = run.path(MADE).glob(f"{command}*.json")
    return sorted(found, key=lambda made: made.stat().st_mtime_ns)


def own_patches(run: Run) -> list[Path]:
    """Records of models that are there, patched with corrections of the run, the latest last."""

    def is_own(options: Mapping[str, Any]) -> bool:
        if options.get("apply") or options.get("correction"):
            return False
        model = placed(run, options["file"])
        return is_address(model) or model.exists()

    return [made for made in records(run, "patch") if is_own(_options(made))]


def _placed_options(run: Run, command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded options, with paths that are as seen from the run directory as a user names them."""
    model = COMMANDS[command].options
    found = dict(options)
    for name, value in options.items():
        if not isinstance(value, str) or name not in model.model_fields:
            continue
        text = name in model.files() and placed(run, value).exists()
        if text or is_path(model.model_fields[name].annotation):
            found[name] = str(placed(run, value))
    return found


def placed(run: Run, place: str) -> Path:
    """A path that is recorded as seen from the run directory, or an address, as a user names it."""
    if is_address(place):
        return Path(place)
    written = os.path.normpath if run.folder.is_absolute() else os.path.relpath
    return Path(written(real(run.folder) / place))


def _of_extraction(run: Run) -> dict[str, Any] | None:
    """Options of the features that are there, of any split, and how its labels were read."""
    for split in ("train", "val", "test", "open"):
        path = run.path(run.manifest(split))
        plan = recorded_plan(path) if path.is_file() else {}
        if plan.get("stage") != "extract":
            continue
        return _as_given(run, plan, read_object(path))
    return None


def _of_part(part: Run) -> dict[str, Any]:
    """Options of a part by its own folder, and the splits that it is of; {} if it does not say."""
    from alphafix.features.parts import PART
    from alphafix.features.store import PARTIAL

    splits = [place.name for place in part.path(FEATURES).glob("*/")]
    for split in splits:
        end, begun = part.features(split) / PART, part.features(split) / PARTIAL / PLAN
        said = read_object(end) if end.is_file() else {}
        plan = recorded_plan(end) if said else read_object(begun) if begun.is_file() else {}
        if plan.get("stage") == "extract":
            found = _as_given(part, plan, dict(said.get("info") or {}))
            found["split"] = ",".join(split for split in SPLITS if split in splits)
            return {**found, **_thresholds(part)}
    return {}


def _thresholds(part: Run) -> dict[str, int]:
    """Where the splits of classes end, as far as that was said."""
    if not part.has(CLASSES):
        return {}
    usual, own = Thresholds(), ClassTable.load(part.path(CLASSES)).thresholds
    found = {"few_below": own.few} if own.few != usual.few else {}
    return found | ({"many_above": own.many} if own.many != usual.many else {})


def _as_given(run: Run, plan: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an extraction by its plan, with the paths of which the name alone is recorded."""
    from alphafix.models.loading import FILES  # which imports torch

    options = _unresolved(dict(plan.get("options") or {}), "precision", "decode")
    options.pop("split", None)  # each has its own
    kind, _, name = str(options.get("backbone", "")).partition(":")
    if kind in FILES:
        options["backbone"] = f"{kind}:{lies_at(run, name) or name}"
    if options.get("weights") is not None:
        options["weights"] = str(lies_at(run, options["weights"]) or options["weights"])
    return {**options, **_labels(run, manifest)}


def _labels(run: Run, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of classes, as far as it can make a difference."""
    if not run.has(CLASSES):
        return {}
    classes = ClassTable.load(run.path(CLASSES))
    order: str = classes.labels.get("order", "")
    found: dict[str, Any] = {}
    if Path(order).is_file():
        return {"class_map": order}
    names = classes.names
    if sorted(names) != sorted(names, key=natural_key):
        how = next(
            (one for one in ("string", "natural") if order.endswith(f"in {one} order")), None
        )
        found |= {} if how is None else {"class_order": how}
    value = ((manifest.get("labels") or {}).get("example") or [""])[0]
    if whole_number(str(value)) is not None:  # names of classes, or class ids
        found["label_kind"] = classes.labels.get("read_as")
    return found


def lies_at(run: Run, name: str) -> Path | None:
    """Where a file or folder is likely to lie of which the name alone is recorded."""
    places = (Path(name), run.folder / name, run.folder.parent / name)
    return next((place for place in places if place.exists()), None)


def _unresolved(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Options without those of which "auto" means the same here."""
    from alphafix.devices import Placement
    from alphafix.images.encoded import choose_decoder

    here = Placement.choose("auto", "auto")
    rotated = bool(options.get("exif_rotate"))
    auto = {
        "device": here.device.type,
        "precision": here.precision,
        "decode": choose_decoder("auto", here.device, exif_rotate=rotated),
    }
    return {
        name: value for name, value in options.items() if name not in names or value != auto[name]
    }
