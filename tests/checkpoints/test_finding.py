"""Finding the head: taken without doubt, or the choices are named."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from alphafix.checkpoints import find_head
from alphafix.checkpoints.formats.opening import load_state_dict, open_checkpoint
from alphafix.checkpoints.head.matching import match_head
from alphafix.commands.app import app
from alphafix.commands.inspect.options import InspectOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import FileFormatError, InputError
from alphafix.images.order import read_class_map
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.checkpoints.models import BUILDERS, CLASSES, build, make_correction, write_stages
from tests.common import make_problem, write_run
from tests.stages import inspect, patch

HEADS = {
    "timm-resnet": ("linear", ("fc.weight",), ("fc.bias",)),
    "timm-vit": ("linear", ("head.weight",), ("head.bias",)),
    "torchvision": ("linear", ("fc.weight",), ("fc.bias",)),
    "transformers": ("linear", ("classifier.weight",), ("classifier.bias",)),
    "lws": ("lws", ("fc.weight",), ("fc.bias",)),
    "experts": (
        "experts",
        ("linears.0.weight", "linears.1.weight", "linears.2.weight"),
        ("linears.0.bias", "linears.1.bias", "linears.2.bias"),
    ),
    "ride": ("experts", ("linears.0.weight", "linears.1.weight", "linears.2.weight"), ()),
}


def save(path: Path, tensors: dict[str, Any]) -> Path:
    save_file({name: torch.as_tensor(value) for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("name", BUILDERS)
def test_find_head__known_models(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(build(name).state_dict(), path)
    source = find_head(path, num_classes=CLASSES).source
    assert source is not None
    assert (source.kind, source.weights, source.biases) == HEADS[name]
    assert source.transposed == (name == "ride")
    assert source.scales == ("scales" if name == "lws" else None)


@pytest.mark.parametrize("name", ["weight", "fc.weight"])
def test_find_head__bias_of_a_layer_that_is_saved_by_itself(name: str, tmp_path: Path) -> None:
    head = make_problem().head
    bias = name.replace("weight", "bias")
    path = save(tmp_path / "m.safetensors", {name: head.weight, bias: head.bias_or_zeros})
    found = find_head(path)
    assert found.source is not None
    assert found.source.biases == (bias,)
    assert np.array_equal(found.bias_or_zeros, head.bias_or_zeros)


@pytest.mark.parametrize(
    ("bias", "said"),
    [({}, "no bias was found for it"), ({"fc.bias": 1.0}, "only in the bias")],
)
def test_match_head__another_bias_is_no_other_order(
    bias: dict[str, float], said: str, tmp_path: Path
) -> None:
    head = make_problem().head
    other = {name: head.bias_or_zeros + more for name, more in bias.items()}
    path = save(tmp_path / "m.safetensors", {"fc.weight": head.weight} | other)
    with pytest.raises(InputError) as caught:
        match_head(open_checkpoint(path), head)
    assert said in str(caught.value)
    assert "order" not in str(caught.value)


def test_open__arrays_of_numpy_are_no_damaged_model(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, weight=make_problem().head.weight)
    with pytest.raises(InputError, match="holds NumPy arrays") as caught:
        open_checkpoint(path)
    assert "damaged" not in str(caught.value)


def test_open__advice_for_arrays_of_numpy_keeps_rows_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weight = make_problem().head.weight
    np.savez("head.npz", weight=np.asfortranarray(weight))  # as scikit-learn leaves coef_
    with pytest.raises(InputError) as caught:
        open_checkpoint(Path("head.npz"))
    (advice,) = re.findall(r"safetensors\.numpy\.save_file\(.*\'\)", str(caught.value))
    exec(advice, {"numpy": np, "safetensors": safetensors})
    assert np.array_equal(safetensors.numpy.load_file("head.safetensors")["weight"], weight)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_open__model_of_scikit_learn_is_no_damaged_torch_file(
    tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "model.joblib"
    model = LogisticRegression().fit(np.eye(3), [0, 1, 2])
    joblib.dump(model, path, protocol=protocol)
    with pytest.raises(FileFormatError, match="a pickle of scikit-learn") as caught:
        open_checkpoint(path)
    assert "head_of" in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_open__older_torch_file_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path, weight = tmp_path / "model.pth", torch.randn(3, 4)
    torch.save(
        {"fc.weight": weight},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=False,
    )
    assert torch.equal(load_state_dict(path)["fc.weight"], weight)


def test_find_head__name_decides_where_no_class_count_is_known(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(build("timm-vit").state_dict(), path)
    source = find_head(path).source
    assert source is not None
    assert source.weights == ("head.weight",)


def test_find_head__last_layer_of_a_sequence(tmp_path: Path) -> None:
    tensors = {
        f"classifier.{i}.weight": torch.randn(*shape)
        for i, shape in ((0, (32, 64)), (3, (32, 32)), (6, (5, 32)))
    }
    source = find_head(save(tmp_path / "m.safetensors", tensors)).source
    assert source is not None
    assert source.weights == ("classifier.6.weight",)


def test_find_head__two_heads_are_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.safetensors",
        {"head.weight": torch.randn(5, 8), "head_dist.weight": torch.randn(5, 8)},
    )
    with pytest.raises(InputError) as caught:
        find_head(path, num_classes=5)
    message = str(caught.value)
    assert "head.weight (5 x 8 float32, linear, no bias)" in message
    assert "head_dist.weight" in message
    assert "head='head_dist.weight'" in message
    source = find_head(path, num_classes=5, name="head_dist").source
    assert source is not None
    assert source.weights == ("head_dist.weight",)


def test_find_head__one_by_one_convolution(tmp_path: Path) -> None:
    weight = torch.randn(5, 8, 1, 1)
    path = save(tmp_path / "m.safetensors", {"head.weight": weight, "head.bias": torch.ones(5)})
    head = find_head(path)
    np.testing.assert_array_equal(head.weight, weight[:, :, 0, 0].numpy())
    run = write_stages(tmp_path / "run", head, Correction(np.array([1]), head.weight[[0]], None))
    again = find_head(patch(PatchOptions(run=run.folder, file=path)).target)
    np.testing.assert_array_equal(again.weight[1], head.weight[0])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"norm.weight": torch.ones(5)}, "has no linear head"),
        ({"head.weight": torch.ones(5, 8, dtype=torch.int8)}, "is quantised"),
        ({"head.weight": torch.randn(7, 8)}, "(?s)7 x 8.*expected: a layer of 5 x D"),
        ({"head.weight": torch.full((5, 8), torch.nan)}, "(?s)not finite.*5 rows with NaN or inf"),
    ],
)
def test_find_head__refusals(tensors: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", tensors)
    with pytest.raises(InputError, match=message):
        find_head(path, num_classes=5)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch will drop such tensors one day
def test_find_head__quantised_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    weight = torch.quantize_per_tensor(torch.randn(5, 8), 0.1, 0, torch.qint8)
    torch.save({"head.weight": weight}, path)
    with pytest.raises(InputError, match="is quantised"):
        find_head(path, num_classes=5)


def test_find_head__width_of_another_backbone(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", {"head.weight": torch.randn(5, 8)})
    with pytest.raises(InputError, match=r"(?s)5 x 8.*5 x 16.*another D another backbone"):
        find_head(path, num_classes=5, width=16)


def test_find_head__no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        find_head(tmp_path / "none.safetensors")
    (tmp_path / "text.bin").write_text("hello, this is no model")
    with pytest.raises(FileFormatError, match="no model file of a known format"):
        find_head(tmp_path / "text.bin")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_match_head__by_shape_and_values(dtype: torch.dtype, tmp_path: Path) -> None:
    """Arrays of the user's own know no names; other layers may have the same shape."""
    problem = make_problem()
    weight, bias = problem.head.weight, problem.head.bias_or_zeros
    path = save(
        tmp_path / "m.safetensors",
        {
            "a.weight": torch.randn(*weight.shape).to(dtype),
            "b.weight": torch.from_numpy(weight).to(dtype),
            "b.bias": torch.from_numpy(bias).to(dtype),
        },
    )
    source = match_head(open_checkpoint(path), problem.head)
    assert (source.weights, source.biases) == (("b.weight",), ("b.bias",))


def test_match_head__cosine_rows_are_recognised(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    head = Head(16 * weight / np.linalg.norm(weight, axis=1, keepdims=True))
    path = save(tmp_path / "m.safetensors", {"classifier.weight": weight})
    source = match_head(open_checkpoint(path), head)
    assert (source.kind, source.normalised) == ("cosine", True)
    assert source.factor == pytest.approx(16)


def test_match_head__the_same_values_twice(tmp_path: Path) -> None:
    head = Head(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    path = save(
        tmp_path / "m.safetensors", {"a.weight": head.weight, "b.weight": head.weight.copy()}
    )
    with pytest.raises(InputError, match=r"2 layers .* hold the head's values"):
        match_head(open_checkpoint(path), head)
    assert match_head(open_checkpoint(path), head, name="b").weights == ("b.weight",)


def test_patch__another_class_order_is_refused(tmp_path: Path) -> None:
    problem = make_problem()
    head = problem.head
    path = save(
        tmp_path / "m.safetensors",
        {"fc.weight": head.weight[::-1].copy(), "fc.bias": head.bias_or_zeros[::-1].copy()},
    )
    run = write_stages(tmp_path / "run", head, make_correction(head))
    with pytest.raises(InputError, match=r"(?s)12 of 12 rows differ.*in another order"):
        patch(PatchOptions(run=run.folder, file=path))


def test_patch__another_model_is_refused(tmp_path: Path) -> None:
    head = make_problem().head
    path = save(tmp_path / "m.safetensors", {"fc.weight": torch.randn(12, 8)})
    run = write_stages(tmp_path / "run", head, make_correction(head))
    with pytest.raises(InputError, match=r"(?s)rows differ, first: class 0.*another model"):
        patch(PatchOptions(run=run.folder, file=path))
    path = save(tmp_path / "m.safetensors", {"fc.weight": torch.randn(12, 16)})
    with pytest.raises(InputError, match=r"(?s)12 x 16.*12 x 8.*another backbone"):
        patch(PatchOptions(run=run.folder, file=path))


def test_patch__tied_embedding_is_refused(tmp_path: Path) -> None:
    head = make_problem(bias=False).head
    path = save(tmp_path / "m.safetensors", {"model.embed_tokens.weight": head.weight})
    run = write_stages(tmp_path / "run", head, make_correction(head))
    with pytest.raises(InputError, match=r"(?s)embed_tokens.* is shared.*untie"):
        patch(PatchOptions(run=run.folder, file=path))


def test_patch__logit_scale_leaves_rows_as_they_are(tmp_path: Path) -> None:
    """LTR multiplies its logits by 100: the rows in the file are those without it."""
    path = tmp_path / "model.safetensors"
    save_file(build("timm-vit").state_dict(), path)
    head = find_head(path, scale=100.0)
    correction = make_correction(head)
    run = write_stages(tmp_path / "run", head, correction)
    again = find_head(patch(PatchOptions(run=run.folder, file=path)).target)
    np.testing.assert_array_equal(again.weight, correction.apply(head).weight)


def test_inspect__norms_by_split(tmp_path: Path) -> None:
    problem = make_problem()
    run = write_run(tmp_path / "run", problem, splits=("train",))
    weight = problem.head.weight
    path = save(tmp_path / "m.safetensors", {"fc.weight": weight, "other.weight": weight.T.copy()})
    found = inspect(InspectOptions(run=run.folder, file=path))
    assert found.head is not None
    assert found.head.name == "fc.weight"
    norms = np.linalg.norm(weight, axis=1)
    few = found.shown[0].norms["few"]
    assert few == pytest.approx(norms[problem.classes.few].mean(), rel=1e-5)


def test_inspect__command(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(build("timm-vit").state_dict(), path)
    run = ["--run", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["inspect", str(path), *run])
    assert done.exit_code == 0
    assert done.stdout == "head.weight\n"
    assert "12 x 32" in done.stderr
    assert "norm overall" in done.stderr


NAMES = ["great white shark, white shark", "tench", "crane"]


@pytest.mark.parametrize(
    ("config", "backbone", "told"),
    [
        ({"model_type": "vit", "id2label": dict(enumerate(NAMES))}, "hf:{folder}", True),
        ({"model_type": "vit", "id2label": {i: f"LABEL_{i}" for i in range(3)}}, "hf:{folder}", 0),
        ({"architecture": "resnet18", "label_names": NAMES}, "timm:resnet18", True),
        ({"architecture": "resnet18", "label_names": NAMES[:2]}, "timm:resnet18", False),
        ({}, "timm:NAME", False),
    ],
)
def test_inspect__says_what_the_settings_beside_the_weights_say(
    config: dict[str, Any], backbone: str, told: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    save_file({"fc.weight": torch.ones(3, 8)}, folder / "model.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    done = CliRunner().invoke(app, ["inspect", str(folder), "--run", str(tmp_path / "run")])
    assert done.exit_code == 0, done.stderr
    said = f"--backbone {backbone.format(folder=folder)} --data DATA"
    assert said in done.stderr
    assert ("3 class names in config.json: " in done.stderr) == bool(told)


@pytest.mark.parametrize(
    "more",
    [
        {"classes": NAMES},
        {"class_names": tuple(NAMES)},
        {"class_to_idx": {name: i for i, name in reversed([*enumerate(NAMES)])}},
        {"idx_to_class": dict(enumerate(NAMES))},
        {"id2label": {str(i): name for i, name in enumerate(NAMES)}},
        {"meta": {"CLASSES": NAMES, "epoch": 3}},
        {"args": argparse.Namespace(classes=NAMES)},
        {"classes": NAMES, "class_names": NAMES, "labels": ["of", "another", "kind", "of list"]},
    ],
    ids=lambda more: "-".join(more),
)
def test_inspect__finds_class_names_in_a_checkpoint(more: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "my model.pt"
    torch.save({"state_dict": torch.nn.Linear(4, 3).state_dict(), **more}, path)
    run = ["--run", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["inspect", str(path), *run])
    assert done.exit_code == 0, done.stderr
    told = next(line for line in done.stderr.splitlines() if "class names" in line)
    assert '("great white shark, white shark", tench, crane)' in told
    command = shlex.split(told.split("`")[1])
    assert command[-2:] == [">", "classes.json"]
    written = CliRunner().invoke(app, [*command[1:-2], *run])
    (tmp_path / "classes.json").write_text(written.stdout)
    assert read_class_map(tmp_path / "classes.json") == tuple(NAMES)


def test_inspect__finds_class_names_in_text_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = torch.nn.Linear(4, 3).state_dict()
    save_file(tensors, path, {"id2label": json.dumps(dict(enumerate(NAMES))), "names": "[1"})
    assert inspect(InspectOptions(file=path, run=tmp_path)).own_names == tuple(NAMES)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"classes": NAMES[:2]},
        {"classes": 3, "labels": [0, 1, 2], "names": {"a": 1}},
        {"class_to_idx": {"a": 0, "b": 1, "c": 1}},
        {"idx_to_class": {0: "a", 1: "b", 3: "c"}},
    ],
)
def test_inspect__takes_nothing_else_for_class_names(more: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"state_dict": torch.nn.Linear(4, 3).state_dict(), **more}, path)
    done = CliRunner().invoke(app, ["inspect", str(path), "--run", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    assert "class name" not in done.stderr


def test_inspect__class_names_that_differ_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    state = torch.nn.Linear(4, 3).state_dict()
    torch.save({"state_dict": state, "classes": NAMES, "names": NAMES[::-1]}, path)
    found = inspect(InspectOptions(file=path, run=tmp_path))
    assert (found.own_names, found.to_dict()["class_names"]) == (None, None)
    done = CliRunner().invoke(app, ["inspect", str(path), "--run", str(tmp_path)])
    assert "classes and names hold different class names" in done.stderr


def test_inspect__command_in_doubt(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", {"a.w": torch.randn(5, 8), "b.w": torch.randn(6, 8)})
    done = CliRunner().invoke(app, ["inspect", str(path), "--run", str(tmp_path / "run")])
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "no head taken: 2 layers" in done.stderr
    assert "--head" in done.stderr


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (("_blocks.0._expand_conv", "_fc"), "_fc.weight"),
        (("fc1", "fc2", "fc3"), "fc3.weight"),
        (("body.hidden", "body.scores"), "body.scores.weight"),
    ],
)
def test_find_head__that_is_plainly_last(names: tuple[str, ...], head: str, tmp_path: Path) -> None:
    widths = (20, 16, 14, 12)
    tensors = {
        f"{name}.weight": torch.randn(widths[i + 1], widths[i]) for i, name in enumerate(names)
    }
    source = find_head(save(tmp_path / "m.safetensors", tensors)).source
    assert source is not None
    assert source.weights == (head,)


def test_inspect__shows_what_could_be_meant(tmp_path: Path) -> None:
    convolutions = {f"blocks.{i}.conv.weight": torch.randn(8, 8, 1, 1) for i in range(20)}
    path = save(tmp_path / "m.safetensors", {**convolutions, "_fc.weight": torch.randn(5, 8)})
    run = ["--run", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["inspect", str(path), *run])
    assert done.stdout == "_fc.weight\n"
    assert "blocks" not in done.stderr
    assert "1 of 21 layers (--all" in done.stderr
    everything = CliRunner().invoke(app, ["inspect", str(path), "--all", *run])
    assert everything.stderr.count("blocks") == 20
