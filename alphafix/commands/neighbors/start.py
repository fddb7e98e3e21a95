"""Starting at `neighbors`: a run directory made from features and a head of the user's own."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.errors import FileFormatError, InputError, TargetExistsError, some
from alphafix.features.exchange import read_features
from alphafix.features.features import FeatureArrays
from alphafix.features.writer import FeatureWriter
from alphafix.files import open_safetensors, sha256_file
from alphafix.progress import Progress, silent
from alphafix.run.directory import CLASSES, HEAD, Provenance, Run
from alphafix.values.arrays import FloatArray, IntArray
from alphafix.values.classes import ClassTable, Thresholds
from alphafix.values.head import Head

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test", "open")

# Rows given to the writer at a time, so that a large file is not copied whole.
ROWS = 16_384


def start_from_arrays(run: Run, options: NeighborsOptions, *, progress: Progress = silent) -> None:
    """Write what `alphafix extract` would have left: classes, head and features.

    Nothing is done if the run directory was made from the same files already.

    Raises:
        InputError: If only one of features and head is given, training features are
            missing, or the arrays do not fit together.
        TargetExistsError: If the run directory holds other features.
    """
    _require_both(options)
    files = split_files(options.features)
    provenance = _provenance(files, options)
    if not options.overwrite:
        if made_from(run, provenance):
            logger.info("%s was made from these files already", run.folder)
            return
        refuse_other(run, provenance)
    head = read_head(options.head or Path())
    arrays = {split: read_features(path, split=split) for split, path in files.items()}
    names = None if options.class_names is None else read_names(options.class_names)
    write_run(run, head, arrays, names, provenance, progress=progress)


def started(run: Run, options: NeighborsOptions) -> bool:
    """Whether `start_from_arrays` has been here with the same files."""
    _require_both(options)
    return made_from(run, _provenance(split_files(options.features), options))


def made_from(run: Run, provenance: Provenance) -> bool:
    """Whether the run directory holds a head and classes that were made as told."""
    there = run.has(CLASSES) and run.has(HEAD)
    return there and run.provenance(HEAD) == provenance.to_dict()


def _require_both(options: NeighborsOptions) -> None:
    if not options.features or options.head is None:
        raise InputError(
            "--features and --head go together",
            got="only " + ("--features" if options.features else "--head"),
            expected="both: training features and the head that they enter",
            todo="give both, or neither to use what `alphafix extract` left",
        )


def write_run(
    run: Run,
    head: Head,
    arrays: Mapping[str, FeatureArrays],
    names: Sequence[str] | None,
    provenance: Provenance,
    *,
    thresholds: Thresholds | None = None,
    progress: Progress = silent,
) -> None:
    """Write classes, head and features of a run directory, all having been checked.

    Raises:
        InputError: If the arrays do not fit together.
    """
    for split, found in arrays.items():
        _check(found, split, head)
    classes = _class_table(arrays["train"].labels, head, names, thresholds)
    # Only now, with everything read and checked, what was there may go.
    shutil.rmtree(run.path("features"), ignore_errors=True)
    for split, found in arrays.items():
        _write_features(run, split, found, head, provenance, progress)
    classes.save(run.path(CLASSES), overwrite=True)
    head.save(run.path(HEAD), provenance=provenance.to_dict(), overwrite=True)


def split_files(given: tuple[str, ...]) -> dict[str, Path]:
    """Which file holds which split: SPLIT=FILE, or a file of one or several splits."""
    files: dict[str, Path] = {}
    for item in given:
        split, equals, name = item.partition("=")
        if equals and split in SPLITS:
            files[split] = Path(name)
        else:
            for found in _splits_in(Path(item)) or ("train",):
                files[found] = Path(item)
    if "train" not in files:
        raise InputError(
            "there are no training features",
            got=", ".join(files) or "nothing",
            expected="features of the split train, whose class means the neighbours come from",
            todo="give --features train=FILE",
        )
    return files


def _splits_in(path: Path) -> tuple[str, ...]:
    """Splits whose arrays a file names (``train_features``); none if it holds one split."""
    names: Collection[str] = ()
    if path.suffix == ".npz" and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                names = file.files
        except (OSError, ValueError, zipfile.BadZipFile):
            return ()  # reading it will say what is wrong
    elif path.suffix == ".safetensors":
        with open_safetensors(path) as file:
            names = file.keys()
    return tuple(split for split in SPLITS if f"{split}_features" in names)


def _provenance(files: Mapping[str, Path], options: NeighborsOptions) -> Provenance:
    """The given files by name and hash; their folders do not matter."""
    given = {f"{split} features": path for split, path in files.items()}
    given["head"] = _existing(options.head)
    if options.class_names is not None:
        given["class names"] = options.class_names
    hashes = {name: sha256_file(_existing(path)) for name, path in given.items()}
    names = {name: path.name for name, path in given.items()}
    return Provenance(stage="start", options={**names, "sha256": hashes}, inputs={})


def _existing(path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise InputError(f"{path} is not there", expected="a readable file", todo="check the path")
    return path


def refuse_other(run: Run, provenance: Provenance) -> None:
    """Refuse features of another origin; what this very command left unfinished may go."""
    features = run.path("features")
    splits = [folder for folder in features.glob("*") if any(folder.iterdir())]
    if not all(_is_ours(run, folder, provenance) for folder in splits):
        raise TargetExistsError(
            f"{features} exists already, made from something else",
            expected="a run directory without features",
            todo="give --overwrite to replace them, or another --run",
        )


def _is_ours(run: Run, folder: Path, provenance: Provenance) -> bool:
    if run.has(run.manifest(folder.name)):
        return run.provenance(run.manifest(folder.name)) == provenance.to_dict()
    return not (folder / "partial").exists()  # an extraction that was interrupted


def read_head(path: Path) -> Head:
    """Read ``weight`` (C x D) and ``bias`` (C, if there is one) from .npz or .safetensors.

    Raises:
        FileFormatError: If there is no such array.
        InputError: If their shapes do not fit, or a number is not finite.
    """
    arrays: dict[str, FloatArray] = {}
    if path.suffix not in (".npz", ".safetensors"):
        raise InputError(
            f"{path} is not a file of a head",
            got=path.suffix or "no suffix",
            expected=".npz or .safetensors with `weight` and `bias`",
            todo="save the last layer's arrays with safetensors.torch.save_file({'weight': "
            "layer.weight, 'bias': layer.bias}, 'head.safetensors'); a whole model file of any "
            "format goes to `alphafix extract --weights` and `alphafix patch`",
        )
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {n: file[n] for n in ("weight", "bias") if n in file.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise FileFormatError(
                f"{path} is not a readable .npz file",
                got=str(error),
                expected="arrays `weight` and `bias`",
                todo="save it again with numpy.savez",
            ) from error
    else:
        with open_safetensors(path) as file:
            names = [name for name in ("weight", "bias") if name in file.keys()]  # noqa: SIM118
            arrays = {name: file.get_tensor(name).float().numpy() for name in names}
    if "weight" not in arrays:
        raise FileFormatError(
            f"{path} holds no head",
            expected='"weight" (C x D) and, if the layer has one, "bias" (C)',
            todo="save the last layer under these names",
        )
    return Head(np.asarray(arrays["weight"], np.float32), arrays.get("bias"))


def _check(found: FeatureArrays, split: str, head: Head) -> None:
    if len(found.labels) == 0:
        raise InputError(
            f"the split {split} holds no samples",
            expected="at least one sample",
            todo="leave the split out, or check its file",
        )
    finite = np.isfinite(found.features).all(axis=1)
    if not finite.all():
        bad = [found.ids[int(i)] for i in np.flatnonzero(~finite)]
        raise InputError(
            f"{len(bad)} samples of the split {split} have features that are not finite",
            got=some(bad),
            expected="finite numbers, no NaN or inf",
            todo="drop these samples, or extract them in float32",
        )
    known = found.labels[found.labels >= 0]
    top = int(known.max(initial=-1)) + 1
    width = int(found.features.shape[1])
    head.require_match(width=width, num_classes=max(top, head.num_classes))
    lowest = -1 if split == "open" else 0
    wrong = found.labels < lowest
    if wrong.any():
        raise InputError(
            f"{int(wrong.sum())} labels of the split {split} are out of range",
            got=f"label {found.labels[wrong][0]}",
            expected=f"{lowest}..{head.num_classes - 1}",
            todo="count classes from 0; open-set samples (-1) go into the split open",
        )


def _class_table(
    labels: IntArray,
    head: Head,
    names: Sequence[str] | None,
    thresholds: Thresholds | None,
) -> ClassTable:
    counts = np.bincount(labels[labels >= 0], minlength=head.num_classes)
    if names is None:
        names = [f"class {i}" for i in range(head.num_classes)]
    return ClassTable(tuple(names), counts, thresholds or Thresholds())


def read_names(path: Path) -> list[str]:
    """Class names, one a line.

    Raises:
        FileFormatError: If the file is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{path} is not text in UTF-8",
            got=str(error),
            expected="class names in the order of the head, one a line",
            todo="save it as UTF-8",
        ) from error


def _write_features(
    run: Run,
    split: str,
    found: FeatureArrays,
    head: Head,
    provenance: Provenance,
    progress: Progress,
) -> None:
    writer = FeatureWriter(run.features(split), num_classes=head.num_classes)
    with progress(f"import {split}", len(found.labels)) as advance:
        for start in range(0, len(found.labels), ROWS):
            place = slice(start, start + ROWS)
            writer.add(found.features[place], found.labels[place], found.ids[place])
            advance(len(found.labels[place]))
    writer.finish({"split": split, "provenance": provenance.to_dict()})
