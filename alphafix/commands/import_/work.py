"""`alphafix import`: other projects' files -> a run directory, or a plain model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alphafix.checkpoints import find_head, open_checkpoint
from alphafix.checkpoints.head.stored import effective, read_stored
from alphafix.commands.command import Watch
from alphafix.commands.given import given_state, is_given, write_given
from alphafix.commands.import_.options import ForeignOptions
from alphafix.errors import InputError, call, option
from alphafix.features.exchange import read_features
from alphafix.features.features import FeatureArrays
from alphafix.features.store import FeatureStore
from alphafix.files import METADATA_KEY, json_text, read_object, sha256_file, write_files
from alphafix.foreign import alphanet
from alphafix.foreign.arrays import Given, read_head, read_names, split_files
from alphafix.foreign.checkpoints import FINAL, Converted, classifier_balancing, ride
from alphafix.foreign.pickles import read_pickled_features
from alphafix.progress import Progress
from alphafix.reading.boundary import reading
from alphafix.reading.schema import typed
from alphafix.run.artifact import Artifact, Plan, State
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.labels import class_counts

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

Features = dict[str, FeatureArrays]


@dataclass(frozen=True)
class ImportResult:
    """What an import wrote.

    Attributes:
        kind: Where it was from.
        model: The converted model, if one was written.
        run: The run directory, if one was written.
        classes: Its class table.
        accuracy: Top-1 of the head on each of its splits, in percent.
    """

    kind: str
    model: Path | None = None
    run: Path | None = None
    classes: ClassTable | None = None
    accuracy: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "kind": self.kind,
            "model": None if self.model is None else str(self.model),
            "run": None if self.run is None else str(self.run),
            "classes": None if self.classes is None else self.classes.describe(),
            "accuracy": None if self.accuracy is None else dict(self.accuracy),
        }


def work(options: ForeignOptions, watch: Watch) -> ImportResult:
    """Read files of another project and write what the other stages take.

    Raises:
        InputError: If a file is missing, is a pickle and pickles were not allowed, or does not
            fit the others.
        FileFormatError: If a file is damaged, or would run code.
        TargetExistsError: If something else is there already.
    """
    if not options.source.exists():
        raise InputError(
            f"{options.source} is not there", expected="a file or folder", todo="check the path"
        )
    readers: Mapping[str, Callable[[ForeignOptions, Progress], ImportResult]] = {
        "alphanet-official": _alphanet,
        "classifier-balancing": partial(_checkpoint, classifier_balancing),
        "ride": partial(_checkpoint, ride),
        "oltr": _oltr,
        "huggingface": _huggingface,
        "features": _features,
    }
    return readers[options.kind](options, watch.progress)


def state(options: ForeignOptions) -> State:
    """Whether model and run directory are there as `work` would make them."""
    if not options.source.exists():
        return State.MISSING
    found = set()
    if options.kind in _MODELS:
        found.add(_converted(options).state)
    if options.kind not in _MODELS or options.features:
        found.add(given_state(Run(options.run), _plan(options, _files(options))))
    if found == {State.CURRENT}:
        return State.CURRENT
    return State.OTHER if State.OTHER in found else State.MISSING


# Kinds that give a model in plain form.
_MODELS = ("classifier-balancing", "ride", "oltr")


def _files(options: ForeignOptions) -> dict[str, Path]:
    """The files that a run directory is made of, by what they are."""
    source = options.source
    if options.kind == "alphanet-official":
        folder = alphanet.open_folder(source, options.name)
        return {str(file.relative_to(source)): file for file in folder.files}
    if options.kind == "features":
        return {**split_files((str(source),)), "head": _head(options)}
    features = {f"{split} features": file for split, file in split_files(options.features).items()}
    if options.kind == "huggingface":
        model = (_config(options), *open_checkpoint(source).files)
        return {**{file.name: file for file in model}, **features}
    return {"checkpoint": _checkpoint_of(options), **features}


def _config(options: ForeignOptions) -> Path:
    config = options.source / "config.json"
    if not config.is_file():
        raise InputError(f"{options.source} is no saved model", got="no config.json")
    return config


def _checkpoint_of(options: ForeignOptions) -> Path:
    source = options.source / FINAL if options.source.is_dir() else options.source
    if not source.is_file():
        raise InputError(f"{source} is not there", expected="a checkpoint", todo="name the file")
    return source


def _converted(options: ForeignOptions) -> Artifact:
    """The model in plain form, as it would be made now."""
    source = _checkpoint_of(options)
    plan = _plan(options, {"checkpoint": source}).to_dict()
    if options.kind != "oltr":
        return Artifact(options.output or source.with_suffix(".safetensors"), plan)
    from alphafix.oltr.training.folder import CONFIG, MODEL

    folder = options.output or source.with_name(f"{source.stem}-oltr")
    return Artifact(folder / CONFIG, plan, owned=(folder / MODEL,))


def _alphanet(options: ForeignOptions, progress: Progress) -> ImportResult:
    folder = alphanet.open_folder(options.source, options.name)

    def read() -> Given:
        found = alphanet.read_features(folder, allowed=options.allow_pickle)
        head = alphanet.read_head(folder.classifier, scale=options.scale)
        if head.source is not None:
            sha256 = sha256_file(folder.classifier)
            head = replace(head, source=replace(head.source, sha256=sha256))
        labels = found["train"].labels
        counts = class_counts(labels, head.num_classes)
        return Given(head, found, thresholds=alphanet.thresholds_of(folder, counts))

    return _to_run(options, read, progress)


def _features(options: ForeignOptions, progress: Progress) -> ImportResult:
    files = split_files((str(options.source),))

    def read() -> Given:
        found = {split: read_features(file, split=split) for split, file in files.items()}
        return Given(replace(read_head(_head(options)), scale=options.scale), found)

    return _to_run(options, read, progress)


def _head(options: ForeignOptions) -> Path:
    return options.head or Path()  # the options have checked that it is given


def _huggingface(options: ForeignOptions, progress: Progress) -> ImportResult:
    with reading(_config(options), "a config of transformers"):
        labels = typed(
            dict[int, str], read_object(_config(options)).get("id2label") or {}, "id2label"
        )
    names = [labels[key] for key in sorted(labels)]

    def read() -> Given:
        head = find_head(options.source, num_classes=len(names) or None)
        return Given(replace(head, scale=options.scale), _given(options, head), names or None)

    return _to_run(options, read, progress)


def _checkpoint(
    convert: Callable[[Path], Converted], options: ForeignOptions, progress: Progress
) -> ImportResult:
    source, artifact = _checkpoint_of(options), _converted(options)
    target = artifact.path
    if artifact.check(overwrite=options.overwrite, where="output"):
        logger.info("%s is up to date", target)
        head = _converted_head(target, convert(source).head if options.features else None)
    else:
        converted = convert(source)
        model = _model(converted.tensors, artifact.plan)
        write_files({target: model}, overwrite=options.overwrite)
        head = _converted_head(target, converted.head)
    if head is None or not options.features:
        return ImportResult(options.kind, model=target)

    def read() -> Given:
        return Given(replace(head, scale=options.scale), _given(options, head))

    return replace(_to_run(options, read, progress), model=target)


def _converted_head(target: Path, source: Any) -> Head | None:
    """The head in effect of a converted model, with its place there."""
    if source is None:
        return None
    checkpoint = open_checkpoint(target)
    placed = replace(source, file=target.name, sha256=checkpoint.sha256())
    return effective(read_stored(checkpoint, placed), placed)


def _model(tensors: Mapping[str, Tensor], plan: Plan) -> bytes:
    """A model in plain form."""
    import json

    from safetensors.torch import save

    # Tensors that share memory in the source are written each for itself.
    plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    note = json.dumps({"value": "model", "provenance": plan}, sort_keys=True)
    return save(plain, metadata={METADATA_KEY: note})


def _oltr(options: ForeignOptions, progress: Progress) -> ImportResult:
    from alphafix.foreign.oltr import official_oltr

    if options.features:
        raise InputError(
            "features of OLTR's code are not what enters its last layer",
            got=option("features"),
            expected="the converted model's own features",
            todo=f"import the checkpoint, then {call('extract', backbone='oltr:DIR')}",
        )
    artifact = _converted(options)
    (model,) = artifact.owned
    made = ImportResult(options.kind, model=model)
    if artifact.check(overwrite=options.overwrite, where="output"):
        logger.info("%s is up to date", model.parent)
        return made
    names = None if options.class_names is None else tuple(read_names(options.class_names))
    found = official_oltr(_checkpoint_of(options), names)
    config = json_text({**found.config.to_dict(), "provenance": artifact.plan}).encode()
    if options.overwrite:
        artifact.clear()
    # The config makes the folder a model, so it goes last.
    weights = _model(found.model.state_dict(), artifact.plan)
    write_files({model: weights, artifact.path: config}, overwrite=options.overwrite)
    return made


def _given(options: ForeignOptions, head: Head) -> Features:
    """The features of --features, as they enter the head."""
    files = split_files(options.features)
    found = {
        split: read_pickled_features(file, allowed=options.allow_pickle)
        if file.suffix == ".pkl"
        else read_features(file, split=split, experts=True)
        for split, file in files.items()
    }
    return {split: _entering(arrays, head) for split, arrays in found.items()}


def _entering(arrays: FeatureArrays, head: Head) -> FeatureArrays:
    """Features of E experts side by side; of norm 1 each where the model normalises them."""
    source = head.source
    experts = 1 if source is None else len(source.weights)
    features = arrays.features.reshape(len(arrays.labels), -1)
    if source is not None and source.normalised and features.shape[1] % experts == 0:
        blocks = features.reshape(len(features), experts, -1)
        norms = np.linalg.norm(blocks, axis=2, keepdims=True)
        blocks = np.divide(blocks, np.maximum(norms, 1e-12), dtype=np.float32)
        features = blocks.reshape(len(features), -1)
    return replace(arrays, features=features)


def _plan(options: ForeignOptions, files: Mapping[str, Path]) -> Provenance:
    if options.class_names is not None:
        files = {**files, "class names": options.class_names}
    for name, file in files.items():
        if not file.is_file():
            raise InputError(f"{file} is not there", expected=f"the file of {name}")
    hashes = {name: sha256_file(file) for name, file in files.items()}
    recorded = {**options.recorded(), "sha256": hashes}
    return Provenance(stage="import", options=recorded, inputs={})


def _to_run(options: ForeignOptions, read: Callable[[], Given], progress: Progress) -> ImportResult:
    """Write a run directory, unless the same files have made it already."""
    run = Run(options.run)
    plan = _plan(options, _files(options))
    if is_given(run, plan, overwrite=options.overwrite):
        logger.info("%s was made from these files already", run.folder)
    else:
        given = read()
        if options.class_names is not None:
            given = replace(given, names=read_names(options.class_names))
        limits = given.classes.with_thresholds(options.few_below, options.many_above).thresholds
        write_given(run, replace(given, thresholds=limits), plan, progress)
    return ImportResult(
        options.kind,
        run=run.folder,
        classes=ClassTable.load(run.path(CLASSES)),
        accuracy=_accuracy(run),
    )


def _accuracy(run: Run) -> dict[str, float]:
    """Top-1 on each split: a head and features that do not belong together show here."""
    head = Head.load(run.path(HEAD))
    found = {}
    for split in ("train", "val", "test"):
        if not run.has(run.manifest(split)):
            continue
        store = FeatureStore.open(run.features(split))
        right = sum(
            int((head.logits(x).argmax(1) == store.labels[start : start + len(x)]).sum())
            for start, x in store.chunks()
        )
        found[split] = 100 * right / len(store)
    return found
