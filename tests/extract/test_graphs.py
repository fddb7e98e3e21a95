"""ONNX graphs as exporters write them: extracted and patched, with onnxruntime's own answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from alphafix.checkpoints import find_head
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import FileFormatError, InputError
from alphafix.features.store import FeatureStore
from alphafix.values.arrays import FloatArray
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.checkpoints.models import write_stages
from tests.extract.models import MEAN, NUM_CLASSES, SIZE, STD, SmallNet
from tests.extract.photos import Photos
from tests.stages import extract, patch

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(6, 3, 4, 4)).astype(np.float32) / 5
HIDDEN = RNG.normal(size=(6, NUM_CLASSES)).astype(np.float32)
WEIGHT = RNG.normal(size=(NUM_CLASSES, NUM_CLASSES)).astype(np.float32)
BIAS = RNG.normal(size=NUM_CLASSES).astype(np.float32)

node = helper.make_node


def write_graph(
    path: Path,
    nodes: list[Any],
    tensors: dict[str, Any],
    *,
    shape: tuple[Any, ...] = ("n", 3, SIZE, SIZE),
    outputs: tuple[str, ...] = ("y",),
    dtype: int = TensorProto.FLOAT,
    ir: int = 8,
    listed: bool = False,
    domains: tuple[str, ...] = ("",),
) -> Path:
    """A graph of one input ``x``; with ``listed`` the initializers are inputs too, before it."""
    values = [helper.make_tensor_value_info("x", dtype, shape)]
    if listed:
        kinds = {n: helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in tensors.items()}
        values = [
            helper.make_tensor_value_info(name, kinds[name], value.shape)
            for name, value in tensors.items()
        ] + values
    graph = helper.make_graph(
        nodes,
        "model",
        values,
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid(domain, 1 if domain else 17) for domain in domains]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), path)
    return path


def body(images: str = "x", channels: int = 3) -> tuple[list[Any], dict[str, Any]]:
    """From images to ``f``, N x 6: as tf2onnx and others write it."""
    nodes = [
        node("Conv", [images, "k"], ["c"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Relu", ["c"], ["r"]),
        node("ReduceMean", ["r"], ["f"], axes=[2, 3], keepdims=0),
    ]
    return nodes, {"k": KERNEL[:, :channels]}


def head(bias: str = "b") -> tuple[list[Any], dict[str, Any]]:
    """Two layers of a MatMul and an Add each: from ``f`` to ``y``."""
    nodes = [
        node("MatMul", ["f", "h"], ["m1"], name="hidden"),
        node("Add", ["m1", "hb"], ["a1"], name="hidden_add"),
        node("Relu", ["a1"], ["z"]),
        node("MatMul", ["z", "w"], ["m2"], name="head"),
        node("Add", ["m2", bias], ["y"], name="head_add"),
    ]
    return nodes, {"h": HIDDEN, "hb": BIAS[::-1].copy(), "w": WEIGHT, "b": BIAS}


def run(path: Path, images: Any, name: str = "y") -> FloatArray:
    """What onnxruntime gives for an output, or for a value inside of the graph."""
    model = onnx.load(path)
    if name not in [value.name for value in model.graph.output]:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = next(i.name for i in session.get_inputs())
    return np.asarray(session.run([name], {feed: images})[0], dtype=np.float32)


def pixels(photos: Photos, channels: int = 3) -> FloatArray:
    """The validation images as the user's own code prepares them, N x channels x H x W."""
    found = []
    for image, _ in photos["val"]:
        grey = image.convert("L") if channels == 1 else image
        small = np.asarray(grey.resize((SIZE, SIZE), 2), np.float32).reshape(SIZE, SIZE, channels)
        mean, std = (np.array(given[:channels], np.float32) for given in (MEAN, STD))
        scaled = (small / 255 - mean) / std
        found.append(scaled.transpose(2, 0, 1))
    return np.stack(found).astype(np.float32)


@pytest.fixture
def extracted(
    tmp_path: Path, data_spec: Callable[[str], str]
) -> Callable[..., tuple[Head, FloatArray]]:
    """The head of a graph and the logits that it gives of the extracted validation features."""

    def make(path: Path, channels: int = 3) -> tuple[Head, FloatArray]:
        options = ExtractOptions(
            run=tmp_path / "run",
            backbone=f"onnx:{path}",
            data=data_spec("folders"),
            workers=0,
            crop_pct=1.0,
            mean=",".join(map(str, MEAN[:channels])),
            std=",".join(map(str, STD[:channels])),
        )
        found = extract(options).head
        return found, found.logits(FeatureStore.open(options.run / "features/val").array())

    return make


def correction_of(head: Head, *, biases: bool = True) -> Correction:
    new = None if head.bias is None or not biases else head.bias[[2]] + 0.5
    return Correction(np.array([2]), head.weight[[0]] * 1.5 + 0.25, new)


def patched(path: Path, tmp_path: Path, head: Head, correction: Correction) -> Path:
    folder = write_stages(tmp_path / "patching", head, correction).folder
    return patch(PatchOptions(run=folder, file=path)).target


Extracted = Callable[..., tuple[Head, FloatArray]]


def test_patch__bias_that_a_hidden_layer_has_too(tmp_path: Path) -> None:
    """Its new values would change the hidden layer: refused; rows alone are written."""
    (first, tensors), (last, more) = body(), head()
    shared = [node("Add", ["m1", "b"], ["a1"]) if n.output[0] == "a1" else n for n in last]
    path = write_graph(tmp_path / "model.onnx", first + shared, {**tensors, **more})
    own = find_head(path)
    with pytest.raises(InputError, match=r"(?s)tensor b .* is shared.*learn_bias=False"):
        patched(path, tmp_path, own, correction_of(own))
    correction = correction_of(own, biases=False)

    target = patched(path, tmp_path, own, correction)

    images = RNG.normal(size=(5, 3, SIZE, SIZE)).astype(np.float32)
    np.testing.assert_array_equal(run(path, images, "a1"), run(target, images, "a1"))
    expected = correction.apply(own).logits(run(path, images, "z"))
    np.testing.assert_allclose(run(target, images), expected, rtol=1e-5, atol=1e-5)


class Twins(SmallNet):
    """Two layers of one width, with biases that are all zero: exporters keep one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, NUM_CLASSES)
        self.fc = nn.Linear(NUM_CLASSES, NUM_CLASSES)
        for layer in (self.hidden, self.fc):
            nn.init.zeros_(layer.bias)


@pytest.mark.parametrize("dynamo", [pytest.param(True, marks=pytest.mark.slow), False])
def test_extract_and_patch__torch_export_with_equal_biases(
    dynamo: bool, tmp_path: Path, photos: Photos, extracted: Extracted
) -> None:
    torch.manual_seed(0)
    net, path = Twins().eval(), tmp_path / "model.onnx"
    options: dict[str, Any] = {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}
    if dynamo:
        options = {"dynamic_shapes": ({0: torch.export.Dim("n", min=1)},), "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(2, 3, SIZE, SIZE),),
            path,
            dynamo=dynamo,
            output_names=["y"],
            **options,
        )
    images = pixels(photos)
    with torch.inference_mode():
        expected = net(torch.from_numpy(images)).numpy()
        features = net.features(torch.from_numpy(images)).numpy()

    found, logits = extracted(path)
    correction = correction_of(found, biases=False)
    target = patched(path, tmp_path, found, correction)

    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(
        run(target, images), correction.apply(found).logits(features), atol=1e-5
    )


GRAPHS: dict[str, dict[str, Any]] = {
    "initializers before the input": {"listed": True},
    "channels last": {"shape": ("n", SIZE, SIZE, 3)},
    "grey": {"shape": ("n", 1, SIZE, SIZE)},
    "half": {"dtype": TensorProto.FLOAT16},
}


@pytest.mark.parametrize("case", GRAPHS)
def test_extract__graph(case: str, tmp_path: Path, photos: Photos, extracted: Extracted) -> None:
    options = GRAPHS[case]
    channels = 1 if case == "grey" else 3
    turn = (
        [node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2])] if case == "channels last" else []
    )
    (first, tensors), (last, more) = body("nchw" if turn else "x", channels), head()
    kind = np.float16 if case == "half" else np.float32
    stored = {name: value.astype(kind) for name, value in {**tensors, **more}.items()}
    path = write_graph(tmp_path / "model.onnx", turn + first + last, stored, **options)
    images = pixels(photos, channels).astype(kind)
    expected = run(path, images.transpose(0, 2, 3, 1) if turn else images)

    found, logits = extracted(path, channels)

    tolerance = 1e-2 if case == "half" else 1e-5
    np.testing.assert_allclose(logits, expected, atol=tolerance * np.abs(expected).max())
    correction = correction_of(found)
    target = patched(path, tmp_path, found, correction)
    changed = run(target, images.transpose(0, 2, 3, 1) if turn else images)
    np.testing.assert_allclose(changed[:, :2], expected[:, :2], atol=1e-6)
    assert np.abs(changed[:, 2] - expected[:, 2]).max() > 0.1


def _constant(name: str, value: Any) -> Any:
    return node("Constant", [], [name], value=numpy_helper.from_array(value))


HEADS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "bias of shape 1 x C": (
        [node("MatMul", ["f", "w"], ["m"]), node("Add", ["m", "b"], ["y"])],
        {"w": HIDDEN, "b": BIAS[None]},
    ),
    "weight and bias in Constant nodes": (
        [
            _constant("w", HIDDEN),
            _constant("b", BIAS),
            node("MatMul", ["f", "w"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        {},
    ),
    "Gemm with alpha and beta": (
        [node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
        {"w": HIDDEN, "b": BIAS},
    ),
    "Identity, Reshape and Transpose on the way": (
        [
            node("Transpose", ["w"], ["t"], perm=[1, 0]),
            node("Identity", ["t"], ["u"]),
            node("Reshape", ["b", "s"], ["v"]),
            node("Gemm", ["f", "u", "v"], ["g"]),
            node("Identity", ["g"], ["y"]),
        ],
        {"w": HIDDEN.T.copy(), "b": BIAS, "s": np.array([1, NUM_CLASSES])},
    ),
    "a factor on the logits": (
        [
            node("MatMul", ["f", "w"], ["m"]),
            node("Mul", ["m", "scale"], ["y"]),
        ],
        {"w": HIDDEN, "scale": np.float32(7.5).reshape(())},
    ),
    "a 1 x 1 convolution": (
        [
            node("Reshape", ["f", "map"], ["g"]),
            node("Conv", ["g", "w", "b"], ["m"]),
            node("Flatten", ["m"], ["y"]),
        ],
        {"w": HIDDEN.T[:, :, None, None].copy(), "b": BIAS, "map": np.array([-1, 6, 1, 1])},
    ),
}


@pytest.mark.parametrize("case", HEADS)
def test_extract_and_patch__head(
    case: str, tmp_path: Path, photos: Photos, extracted: Extracted
) -> None:
    first, tensors = body()
    last, more = HEADS[case]
    path = write_graph(tmp_path / "model.onnx", first + last, {**tensors, **more})
    images = pixels(photos)
    expected, features = run(path, images), run(path, images, "f")

    if case == "a 1 x 1 convolution":  # its maps are no features; the file is patched all the same
        found = find_head(path)
    else:
        found, logits = extracted(path)
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    correction = correction_of(found)
    target = patched(path, tmp_path, found, correction)

    wanted = correction.apply(found).logits(features)
    np.testing.assert_allclose(run(target, images), wanted, atol=1e-5 * np.abs(wanted).max())


def test_patch__a_network_of_scikit_learn(tmp_path: Path) -> None:
    """As skl2onnx writes MLPClassifier: biases of 1 x C, then classes and probabilities."""
    weights = {"c0": HIDDEN, "i0": BIAS[None], "c1": WEIGHT, "i1": BIAS[::-1][None].copy()}
    nodes = [
        node("MatMul", ["x", "c0"], ["p0"]),
        node("Add", ["p0", "i0"], ["q0"]),
        node("Relu", ["q0"], ["z"]),
        node("MatMul", ["z", "c1"], ["p1"]),
        node("Add", ["p1", "i1"], ["q1"]),
        node("Softmax", ["q1"], ["probabilities"], axis=1),
        node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
        node("Cast", ["best"], ["label"], to=TensorProto.FLOAT),
    ]
    path = write_graph(
        tmp_path / "m.onnx", nodes, weights, shape=("n", 6), outputs=("label", "probabilities")
    )
    own = find_head(path)
    correction = correction_of(own)
    target = patched(path, tmp_path, own, correction)
    x = RNG.normal(size=(5, 6)).astype(np.float32)
    expected = correction.apply(own).logits(run(path, x, "z"))
    np.testing.assert_allclose(run(target, x, "q1"), expected, rtol=1e-5, atol=1e-5)


def test_find_head__a_linear_model_of_scikit_learn(tmp_path: Path) -> None:
    numbers = {"coefficients": HIDDEN.T.ravel().tolist(), "intercepts": BIAS.tolist()}
    layer = node(
        "LinearClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        classlabels_ints=[0, 1, 2],
        **numbers,
    )
    path = write_graph(tmp_path / "m.onnx", [layer], {}, shape=("n", 6), domains=("", "ai.onnx.ml"))
    with pytest.raises(InputError, match=r"(?s)LinearClassifier.*with_correction"):
        find_head(path)


def test_extract__graph_of_a_newer_version(tmp_path: Path, extracted: Extracted) -> None:
    (first, tensors), (last, more) = body(), head()
    path = write_graph(tmp_path / "model.onnx", first + last, {**tensors, **more}, ir=999)
    with pytest.raises(FileFormatError, match=r"(?s)cannot be run by onnxruntime.*IR version"):
        extracted(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ("n", 6)}, "of shape .*2 axes"),
        ({"dtype": TensorProto.UINT8}, "other elements than float"),
        ({"shape": ("n", 4, SIZE, SIZE)}, "4 channels"),
        ({"shape": ("n", 3, 2 * SIZE, SIZE)}, "cannot run the graph on these images"),
    ],
)
def test_extract__graph_of_other_inputs(
    options: dict[str, Any], message: str, tmp_path: Path, extracted: Extracted
) -> None:
    nodes = [
        node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        node("Flatten", ["floats"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    size = int(np.prod([s for s in options.get("shape", (3, SIZE, SIZE)) if s != "n"]))
    weight = RNG.normal(size=(size, NUM_CLASSES)).astype(np.float32)
    path = write_graph(tmp_path / "model.onnx", nodes, {"w": weight}, **options)
    with pytest.raises(InputError, match=message):
        extracted(path)
