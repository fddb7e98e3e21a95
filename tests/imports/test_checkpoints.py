"""`alphafix import` of checkpoints: classifier-balancing, RIDE, Hugging Face, plain features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import resnet18
from typer.testing import CliRunner, Result

from alphafix.commands.app import app
from alphafix.features.store import FeatureStore
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.common import make_problem
from tests.imports.projects import RideModel, dump_features, save_networks, save_ride

runner = CliRunner()


def take(*arguments: object, code: int = 0) -> Result:
    result = runner.invoke(app, ["import", *map(str, arguments)])
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = resnet18(num_classes=5).eval()
    return made


def parts(network: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    state = network.state_dict()
    head = {name: tensor for name, tensor in state.items() if name.startswith("fc.")}
    return {n: t for n, t in state.items() if n not in head}, head


@pytest.mark.parametrize("as_folder", [False, True])
def test_classifier_balancing__becomes_a_torchvision_model(
    tmp_path: Path, network: torch.nn.Module, as_folder: bool
) -> None:
    path = save_networks(tmp_path / "logs/final_model_checkpoint.pth", *parts(network))
    target = tmp_path / "model.safetensors"
    result = take("classifier-balancing", path.parent if as_folder else path, "-o", target)
    assert result.stdout == f"{target}\n"
    again = resnet18(num_classes=5).eval()
    again.load_state_dict(load_file(target), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(x), network(x))


def test_classifier_balancing__folds_the_scales_of_lws(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    body, head = parts(network)
    scales = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])
    path = save_networks(tmp_path / "a.pth", body, {**head, "scales": scales})
    take("classifier-balancing", path)
    again = resnet18(num_classes=5).eval()
    again.load_state_dict(load_file(tmp_path / "a.safetensors"), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again(x), network(x) * scales)


def test_classifier_balancing__takes_its_own_features_into_a_run(tmp_path: Path) -> None:
    problem = make_problem(num_classes=16)
    head = {
        "fc.weight": torch.from_numpy(problem.head.weight),
        "fc.bias": torch.from_numpy(problem.head.bias_or_zeros),
    }
    path = save_networks(tmp_path / "a.pth", {"conv1.weight": torch.ones(2, 2, 1, 1)}, head)
    files = {
        split: dump_features(tmp_path / f"{split}feat_all.pkl", x, problem.labels[split])
        for split, x in problem.features.items()
    }
    given = [word for s, file in files.items() for word in ("--features", f"{s}={file}")]
    run = tmp_path / "run"
    words = ("classifier-balancing", path, *given, "--run", run)
    assert "--allow-pickle" in take(*words, code=1).stderr
    assert not run.exists()
    take(*words, "--allow-pickle")
    for line in (["neighbors"], ["train", "--seeds", "2", "--epochs", "6"]):
        assert runner.invoke(app, [*line, "--run", str(run)]).exit_code == 0
    model = tmp_path / "a.safetensors"
    done = runner.invoke(app, ["patch", str(model), "--run", str(run)])
    assert done.exit_code == 0, done.stderr


def test_classifier_balancing__again_is_up_to_date(
    tmp_path: Path, network: torch.nn.Module
) -> None:
    body, head = parts(network)
    path = save_networks(tmp_path / "a.pth", body, head)
    take("classifier-balancing", path)
    before = (tmp_path / "a.safetensors").stat().st_mtime_ns
    assert "up to date" in take("classifier-balancing", path).stderr
    assert (tmp_path / "a.safetensors").stat().st_mtime_ns == before
    save_networks(path, body, {name: 2 * tensor for name, tensor in head.items()})
    assert "exists already" in take("classifier-balancing", path, code=1).stderr
    take("classifier-balancing", path, "--overwrite")


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_ride__head_and_features_give_the_models_own_logits(
    tmp_path: Path, norm: bool, parallel: bool
) -> None:
    torch.manual_seed(0)
    model = RideModel(inputs=7, width=5, classes=12, experts=3, norm=norm).eval()
    path = save_ride(tmp_path / "model_best.pth", model, parallel=parallel)
    with pytest.raises(Exception, match="ConfigParser"):
        torch.load(path, weights_only=True)
    labels = np.repeat(np.arange(12), [60] * 4 + [30] * 5 + [5] * 3)
    images = torch.randn(len(labels), 7) + torch.from_numpy(labels)[:, None] / 6
    with torch.inference_mode():
        features, logits = model.backbone.features(images).numpy(), model.backbone(images).numpy()
    np.savez(tmp_path / "train.npz", features=features, labels=labels)
    run = tmp_path / "run"
    take("ride", path, "--features", f"train={tmp_path / 'train.npz'}", "--run", run)
    head = Head.load(run / "head.safetensors")
    stored = FeatureStore.open(run / "features/train").array()
    np.testing.assert_allclose(head.logits(stored), logits, rtol=1e-4, atol=1e-4)

    for line in (["neighbors"], ["train", "--seeds", "2", "--epochs", "6"]):
        assert runner.invoke(app, [*line, "--run", str(run)]).exit_code == 0
    target = tmp_path / "model_best.safetensors"
    words = ["patch", str(target), "--run", str(run), *(["--direction-only"] if norm else [])]
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.stderr
    after = load_file(tmp_path / "model_best.alphafix.safetensors")
    before = load_file(target)
    names = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.rpartition(".")[0] for name in names} == {
        f"backbone.linears.{expert}" for expert in range(3)
    }


def test_ride__without_experts_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.linear.weight": torch.ones(3, 4)}}, tmp_path / "a.pth")
    assert "no experts" in take("ride", tmp_path / "a.pth", code=1).stderr
    assert not (tmp_path / "a.safetensors").exists()


def test_checkpoint__with_code_in_it_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {mark}",)

    model = RideModel(inputs=7, width=5, classes=12, experts=2, norm=True)
    data = {"state_dict": model.state_dict(), "config": Evil()}
    torch.save(data, tmp_path / "evil.pth")
    take("ride", tmp_path / "evil.pth")
    assert not mark.exists()
    assert "backbone.linears.0.weight" in load_file(tmp_path / "evil.safetensors")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("classifier-balancing", {"state_dict": {"fc.weight": torch.ones(2, 2)}}, "feat_model"),
        ("ride", None, "is not there"),
        ("classifier-balancing", b"not a checkpoint", "no model file"),
        ("ride", b"\x80\x02cut", "damaged"),
    ],
)
def test_checkpoint__of_another_kind_or_damaged(
    tmp_path: Path, kind: str, content: object, message: str
) -> None:
    path = tmp_path / "a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    result = take(kind, path, code=1)
    assert message in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.glob("*.safetensors")) == []


def test_huggingface__gives_head_and_class_names(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    problem = make_problem(num_classes=12, width=16)
    config = transformers.ResNetConfig(
        embedding_size=4,
        hidden_sizes=[16],
        depths=[1],
        layer_type="basic",
        id2label={number: f"name {number}" for number in range(12)},
    )
    model = transformers.ResNetForImageClassification(config)
    with torch.no_grad():
        model.classifier[1].weight.copy_(torch.from_numpy(problem.head.weight))
        model.classifier[1].bias.copy_(torch.from_numpy(problem.head.bias_or_zeros))
    model.save_pretrained(tmp_path / "model")
    features, labels = problem.features["train"], problem.labels["train"]
    np.savez(tmp_path / "train.npz", features=features, labels=labels)
    run = tmp_path / "run"
    take("huggingface", tmp_path / "model", "--features", tmp_path / "train.npz", "--run", run)
    assert ClassTable.load(run / "classes.json").names[11] == "name 11"
    head = Head.load(run / "head.safetensors")
    np.testing.assert_array_equal(head.weight, problem.head.weight)
    assert runner.invoke(app, ["neighbors", "--run", str(run)]).exit_code == 0


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_features__of_a_file_and_a_head(tmp_path: Path, suffix: str) -> None:
    problem = make_problem()
    features, labels = problem.features["train"], problem.labels["train"]
    path = tmp_path / f"train{suffix}"
    if suffix == ".npz":
        np.savez(path, features=features, labels=labels)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"features": list(features), "label": labels}), path)
    np.savez(tmp_path / "head.npz", weight=problem.head.weight, bias=problem.head.bias_or_zeros)
    run = tmp_path / "run"
    result = take("features", path, "--head", tmp_path / "head.npz", "--run", run, "--json")
    assert json.loads(result.stdout)["accuracy"]["train"] > 50
    np.testing.assert_array_equal(FeatureStore.open(run / "features/train").array(), features)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("features", "a.npz"), "--head go together"),
        (("ride", "a.pth", "--name", "x"), "--name"),
        (("huggingface", "dir"), "alphafix extract"),
        (("nothing", "a"), "nothing"),
    ],
)
def test_options__that_do_not_fit_are_usage_errors(words: tuple[str, ...], message: str) -> None:
    assert message in take(*words, code=2).stderr
