"""A hostile file ends in one error or a right result, in 2 seconds and 1 GB, and runs no code."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import resource
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from alphafix.checkpoints.formats.opening import open_checkpoint
from alphafix.checkpoints.formats.torch_format import load_torch
from alphafix.documents import read_document
from alphafix.errors import AlphafixError
from alphafix.features.exchange import read_features
from alphafix.features.store import FeatureStore
from alphafix.foreign.pickles import read_pickled_features
from alphafix.images.archives import index_archive
from alphafix.models.graphs import _refuse_pickles
from alphafix.oltr.training.checkpoints import read_checkpoint
from alphafix.run.directory import CLASSES, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours
from tests.fuzz.engine import SECONDS, limit_memory
from tests.safety import hostile
from tests.safety.hostile import Make

LONG_NAME = "a" * 300 + ".safetensors"
WEIGHT = {"weight": np.zeros((3, 4), np.float32)}
FEW = {"thresholds": {"few": 20, "many": 100}}


def values(path: Path) -> object:
    return read_features(path, split="val")


def unpickled(path: Path) -> object:
    return read_pickled_features(path, allowed=True)


def store(path: Path) -> object:
    return FeatureStore.open(path.parent).ids


def everything(path: Path) -> object:
    return FeatureStore.open(path.parent).array()


def manifest(**changes: object) -> Make:
    shard = {"file": "0.safetensors", "samples": 1, "sha256": ""}
    good = {"width": 1, "num_classes": 1, "dtype": "float32", "shards": [shard]}
    return hostile.data(json.dumps({**good, **changes}))


def index(*names: str) -> Make:
    return hostile.data(json.dumps({"weight_map": {f"t{i}": n for i, n in enumerate(names)}}))


CASES: dict[str, tuple[str, Make, Callable[[Path], object]]] = {
    "yaml: aliases of aliases": ("a.yaml", hostile.data(hostile.LAUGHS), read_document),
    "yaml: itself": ("a.yaml", hostile.data("stages: &a [*a]\n"), read_document),
    "yaml: deep": ("a.yaml", hostile.data("stages: " + "[" * 3000), read_document),
    "yaml: large": ("a.yaml", hostile.data("- a\n" * 100_000), read_document),
    "json: deep": ("a.json", hostile.data("[" * 100_000), ClassTable.load),
    "json: half a character": ("a.json", hostile.data('{"a": "\\ud800"}'), ClassTable.load),
    "torch: code": ("a.pth", hostile.code(legacy=False), open_checkpoint),
    "torch: code, legacy": ("a.pth", hostile.code(legacy=True), open_checkpoint),
    "torch: compressed": (
        "a.pth",
        hostile.torch_zip(bytes(1 << 24), compressed=True),
        open_checkpoint,
    ),
    "torch: shared lists": ("a.pth", hostile.torch_zip(hostile.LISTS), open_checkpoint),
    "torch: itself": ("a.pth", hostile.torch_zip(hostile.CYCLE), open_checkpoint),
    "torch: name of tuples": ("a.pth", hostile.torch_zip(hostile.NAMES), open_checkpoint),
    "torch: memo index": ("a.pth", hostile.torch_zip(hostile.MEMO), open_checkpoint),
    "torch: long text": ("a.pth", hostile.torch_zip(hostile.LONG), open_checkpoint),
    "torch: bytes of a length": ("a.pth", hostile.torch_zip(hostile.ZEROS), open_checkpoint),
    "torch: long buffer": ("a.pth", hostile.torch_zip(hostile.BYTEARRAY), open_checkpoint),
    "torch: memo index, legacy": ("a.pth", hostile.data(hostile.MEMO), open_checkpoint),
    "torch: tensor of a length": ("a.pth", hostile.torch_zip(hostile.LENGTH), load_torch),
    "torch: tensor of a shape": ("a.pth", hostile.torch_zip(hostile.SHAPE), load_torch),
    "torch: tensor of a type": ("a.pth", hostile.torch_zip(hostile.TYPED), load_torch),
    "torch: tensor beyond its numbers": ("a.pth", hostile.larger, load_torch),
    "torch: shared lists, loaded": ("a.pth", hostile.torch_zip(hostile.LISTS), load_torch),
    "train-oltr: bytes of a length": ("a.pt", hostile.torch_zip(hostile.ZEROS), read_checkpoint),
    "export: code": ("a.pt2", hostile.exported(pickle.dumps(print)), _refuse_pickles),
    "export: memo index": ("a.pt2", hostile.exported(hostile.MEMO), _refuse_pickles),
    "export: memo index, legacy": (
        "a.pt2",
        hostile.exported(hostile.MEMO, legacy=True),
        _refuse_pickles,
    ),
    "export: bytes of a length": ("a.pt2", hostile.exported(hostile.ZEROS), _refuse_pickles),
    "export: list of a length": ("a.pt2", hostile.exported(hostile.GREEDY_LIST), _refuse_pickles),
    "export: tensor of a length": ("a.pt2", hostile.exported(hostile.LENGTH), _refuse_pickles),
    "export: long buffer": ("a.pt2", hostile.exported(hostile.BYTEARRAY), _refuse_pickles),
    "export: shared lists": ("a.pt2", hostile.exported(hostile.LISTS), _refuse_pickles),
    "export: name of tuples": ("a.pt2", hostile.exported(hostile.NAMES), _refuse_pickles),
    "export: compressed": (
        "a.pt2",
        hostile.exported(bytes(1 << 24), compressed=True),
        _refuse_pickles,
    ),
    "torchscript: code": ("a.pt", hostile.scripted, open_checkpoint),
    "joblib: code": ("a.joblib", hostile.pickled, open_checkpoint),
    "pickle: code": ("a.pkl", hostile.pickled, unpickled),
    "pickle: memo index": ("a.pkl", hostile.data(hostile.MEMO), unpickled),
    "pickle: shared lists": ("a.pkl", hostile.data(hostile.LISTS), unpickled),
    "pickle: name of tuples": ("a.pkl", hostile.data(hostile.NAMES), unpickled),
    "pickle: long buffer": ("a.pkl", hostile.data(hostile.BYTEARRAY), unpickled),
    "safetensors: 150,000 axes": (
        "a.safetensors",
        hostile.safetensors({"a": hostile.entry([1] * 150_000, 4)}, 4),
        open_checkpoint,
    ),
    "safetensors: 60,000 names, one twice": (
        "a.safetensors",
        hostile.safetensors(hostile.TWICE),
        open_checkpoint,
    ),
    "safetensors: 2^1240 elements": (
        "a.safetensors",
        hostile.safetensors({"a": hostile.entry([2**62] * 20, 4)}, 4),
        open_checkpoint,
    ),
    "safetensors: deep": (
        "a.safetensors",
        hostile.safetensors(b'{"a":' + b"[" * 100_000),
        open_checkpoint,
    ),
    "index: NUL": ("m.index.json", index("a\0.safetensors"), open_checkpoint),
    "index: long name": ("m.index.json", index(LONG_NAME), open_checkpoint),
    "index: outside": ("m.index.json", index("../a.safetensors"), open_checkpoint),
    "npy: header of terabytes": (
        "features.npy",
        hostile.data(hostile.npy("(2814749767106,)")),
        values,
    ),
    "npz: header of terabytes": (
        "a.npz",
        hostile.npz(hostile.npy("(1000000000000, 64)")),
        values,
    ),
    "npz: elements of nothing": (
        "a.npz",
        hostile.npz(hostile.npy("(99999999999,)", "<U0")),
        values,
    ),
    "npz: objects": ("a.npz", hostile.npz(hostile.npy("(2,)", "|O")), values),
    "npz: 300 MB in 1.4 MB": ("a.npz", hostile.zip_bomb, values),
    "parquet: 40 million values": ("a.parquet", hostile.repeated, values),
    "parquet: 2^30 values": ("a.parquet", hostile.MANY_VALUES, values),
    "parquet: 2^30 values, and 9 are said": ("a.parquet", hostile.DENIED_VALUES, values),
    "parquet: one id of a MB for all": ("a.parquet", hostile.long_ids, values),
    "parquet: columns within columns": ("a.parquet", hostile.DEEP_COLUMNS, values),
    "parquet: pages of nothing": ("a.parquet", hostile.MANY_PAGES, values),
    "parquet: lists of several lengths": (
        "a.parquet",
        hostile.parquet(features=[[1.0], [1.0, 2.0, 3.0]], label=[0, 1]),
        values,
    ),
    "parquet: texts": (
        "a.parquet",
        hostile.parquet(features=["a", "b"], label=[0, 1]),
        values,
    ),
    "tar: negative size": (
        "a.tar",
        hostile.tar(b"\xff" * 10 + b"\xfc\x00"),
        index_archive,
    ),
    "tar: size of terabytes": (
        "a.tar",
        hostile.tar(b"\x80" + bytes(4) + b"\x7f" * 7),
        index_archive,
    ),
    "onnx: offset of letters": (
        "a.onnx",
        hostile.onnx(location="a.onnx", offset="abc"),
        open_checkpoint,
    ),
    "onnx: NUL": ("a.onnx", hostile.onnx(location="a\0b"), open_checkpoint),
    "onnx: long name": ("a.onnx", hostile.onnx(location="a" * 300), open_checkpoint),
    "onnx: outside": ("a.onnx", hostile.onnx(location="../../etc/passwd"), open_checkpoint),
    "onnx: 100,000 axes": ("a.onnx", hostile.many_axes, open_checkpoint),
    "run: classes of numbers": (
        CLASSES,
        hostile.data(json.dumps({**FEW, "classes": [{"name": 5, "train": 3}]})),
        ClassTable.load,
    ),
    "run: classes of more than there are numbers": (
        CLASSES,
        hostile.data(json.dumps({**FEW, "classes": [{"name": "a", "train": 2**70}]})),
        ClassTable.load,
    ),
    "run: head of text": ("a.safetensors", hostile.told(WEIGHT, '{"scale": "large"}'), Head.load),
    "run: head from nowhere": ("a.safetensors", hostile.told(WEIGHT, '{"source": 5}'), Head.load),
    "run: head of a list": ("a.safetensors", hostile.told(WEIGHT, "[]"), Head.load),
    "run: correction of other arrays": (
        "a.safetensors",
        hostile.told({"classes": np.zeros((2, 2), np.int64)}, '{"value": "correction"}'),
        Correction.load,
    ),
    "run: neighbours beyond the classes": (
        "a.safetensors",
        hostile.told(
            {
                "few": np.array([9]),
                "ids": np.array([[0]]),
                "distances": np.zeros((1, 1), np.float32),
                "means": np.zeros((2, 3), np.float32),
            },
            '{"metric": "cosine"}',
        ),
        Neighbours.load,
    ),
    "run: shard of a long name": (
        "manifest.json",
        manifest(shards=[{"file": LONG_NAME, "samples": 1, "sha256": ""}]),
        store,
    ),
    "run: features of another width": ("manifest.json", hostile.wide_manifest, everything),
    "run: manifest of a list": ("manifest.json", hostile.data("[]"), store),
    "run: provenance of a list": (
        CLASSES,
        hostile.data('{"provenance": [1]}'),
        lambda path: Run(path.parent).provenance(CLASSES),
    ),
}


# What is hostile in it is never looked at, or harms nobody: an empty model, an empty dictionary.
HARMLESS = ("torchscript: code", "export: memo index")


def _child(read: Callable[[Path], object], path: Path, said: Connection) -> None:
    limit_memory()
    limit = int(SECONDS) + 1
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + limit, spent + limit))
    try:
        read(path)
        said.send("read")
    except AlphafixError as error:
        said.send(f"error: {error}")
    except BaseException as error:
        said.send(f"{type(error).__name__}: {error}")


def outcome(read: Callable[[Path], object], path: Path) -> str:
    """What reading a file in a process of its own, within the limits, ends in."""
    context = multiprocessing.get_context("fork")
    said, say = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(read, path, say))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
        child.start()
    say.close()
    try:
        return str(said.recv())
    except EOFError:
        return "the process ended"
    finally:
        child.join()


@pytest.mark.parametrize("case", CASES)
def test_hostile__ends_in_one_error_within_the_limits(case: str, tmp_path: Path) -> None:
    name, make, read = CASES[case]
    path, mark = tmp_path / name, tmp_path / "mark"
    if name == "features.npy":
        np.save(tmp_path / "labels.npy", np.zeros(2, np.int64))
    make(path, mark)
    found = outcome(read, path)
    if case in HARMLESS:
        assert found == "read"
    else:
        assert found.startswith("error: "), found
        assert str(path.parent) in found
    assert not mark.exists()
