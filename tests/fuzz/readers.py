"""The readers of foreign bytes, each with files to start from."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from alphafix.checkpoints.formats.opening import open_checkpoint
from alphafix.checkpoints.head.inspection import inspect_head
from alphafix.checkpoints.patch.delta import load_delta, save_delta
from alphafix.checkpoints.patch.inplace import Undo, write_in_place
from alphafix.checkpoints.patch.planning import make_plan
from alphafix.documents import read_document
from alphafix.errors import AlphafixError
from alphafix.features.exchange import read_features
from alphafix.features.ledger import Ledger, Note
from alphafix.features.shards import Shard
from alphafix.features.store import FeatureStore
from alphafix.files import METADATA_KEY, read_tensors, tensors_as_bytes
from alphafix.foreign import alphanet, arrays
from alphafix.foreign.pickles import read_pickled_features
from alphafix.images.archives import index_archive
from alphafix.images.decode import decode
from alphafix.images.lists import ListContent
from alphafix.images.order import in_order, read_class_map
from alphafix.longtail.checksums import read_checksums
from alphafix.longtail.counts import given_counts
from alphafix.metrics.bootstrap import Resampling
from alphafix.metrics.comparison import Comparison, Method, OverSeeds, Row
from alphafix.metrics.estimates import Estimate
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.groups import read_groups
from alphafix.metrics.limits import Limits
from alphafix.metrics.margins import Margins, Steered, load_steered, steered_tensors
from alphafix.models.graphs import _refuse_pickles
from alphafix.oltr.models.spec import ModelSpec
from alphafix.oltr.models.transform import ImageTransform
from alphafix.oltr.training.folder import CONFIG, ModelConfig, read_config
from alphafix.run.artifact import Artifact, read_outputs, recorded_plan
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Chosen, Correction
from alphafix.values.head import Head, HeadSource
from alphafix.values.neighbors import Neighbours
from alphafix.values.trials import EpochRecord, TrialRecord, Trials

Seeds = Callable[[Path], "list[bytes]"]
"""Whole inputs, made in an empty folder."""


@dataclass(frozen=True)
class Reader:
    """A reader and what it is fed.

    Attributes:
        name: Its name on the command line.
        file: Name of the file that it reads, which may tell it the format.
        seeds: Inputs to start from.
        read: Reads the file and does with it what a command would.
        wrap: Makes the file of an input; by default the input is the file.
        around: Makes the other files that the reader needs.
    """

    name: str
    file: str
    seeds: Seeds
    read: Callable[[Path], object]
    wrap: Callable[[bytes], bytes] = bytes
    around: Callable[[Path], object] = lambda folder: None


CLASSES = ClassTable(("ant", "bee", "café"), np.array([200, 50, 5]))
RNG = np.random.default_rng(0)
HEAD = Head(
    RNG.normal(size=(3, 4)).astype(np.float32),
    np.zeros(3, np.float32),
    source=HeadSource(file="m", sha256="0", weights=("fc.weight",), biases=("fc.bias",)),
)
TRIALS = Trials(
    (TrialRecord(0.5, 2, 0, 1, {"few": 50.0, "overall": None}, (EpochRecord(1, 0.5, 0.25),)),),
    np.array([[[0, 1]]]),
    np.array([[[0.5, 0.5]]], np.float32),
    np.zeros((1, 1), np.float32),
)
CORRECTION = Correction(
    np.array([2]),
    np.ones((1, 4), np.float32),
    np.zeros(1, np.float32),
    chosen=Chosen({"rho": 0.5, "k": 2, "seeds": [0], "offset": 0.1}, {"few": 1.0}, {"few": 0.0}),
    trials=TRIALS,
    provenance={"stage": "train", "inputs": {"head.safetensors": "0"}},
)
NEIGHBOURS = Neighbours(
    np.array([2]),
    np.array([[0, 1]]),
    np.ones((1, 2), np.float32),
    np.ones((3, 4), np.float32),
    "euclidean",
)


def saved(value: Any, suffix: str = ".json") -> Seeds:
    """The file that a value of ours saves."""

    def made(folder: Path) -> list[bytes]:
        value.save(folder / f"a{suffix}")
        return [(folder / f"a{suffix}").read_bytes()]

    return made


def metadata(value: Any) -> Seeds:
    """The JSON in the safetensors file that a value of ours saves."""

    def made(folder: Path) -> list[bytes]:
        (data,) = saved(value, ".safetensors")(folder)
        size = int.from_bytes(data[:8], "little")
        return [json.loads(data[8 : 8 + size])["__metadata__"][METADATA_KEY].encode()]

    return made


def with_metadata(value: Any) -> Callable[[bytes], bytes]:
    """Puts JSON into the safetensors file that a value of ours saves."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        (data,) = saved(value, ".safetensors")(Path(folder))
    size = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]

    def wrapped(text: bytes) -> bytes:
        header["__metadata__"] = {METADATA_KEY: text.decode(errors="replace")}
        new = json.dumps(header).encode()
        return len(new).to_bytes(8, "little") + new + rest

    return wrapped


def texts(*lines: str) -> Seeds:
    return lambda folder: [line.encode() for line in lines]


def json_texts(*values: object) -> Seeds:
    return texts(*(json.dumps(value) for value in values))


def inspected(path: Path) -> None:
    """What `alphafix inspect` does, and reading the head that it finds."""
    from alphafix.checkpoints.head.finding import find_head

    inspect_head(open_checkpoint(path), classes=CLASSES).to_dict()
    find_head(path, num_classes=3)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(torch.relu(self.body(inputs)))
        return out


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = Small().state_dict()
    return state


def torch_saved(**options: Any) -> bytes:
    out = io.BytesIO()
    torch.save({"state_dict": tensors(), "epoch": 3, "lr": [0.1, 0.2]}, out, **options)
    return out.getvalue()


def member(archive: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return next(file.read(n) for n in file.namelist() if n.endswith(name))


def with_member(archive: Callable[[], bytes], name: str) -> Callable[[bytes], bytes]:
    """Puts another member into an archive, with the right checksum."""
    whole = archive()

    def wrapped(data: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
            for n in old.namelist():
                new.writestr(n, data if n.endswith(name) else old.read(n))
        return out.getvalue()

    return wrapped


def scripted() -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.trace(Small().eval(), torch.zeros(1, 4))  # type: ignore[no-untyped-call]
        torch.jit.save(module, out)
    return out.getvalue()


def exported() -> bytes:
    out = io.BytesIO()
    torch.export.save(torch.export.export(Small().eval(), (torch.zeros(1, 4),)), out)
    return out.getvalue()


def safetensors(folder: Path) -> list[bytes]:
    from safetensors.torch import save

    return [save(tensors(), {"format": "pt"}), save({"a": torch.zeros(2, 3, dtype=torch.bfloat16)})]


def header_only(folder: Path) -> list[bytes]:
    data = safetensors(folder)[0]
    return [data[8 : 8 + int.from_bytes(data[:8], "little")]]


def with_header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + bytes(140)


def onnx(folder: Path) -> list[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(HEAD.weight.T.copy(), "fc.weight")
    far = TensorProto(name="far", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "model.onnx"), ("offset", "0"), ("length", "8")):
        far.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("MatMul", ["y", "fc.weight"], ["z"]),
        helper.make_node("Add", ["z", "fc.bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 4])],
        [helper.make_tensor_value_info("logits", 1, ["n", 3])],
        [weight, numpy_helper.from_array(HEAD.bias_or_zeros, "fc.bias"), far],
    )
    return [helper.make_model(graph).SerializeToString()]


FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 2, 1])


def npz(folder: Path) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, features=FEATURES, labels=LABELS, ids=np.array(["a", "b", "c", "dé"]))
        found.append(out.getvalue())
    return found


def npy(folder: Path) -> list[bytes]:
    out = io.BytesIO()
    np.save(out, FEATURES)
    return [out.getvalue()]


def parquet(folder: Path) -> list[bytes]:
    import pyarrow
    from pyarrow import parquet as written

    found = []
    for options in ({}, {"use_dictionary": False, "compression": "none"}):
        out = io.BytesIO()
        table = pyarrow.table({"features": FEATURES.tolist(), "label": LABELS, "id": list("abcd")})
        written.write_table(table, out, **options)
        found.append(out.getvalue())
    return found


def pickles(folder: Path) -> list[bytes]:
    data = {"feats": FEATURES, "labels": LABELS.tolist(), "idxs": LABELS}
    more = {"feats": torch.from_numpy(FEATURES), "labels": LABELS, "x": {1, 2.5, (None, "a")}}
    return [pickle.dumps(d, protocol=p) for d in (data, more) for p in (0, 2, 4, 5)]


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (9, 7, 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def tar(folder: Path) -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as file:
            for name, data in (("a.png", picture("PNG")), ("a.cls", b"1"), ("é" * 40, b"{}")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        found.append(out.getvalue())
    return found


def report(folder: Path) -> list[bytes]:
    from alphafix.metrics.measure import Asked, compare_predictions
    from alphafix.metrics.predictions import BeforeAfter, Predictions

    says = Predictions(LABELS, np.ones(4, bool), np.ones(4, np.float32))
    asked = Asked(CLASSES, "test", "alphanet", resampling=Resampling(draws=10))
    compare_predictions(BeforeAfter(LABELS, says, says), asked).save(folder / "a.json")
    return [(folder / "a.json").read_bytes()]


def margins(folder: Path) -> list[bytes]:
    found = Margins(np.ones(4, np.float32), np.array([2, 2, 2, 2]), np.array([0, 1, 0, 1]))
    method = Steered("lda", found, 0.5, {"method": "lda", "max_overall_drop": 2.0})
    return [tensors_as_bytes(*steered_tensors([method], {"stage": "compare"}))]


def comparison() -> Comparison:
    one = {"overall": Estimate(1.0, 0.0, 2.0), "few": None}
    seeds = {"overall": OverSeeds((1.0, 2.0), 1.5, 0.5), "few": None}
    method = Method("tau-norm", "simple", True, {"tau": 1.0}, {"few": 1.0, "overall": 2.0}, seeds)
    row = Row(method, one, one, ("LWS",), ())
    return Comparison(
        classes=CLASSES,
        on="test",
        samples=9,
        limits=Limits(max_overall_drop=1.0),
        rows=(row,),
        verdict=("yes",),
        resampling=Resampling(),
        roles={"shipped": "tau-norm"},
        curves={"few bias": {"few": [1.0], "overall": [2.0]}},
        by_k={"2": seeds},
        provenance={"stage": "compare"},
    )


def config(folder: Path) -> list[bytes]:
    spec = ModelSpec("small", np.array([200, 50, 5]), size=16)
    made = ModelConfig("oltr", spec, ImageTransform(), ("ant", "bee", "cow"), False)
    return [json.dumps(made.to_dict()).encode()]


def shard(folder: Path) -> None:
    """A feature store whose shard is there."""
    from alphafix.features.writer import FeatureWriter

    writer = FeatureWriter(folder, num_classes=3)
    writer.add(FEATURES, LABELS, ["a", "b", "c", "d"])
    writer.finish({"split": "val"})


def manifest(folder: Path) -> list[bytes]:
    shard(folder)
    return [(folder / "manifest.json").read_bytes()]


def stored(path: Path) -> None:
    store = FeatureStore.open(path.parent)
    _ = store.labels, store.ids, store.array()


def noted(folder: Path) -> list[bytes]:
    ledger = Ledger(folder)
    ledger.write(Note("0", Shard("0.safetensors", 3, "0" * 64), (("a", "no image"),)))
    return [(ledger.notes / "0.json").read_bytes()]


def recorded(folder: Path) -> list[bytes]:
    (folder / "b").write_bytes(b"b")
    made = Artifact(folder / "a.json", {"stage": "patch", "inputs": {"head.safetensors": "0"}})
    made.record([folder / "b"])
    return [(folder / "a.json").read_bytes()]


def model(folder: Path) -> None:
    """A model beside the file."""
    (folder / "model.safetensors").write_bytes(safetensors(folder)[0])


def plan(folder: Path) -> Any:
    model(folder)
    state = tensors()
    head = Head(
        state["fc.weight"].numpy(),
        state["fc.bias"].numpy(),
        source=HeadSource("model.safetensors", "", weights=("fc.weight",), biases=("fc.bias",)),
    )
    return make_plan(folder / "model.safetensors", head, CORRECTION)


def delta(folder: Path) -> list[bytes]:
    save_delta(folder / "d.safetensors", plan(folder), {"stage": "patch"})
    return [(folder / "d.safetensors").read_bytes()]


def undo(folder: Path) -> list[bytes]:
    from alphafix.checkpoints.formats.splices import Splice

    model(folder)
    (record,) = write_in_place({folder / "model.safetensors": [Splice(20, 3, b"abc")]})
    return [record.read_bytes()]


def restored(path: Path) -> None:
    found = Undo.load(path)
    found.splices()
    found.is_done(path)


INDEX = {"metadata": {}, "weight_map": dict.fromkeys(tensors(), "model.safetensors")}

ALL = (
    Reader(
        "yaml",
        "a.yaml",
        texts("a: &x [1, 2.5, true]\nb: {c: *x, d: '${HOME:-e}'}\n", "stages:\n- train: {k: 5}\n"),
        lambda path: read_document(path).plain(),
    ),
    Reader("classes", "a.json", saved(CLASSES), lambda path: ClassTable.load(path).describe()),
    Reader("report", "a.json", report, lambda path: Evaluation.load(path).to_dict()),
    Reader(
        "comparison", "a.json", saved(comparison()), lambda path: Comparison.load(path).to_dict()
    ),
    Reader(
        "margins",
        "a.safetensors",
        margins,
        lambda path: load_steered(path, samples=4, classes=3),
    ),
    Reader("manifest", "manifest.json", manifest, stored, around=shard),
    Reader(
        "note",
        "partial/0.json",
        noted,
        lambda path: Ledger(path.parent.parent).read(),
    ),
    Reader(
        "record",
        "a.json",
        recorded,
        lambda path: (recorded_plan(path), read_outputs(path)),
    ),
    Reader("oltr-config", CONFIG, config, lambda path: read_config(path.parent)),
    Reader(
        "class-map",
        "a.json",
        json_texts(["a", "b"], {"a": 0, "b": 1}, {"0": "a", "1": "b"}),
        lambda path: in_order(read_class_map(path), "natural"),
    ),
    Reader(
        "groups",
        "a.json",
        json_texts({"insects": ["ant", "bee"], "x": ["café"]}),
        lambda path: read_groups(str(path), CLASSES),
    ),
    Reader(
        "counts",
        "a.json",
        json_texts({"ant": 3, "bee": "4"}),
        lambda path: given_counts(str(path), ("ant", "bee")),
    ),
    Reader(
        "checksums",
        "a.json",
        json_texts({"sha256": {"train.txt": "0" * 64}}),
        read_checksums,
    ),
    Reader("names", "a.txt", texts("ant\nbee\ncafé\n"), arrays.read_names),
    Reader(
        "list",
        "a.txt",
        texts("a/b c.jpg 0\nd.jpg 12\n"),
        ListContent.read,
    ),
    Reader(
        "csv",
        "a.csv",
        texts('path,label\n"a,b.jpg",0\nd.jpg,12\n'),
        ListContent.read,
    ),
    Reader(
        "head",
        "a.safetensors",
        metadata(HEAD),
        lambda path: Head.load(path),
        with_metadata(HEAD),
    ),
    Reader(
        "correction",
        "a.safetensors",
        metadata(CORRECTION),
        lambda path: Correction.load(path).apply(HEAD),
        with_metadata(CORRECTION),
    ),
    Reader(
        "neighbors",
        "a.safetensors",
        metadata(NEIGHBOURS),
        lambda path: Neighbours.load(path).records(CLASSES),
        with_metadata(NEIGHBOURS),
    ),
    Reader(
        "values",
        "a.safetensors",
        lambda folder: [
            data
            for value in (HEAD, CORRECTION, NEIGHBOURS)
            for data in saved(value, ".safetensors")(folder / type(value).__name__)
        ],
        lambda path: _tried(path, read_tensors, Head.load, Correction.load, Neighbours.load),
    ),
    Reader(
        "delta",
        "a.safetensors",
        delta,
        lambda p: load_delta(p, p.with_name("model.safetensors")),
        around=model,
    ),
    Reader("undo", "a.alphafix-undo", undo, restored),
    Reader("index", "model.safetensors.index.json", json_texts(INDEX), inspected, around=model),
    Reader("safetensors", "a.safetensors", safetensors, inspected),
    Reader("safetensors-header", "a.safetensors", header_only, inspected, with_header),
    Reader("torch", "a.pth", lambda folder: [torch_saved()], inspected),
    Reader(
        "torch-pickle",
        "a.pth",
        lambda folder: [member(torch_saved(), "data.pkl")],
        inspected,
        with_member(torch_saved, "data.pkl"),
    ),
    Reader(
        "torch-legacy",
        "a.pth",
        lambda folder: [torch_saved(_use_new_zipfile_serialization=False)],
        inspected,
    ),
    Reader(
        "alphanet-head",
        "a.pth",
        lambda folder: [_saved_head()],
        alphanet.read_head,
    ),
    Reader("torchscript", "a.pt", lambda folder: [scripted()], inspected),
    Reader(
        "torchscript-pickle",
        "a.pt",
        lambda folder: [member(scripted(), "data.pkl")],
        inspected,
        with_member(scripted, "/data.pkl"),
    ),
    Reader("export", "a.pt2", lambda folder: [exported()], _refuse_pickles),
    Reader("onnx", "model.onnx", onnx, inspected),
    Reader("npz", "a.npz", npz, lambda path: read_features(path, split="val")),
    Reader(
        "npz-member",
        "a.npz",
        npy,
        lambda path: read_features(path, split="val"),
        with_member(lambda: npz(Path())[0], "features.npy"),
    ),
    Reader("npz-head", "a.npz", lambda folder: [_head_npz()], arrays.read_head),
    Reader(
        "npy",
        "features.npy",
        npy,
        lambda path: read_features(path, split="val"),
        around=lambda folder: np.save(folder / "labels.npy", LABELS),
    ),
    Reader("parquet", "a.parquet", parquet, lambda path: read_features(path, split="val")),
    Reader("pickle", "a.pkl", pickles, lambda path: read_pickled_features(path, allowed=True)),
    Reader("tar", "a.tar", tar, index_archive),
    Reader(
        "image",
        "a.png",
        lambda folder: [picture(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")],
        decode,
    ),
)


def _tried(path: Path, *loads: Callable[[Path], object]) -> None:
    for load in loads:
        with contextlib.suppress(AlphafixError):
            load(path)


def _saved_head() -> bytes:
    out = io.BytesIO()
    torch.save({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, out)
    return out.getvalue()


def _head_npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, weight=HEAD.weight, bias=HEAD.bias_or_zeros)
    return out.getvalue()


READERS = {reader.name: reader for reader in ALL}
