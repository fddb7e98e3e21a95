"""A checkpoint and images, end to end: what the file that ships predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.preparation import without_store
from alphafix.errors import InputError, call, counted, option
from alphafix.features.extraction import extracted
from alphafix.features.features import Features
from alphafix.features.store import FeatureStore
from alphafix.metrics.predictions import Predictions, predict
from alphafix.models.arguments import written
from alphafix.models.loading import GRAPHS, graph_kind
from alphafix.progress import Progress, silent
from alphafix.values.classes import ClassTable


def predict_model(
    options: EvaluateOptions,
    model: Path,
    store: Features,
    classes: ClassTable,
    *,
    progress: Progress = silent,
) -> Predictions:
    """Predictions of a checkpoint on the images that stored features were made from.

    The images go through the model again, with the backbone, data and transforms of the features
    and the weights and head of the checkpoint; nothing of it is kept.

    Args:
        options: Backbone and data if they are others than before.
        model: The checkpoint.
        store: The stored features of the same images.
        classes: The class table, whose order is that of the logits.
        progress: Told of the images.

    Raises:
        InputError: If it is not known how the features were made, the checkpoint does not fit
            the backbone, or the images are not those of the features.
    """
    info = store.info if isinstance(store, FeatureStore) else {}
    transform = info.get("transform") if options.backbone is None else None
    extraction = _extraction(options, model, store)
    job, head = without_store(extraction, options.on, classes, transform)
    found, done = [], 0
    with progress(f"extract {options.on}", len(store)) as advance:
        for part in extracted(job, advance):
            rows = slice(done, done + len(part))
            if part.ids != store.ids[rows] or (part.labels != store.labels[rows]).any():
                raise _other_images(options, store, f"others among the first {rows.stop}")
            found.append(predict(part, [head.logits])[0])
            done = rows.stop
    if done != len(store):
        raise _other_images(options, store, f"{counted(done, 'image')}")
    return Predictions.join(found)


def _other_images(options: EvaluateOptions, store: Features, got: str) -> InputError:
    return InputError(
        "the images are not those that the stored features were made from",
        got=f"{got}, stored features of {len(store)}",
        expected="the same images in the same order, to compare base and corrected",
        todo=f"run {call('extract', split=options.on, overwrite=True)}, or correct "
        f"{option('data')}",
    )


def _refuse_code(backbone: str, store: Features) -> None:
    """Refuse to import code that a run directory names, which may be a stranger's.

    Only the user's own word is enough, whatever its hashes are. (A TorchScript archive is code
    too; but the one that runs is always the model that the user names.)
    """
    kind, _, name = backbone.partition(":")
    if kind == "python" and not name.startswith("alphafix."):
        raise InputError(
            f"the manifest of {store.name} names code to run as the backbone",
            got=backbone,
            expected="your own word for it",
            todo=f"give {option('backbone', backbone)}, or {option('trust_run', True)} if the run "
            "directory is your own",
        )


def _backbone(recorded: str, model: Path) -> str:
    """The backbone of a checkpoint: recorded by the name of its file or folder alone."""
    kind, _, _ = recorded.partition(":")
    folder = model if model.is_dir() else model.parent
    if kind in GRAPHS:
        return f"{graph_kind(model) or kind}:{model}"
    if kind in ("hf", "oltr") and (folder / "config.json").is_file():
        return f"{kind}:{folder}"
    return recorded


def require_known(options: EvaluateOptions, model: Path, store: Features) -> None:
    """Check that it is known how to run a checkpoint on the images of stored features.

    Raises:
        InputError: If it is not; the options that say it are named.
    """
    _extraction(options, model, store)


def _extraction(options: EvaluateOptions, model: Path, store: Features) -> ExtractOptions:
    """How the stored features were made, with the checkpoint in place of the weights."""
    info = store.info if isinstance(store, FeatureStore) else {}
    recorded: dict[str, Any] = dict((info.get("provenance") or {}).get("options") or {})
    recorded |= {
        name: value
        for name, value in (("backbone", options.backbone), ("data", options.data))
        if value is not None
    }
    missing = [name for name in ("backbone", "data") if not recorded.get(name)]
    if missing:
        raise InputError(
            "it is not known how the stored features were made",
            got=f"no {' and no '.join(missing)} in the manifest of {store.name}",
            expected=f"features that {call('extract')} made",
            todo="give " + " and ".join(option(name, "SPEC") for name in missing),
        )
    if options.backbone is None:
        recorded["backbone"] = _backbone(str(recorded["backbone"]), model)
        recorded["model_arg"] = written(info.get("model_args") or {})
        if not options.trust_run:
            _refuse_code(recorded["backbone"], store)
    recorded |= {"weights": model, "split": options.on}
    known = {name: value for name, value in recorded.items() if name in ExtractOptions.model_fields}
    return ExtractOptions(**known)
