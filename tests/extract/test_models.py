"""Models that are loaded strictly, proven on the first batch, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from alphafix.commands.extract.options import ExtractOptions
from alphafix.errors import AlphafixError, InputError
from alphafix.features.store import FeatureStore
from alphafix.values.arrays import FloatArray
from alphafix.values.head import Head
from tests.extract import models
from tests.extract.models import CosineNet, SmallNet
from tests.extract.photos import Photos
from tests.extract.zoo import Animal
from tests.stages import extract

DataSpec = Callable[[str], str]


@pytest.fixture
def options(tmp_path: Path, data_spec: DataSpec) -> Callable[..., ExtractOptions]:
    def make(function: str, **changes: Any) -> ExtractOptions:
        torch.manual_seed(1)
        net = getattr(models, function)()
        weights = tmp_path / "model.safetensors"
        save_file(net.state_dict(), weights)
        given: dict[str, Any] = {
            "run": tmp_path / "run",
            "backbone": f"python:tests.extract.models:{function}",
            "weights": weights,
            "data": data_spec("folders"),
            "workers": 0,
        }
        return ExtractOptions(**{**given, **changes})

    return make


def answers(net: SmallNet, photos: Photos, split: str) -> FloatArray:
    with torch.inference_mode():
        logits = net.eval()(torch.stack([models.Small()(image) for image, _ in photos[split]]))
    return np.asarray(logits)


def test_proof__cosine_head_and_factor_are_recognised(
    options: Callable[..., ExtractOptions], photos: Photos
) -> None:
    given = options("cosine_net")
    torch.manual_seed(1)
    net = CosineNet()
    result = extract(given)
    assert result.head.source is not None
    assert result.head.source.kind == "cosine"
    assert result.head.scale == pytest.approx(16, rel=1e-5)
    store = FeatureStore.open(given.run / "features/val")
    np.testing.assert_allclose(
        result.head.logits(store.array()), answers(net, photos, "val"), atol=1e-4
    )


@pytest.mark.parametrize(
    ("function", "head", "message"),
    [
        ("softmax_net", "fc", "does not give the model's own logits"),
        ("softmax_net", None, "0 of 2 linear layers give its logits"),
        ("two_heads", None, "0 of 3 linear layers give its logits"),
        ("two_heads", "fc", "does not give the model's own logits"),
        ("drop_net", None, "other logits for the same images"),
        ("drop_net", "fc", "other logits for the same images"),
        ("batch_net", "fc", "other logits for the same images"),
        ("small_net", "stem", "no linear layer of the model"),
        ("small_net", "nothing", "no module of that name"),
    ],
)
def test_proof__other_logits_are_refused_and_nothing_is_written(
    function: str, head: str | None, message: str, options: Callable[..., ExtractOptions]
) -> None:
    given = options(function, head=head)
    with pytest.raises(InputError, match=message):
        extract(given)
    assert not given.run.exists()


@pytest.mark.parametrize("net", [models.DropNet, models.BatchNet])
def test_proof__a_graph_that_was_traced_in_training_is_refused(
    net: type[SmallNet], data_spec: DataSpec, tmp_path: Path
) -> None:
    path, trace = tmp_path / "model.ts", torch.jit.trace
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = trace(  # type: ignore[no-untyped-call]
            net().train(), torch.zeros(4, 3, models.SIZE, models.SIZE), check_trace=False
        )
    traced.save(path)
    options = ExtractOptions(
        run=tmp_path / "run",
        backbone=f"torchscript:{path}",
        data=data_spec("folders"),
        workers=0,
        image_size=models.SIZE,
        mean="0.5,0.5,0.5",
        std="0.5,0.5,0.5",
    )
    with pytest.raises(InputError, match=r"same images(.|\n)*export the model after model.eval"):
        extract(options)
    assert not options.run.exists()


def test_loading__names_what_is_missing_unexpected_and_of_another_shape(
    options: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    state = dict(SmallNet().state_dict())
    state["extra.weight"] = state.pop("stem.bias")
    state["fc.weight"] = torch.zeros(7, 4)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError) as raised:
        extract(options("small_net", weights=tmp_path / "other.safetensors"))
    message = str(raised.value)
    assert "missing: stem.bias" in message
    assert "unexpected: extra.weight" in message
    assert "fc.weight (7, 4), the model has (3, 4)" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet50"}, "backbone is not understood"),
        ({"head": "hidden"}, "4 rows, logits of shape"),
        ({"backbone": "keras:resnet50"}, "backbone is not understood"),
        ({"backbone": "timm:no_such_model"}, "cannot be made"),
        ({"backbone": "timm:test_convnext", "weights": None}, "weights .* are not given"),
        ({"backbone": "timm:test_convnext"}, "no tensor head.fc.weight"),
        ({"backbone": "torchvision:squeezenet1_1"}, "no linear layer"),
        ({"backbone": "python:no.such:thing"}, "is not there"),
        ({"backbone": "python:tests.extract.models:no_transform"}, "how images become"),
        ({"backbone": "python:tests.extract.models:Small"}, "gave no model"),
        ({"backbone": "hf:nowhere"}, "is not there"),
        ({"backbone": "torchscript:nowhere"}, "is not there"),
        ({"backbone": "onnx:{weights}"}, "not a whole ONNX file"),
        ({"backbone": "export:{weights}"}, "not an archive of torch.export"),
        ({"backbone": "torchscript:{weights}"}, "cannot be loaded"),
        ({"weights": Path("nowhere.safetensors")}, "is not there"),
        ({"image_size": 32}, "cannot be changed by flags"),
        ({"mean": "a,b,c"}, "mean= is not understood"),
        ({"mean": "123.7,116.3,103.5"}, r"mean= is not of values(.|\n)*by 255"),
        ({"mean": "0.5,nan,0.5"}, "mean= is not of values from 0 to 1"),
        ({"std": "58.4,57.1,57.4"}, "std= is not of values from 0 to 1"),
        ({"std": "0,1,1"}, "none of them 0"),
        ({"prefix_map": ("a",)}, "prefix_map= is not understood"),
    ],
)
def test_extract__wrong_options_are_named_and_nothing_is_written(
    changes: dict[str, Any], message: str, options: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    if "{weights}" in changes.get("backbone", ""):
        file = str(tmp_path / "model.safetensors")
        changes = {"backbone": changes["backbone"].replace("{weights}", file)}
    given = options("small_net", **changes)
    with pytest.raises(AlphafixError, match=message):
        extract(given)
    assert not given.run.exists()


def test_extract__graph_without_a_transform(
    options: Callable[..., ExtractOptions], animal: Callable[[str], Animal]
) -> None:
    script = animal("torchscript").options["backbone"]
    with pytest.raises(InputError, match=r"no image_size=, no mean=, no std="):
        extract(options("small_net", backbone=script, weights=None))


def test_extract__model_of_another_number_of_classes(
    options: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\ncow\ndog\n")
    given = options("small_net", class_map=names)
    with pytest.raises(InputError, match=r"4 class names .* a head of 3 rows"):
        extract(given)
    assert not given.run.exists()


def test_extract__class_map_sets_the_order(
    options: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cow\nant\nbee\n")
    given = options("small_net", class_map=names)
    result = extract(given)
    assert result.classes.names == ("cow", "ant", "bee")
    store = FeatureStore.open(given.run / "features/train")
    folder = dict(zip(store.labels.tolist(), [i.split("/")[0] for i in store.ids], strict=True))
    assert folder == {0: "cow", 1: "ant", 2: "bee"}


def test_extract__the_models_own_class_order_is_checked(
    options: Callable[..., ExtractOptions], animal: Callable[[str], Animal], tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cow\nant\nbee\n")
    backbone = animal("transformers").options["backbone"]
    with pytest.raises(InputError, match="another order than the model's own"):
        extract(options("small_net", backbone=backbone, weights=None, class_map=names))


@pytest.mark.parametrize("entry", ["classes", "class_to_idx", "args.id2label"])
def test_extract__class_names_in_the_weights_file_are_checked(
    entry: str,
    options: Callable[..., ExtractOptions],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def weights(names: Sequence[str]) -> Path:
        state = load_file(options("small_net").weights or Path())
        forms: dict[str, Any] = {
            "classes": list(names),
            "class_to_idx": {name: i for i, name in enumerate(names)},
            "args.id2label": {str(i): name for i, name in enumerate(names)},
        }
        outer, _, inner = entry.rpartition(".")
        held = {inner: forms[entry]}
        torch.save({"state_dict": state, **({outer: held} if outer else held)}, tmp_path / "m.pth")
        return tmp_path / "m.pth"

    right = ("ant", "bee", "cow")
    with caplog.at_level("INFO", "alphafix"):
        found = extract(options("small_net", weights=weights(right), run=tmp_path / "right"))
    assert found.classes.names == right
    assert "the model's own class names: agree" in caplog.text
    wrong = options("small_net", weights=weights(("cow", "ant", "bee")), run=tmp_path / "wrong")
    with pytest.raises(InputError, match=r"another order than the model's own(.|\n)*is 'cow'"):
        extract(wrong)
    assert not (tmp_path / "wrong").exists()
    # The user knows better, and says so.
    names = tmp_path / "names.txt"
    names.write_text("\n".join(right))
    with caplog.at_level("WARNING", "alphafix"):
        assert extract(wrong.model_copy(update={"class_map": names})).classes.names == right
    assert f"by {entry} in m.pth; the order of class_map= is taken" in caplog.text


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_extract__store_dtype(dtype: str, options: Callable[..., ExtractOptions]) -> None:
    whole = extract(options("small_net"))
    given = options("small_net", store_dtype=dtype, run=options("small_net").run / "small")
    extract(given)
    exact = FeatureStore.open(options("small_net").run / "features/train").array()
    store = FeatureStore.open(given.run / "features/train")
    assert store.dtype == dtype
    assert np.abs(store.array() - exact).max() <= np.abs(exact).max() * 2.0**-8
    assert whole.head.width == store.width


def test_extract__float16_overflow_is_an_error(options: Callable[..., ExtractOptions]) -> None:
    given = options("small_net", store_dtype="float16")
    assert given.weights is not None
    net = SmallNet()
    torch.nn.init.constant_(net.hidden.bias, 1e5)
    save_file(net.state_dict(), given.weights)
    with pytest.raises(InputError, match="too large for float16") as raised:
        extract(given)
    assert "bfloat16" in str(raised.value)
    assert not (given.run / "features/train/manifest.json").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_extract__lower_precision_is_near_and_recorded(
    precision: str, options: Callable[..., ExtractOptions], photos: Photos
) -> None:
    given = options("small_net", precision=precision)
    torch.manual_seed(1)
    net = SmallNet()
    result = extract(given)
    store = FeatureStore.open(given.run / "features/train")
    expected = answers(net, photos, "train")
    assert (
        np.abs(result.head.logits(store.array()) - expected).max() < 0.05 * np.abs(expected).max()
    )
    assert store.info["provenance"]["options"]["precision"] == precision


def test_extract__manifest_says_how_it_was_made(
    options: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    given = options("small_net")
    extract(given)
    info = FeatureStore.open(given.run / "features/val").info
    recorded = info["provenance"]["options"]
    assert recorded["backbone"] == given.backbone
    assert recorded["weights"] == "model.safetensors"
    assert len(recorded["weights_sha256"]) == 64
    assert info["transform"]["origin"].endswith("transform")
    text = (given.run / "features/val/manifest.json").read_text()
    assert str(tmp_path / "model") not in text
    assert "torch" in info["provenance"]["versions"]
    head = Head.load(given.run / "head.safetensors")
    assert head.source is not None
    assert (head.source.weights, head.source.biases) == (("fc.weight",), ("fc.bias",))
    assert head.source.sha256 == recorded["weights_sha256"]


def test_extract__limit(options: Callable[..., ExtractOptions]) -> None:
    result = extract(options("small_net", limit=3))
    assert result.samples == {"train": 3, "val": 3}
    assert result.classes.counts.tolist() == [1, 1, 1]


def test_extract__val_first_then_train_fills_the_counts(
    options: Callable[..., ExtractOptions],
) -> None:
    assert extract(options("small_net", split="val")).classes.counts.tolist() == [0, 0, 0]
    assert extract(options("small_net", split="train")).classes.counts.tolist() == [4, 4, 4]


def test_extract__thresholds(options: Callable[..., ExtractOptions]) -> None:
    result = extract(options("small_net", few_below=5, many_above=6))
    assert len(result.classes.few) == 3
    again = extract(options("small_net"))  # nothing said: what was said before holds
    assert again.classes.thresholds == result.classes.thresholds
    changed = extract(options("small_net", few_below=4))
    assert len(changed.classes.few) == 0


@pytest.mark.slow
def test_extract__compiled_model_gives_the_same(options: Callable[..., ExtractOptions]) -> None:
    plain = options("flat_net", split="val")
    extract(plain)
    compiled = options("flat_net", split="val", compile=True, run=plain.run / "compiled")
    extract(compiled)
    a, b = (FeatureStore.open(o.run / "features/val").array() for o in (plain, compiled))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_extract__jpeg_decoded_on_the_device_gives_nearly_the_same(
    animal: Callable[[str], Animal], tmp_path: Path
) -> None:
    """On a GPU this is the default; here the device is a CPU."""
    rng = np.random.default_rng(0)
    for label, side in enumerate((40, 50, 60)):
        pixels = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        folder = tmp_path / "data" / "train" / f"class {label}"
        folder.mkdir(parents=True)
        pixels.resize((side, 45), Image.Resampling.BICUBIC).save(folder / "a.jpg")
    (tmp_path / "data" / "train" / "class 0" / "b.jpg").write_bytes(b"\xff\xd8 no image \xff\xd9")
    stores = {}
    for decode in ("pillow", "torch"):
        options = ExtractOptions(
            run=tmp_path / decode,
            data=str(tmp_path / "data"),
            decode=decode,
            on_bad_image="skip",
            workers=1,
            **animal("torchvision").options,
        )
        assert extract(options).skipped == {"train": 1}
        stores[decode] = FeatureStore.open(options.run / "features/train")
        assert stores[decode].info["decoder"] == decode
    a, b = (stores[decode].array() for decode in ("pillow", "torch"))
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()
    assert not (a == b).all()  # it was another decoder
