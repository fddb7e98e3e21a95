"""`alphafix train-oltr`: its methods, flags, data and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from alphafix.commands.app import app
from alphafix.files import read_json, read_tensors, write_tensors
from alphafix.models.loading import load_classifier, own_file, without_folder
from alphafix.models.preprocess import Overrides
from alphafix.oltr.models.spec import Ablations
from alphafix.oltr.training.folder import read_config
from alphafix.oltr.training.methods import METHODS
from alphafix.oltr.training.recipes import BUILT_IN, StageRecipe, built_in, read_recipe
from alphafix.rivals import RIVALS
from tests.oltr.drawings import COUNTS, NAMES, OPEN, draw, write_folders, write_recipe

runner = CliRunner()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_folders(folder / "data")
    write_recipe(folder / "recipe.yaml")
    return folder


Command = Callable[..., Result]


@pytest.fixture
def train(work: Path, tmp_path: Path) -> Command:
    """Run the command on the tiny images, with more flags."""

    def run(*flags: str, data: str | Path = "", recipe: str = "") -> Result:
        line = ["train-oltr", "--data", str(data or work / "data"), "--workers", "0"]
        line += ["--recipe", recipe or str(work / "recipe.yaml"), "--device", "cpu"]
        line += [] if "--output" in flags else ["--output", str(tmp_path / "out")]
        return runner.invoke(app, [*line, *flags])

    return run


def fine(result: Result) -> Result:
    assert result.exit_code == 0, result.stderr
    return result


def failed(result: Result, *says: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("error: ") == 1
    for text in says:
        assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_method__trains_evaluates_and_is_read_as_a_backbone(
    name: str, train: Command, tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rival in ("model-regression", "metamodelnet", "fslwf"):
        monkeypatch.setitem(RIVALS[rival].arguments, "steps", 20)
    epochs = ("--epochs", "1", "--lr", "0.05")
    result = fine(train("--method", name, *epochs))
    folder = tmp_path / "out"
    assert result.stdout == f"{folder}\n"
    assert f"test, open: {name}" in result.stderr
    assert "n/a" in result.stderr  # there is no many-shot class
    assert "nan" not in result.stderr.lower()
    classifier = load_classifier(f"oltr:{folder}", None, Overrides())
    assert classifier.class_names == NAMES
    assert classifier.head_name == "head"
    state, _ = read_tensors(folder / "model.safetensors")
    assert state["head.weight"].shape[0] == len(NAMES)
    figures = read_json(folder / "evaluation.json")
    assert figures["closed"]["val"]["many"] is None
    assert _accuracy(classifier, work) == pytest.approx(figures["closed"]["test"]["overall"])
    head_only = METHODS[name].head_only
    if head_only is None:
        assert _same_logits(folder, name, classifier.module)


def _accuracy(classifier: Any, work: Path) -> float:
    """Top-1 of a backbone on the test images, decoded here."""
    right = []
    for label, kind in enumerate(NAMES):
        for path in sorted((work / "data/test" / kind).glob("*.png")):
            image = classifier.preprocess.transform(Image.open(path).convert("RGB"))
            with torch.inference_mode():
                logits = classifier.module(classifier.preprocess.finish(image[None]))
            right.append(int(logits.argmax()) == label)
    return 100 * float(np.mean(right))


def _same_logits(folder: Path, name: str, exported: torch.nn.Module) -> bool:
    """Whether the exported model gives the logits of the one that was trained."""
    spec, config = METHODS[name], read_config(folder)
    model = spec.build_untrained(config.spec)
    state = torch.load(folder / f"checkpoint/stage-{len(spec.stages)}.pt", weights_only=True)
    model.load_state_dict(state["best_weights"])
    model.eval()
    images = torch.randn(5, 3, 16, 16)
    with torch.inference_mode():
        found, expected = exported(images), model(images).logits
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "parts", "gone"),
    [
        ("--no-memory", Ablations(memory=False), "head.memory."),
        ("--no-selector", Ablations(selector=False), "memory.selector"),
        ("--no-reachability", Ablations(reachability=False), ""),
        ("--no-attention", Ablations(attention=False), "attention"),
        ("--attention-map=plain", Ablations(attention_map="plain"), "self_attention"),
    ],
)
def test_ablation__leaves_a_part_out(
    flag: str, parts: Ablations, gone: str, train: Command, tmp_path: Path
) -> None:
    fine(train("--epochs", "1", *flag.split("=")))
    tensors, _ = read_tensors(tmp_path / "out/model.safetensors")
    config = read_config(tmp_path / "out")
    assert config.spec.ablations == parts
    full = replace(config.spec, ablations=Ablations())
    names = set(METHODS["oltr"].build_untrained(full).state_dict())
    missing = {name for name in names if f"body.{name}" not in tensors}
    missing -= {name for name in missing if "classifier" in name}
    assert all(gone in name for name in missing)
    assert bool(missing) == bool(gone)
    classifier = load_classifier(f"oltr:{tmp_path / 'out'}", None, Overrides())
    assert classifier.class_names == NAMES


def test_no_reachability__the_exported_model_scales_nothing(train: Command, tmp_path: Path) -> None:
    images = torch.randn(5, 3, 16, 16)
    for flag, scaled in (("--reachability", True), ("--no-reachability", False)):
        folder = tmp_path / flag
        fine(train("--epochs", "1", flag, "--output", str(folder)))
        body = load_classifier(f"oltr:{folder}", None, Overrides()).module.get_submodule("body")
        with torch.inference_mode():
            output = body(images)
            memory = body.get_submodule("head.memory")
            borrowed = output.memory @ body.get_parameter("head.centroids")
            chosen = memory.get_submodule("selector")(output.direct).tanh() * borrowed
        same = torch.allclose(output.meta, output.direct + chosen, rtol=1e-4, atol=1e-5)
        assert same is not scaled


@pytest.mark.slow
def test_ride_routing__evaluates_as_many_experts_as_an_image_needs(
    train: Command, tmp_path: Path, work: Path
) -> None:
    ride, routed = tmp_path / "ride", tmp_path / "routed"
    fine(train("--method", "ride", "--epochs", "1", "--output", str(ride)))
    command = ("--method", "ride-routing", "--epochs", "1", "--output", str(routed))
    fine(train(*command))
    # A router that wants a second expert for half of the test images, and never a third.
    file = routed / "model.safetensors"
    state, metadata = read_tensors(file)
    images = _test_images(load_classifier(f"oltr:{routed}", None, Overrides()), work)
    state["body.router.hidden.1.weight"][:] = 0
    against = state["body.router.score.weight"][0, len(NAMES) :] < 0
    state["body.router.hidden.1.bias"][:] = np.where(against, 1e3, 0)
    state["body.router.score.bias"] -= np.median(_by_hand(routed, state, images)[2])
    write_tensors(file, state, metadata, overwrite=True)
    result = fine(train(*command))
    logits, asked, _ = _by_hand(routed, state, images)
    assert sorted(set(asked.tolist())) == [1, 2]
    found, every = (read_json(folder / "evaluation.json") for folder in (routed, ride))
    labels = np.repeat(np.arange(len(NAMES)), COUNTS["test"])
    right = 100 * float((logits.argmax(1) == labels).mean())
    assert found["closed"]["test"]["overall"] == pytest.approx(right)
    assert found["experts"]["test"] == pytest.approx(asked.mean())
    assert (
        f"experts that an image asks on average: {found['experts']['val']:.2f} on val"
        in " ".join(result.stderr.split())
    )
    assert "experts" not in every
    assert found["detection"] != every["detection"]
    confidences = torch.from_numpy(logits).softmax(1).max(1).values
    accepted = 100 * float((confidences >= found["threshold"]).float().mean())
    assert found["recognition"][0]["known_accepted"] == pytest.approx(accepted)
    # As a backbone it is routed too.
    module = load_classifier(f"oltr:{routed}", None, Overrides()).module
    with torch.inference_mode():
        np.testing.assert_allclose(module(images).numpy(), logits, rtol=1e-4, atol=1e-4)


def _test_images(classifier: Any, work: Path) -> torch.Tensor:
    from PIL import Image

    paths = [path for kind in NAMES for path in sorted((work / "data/test" / kind).glob("*.png"))]
    opened = [Image.open(path).convert("RGB") for path in paths]
    pixels = torch.stack([classifier.preprocess.transform(image) for image in opened])
    return torch.as_tensor(classifier.preprocess.finish(pixels))


def _by_hand(folder: Path, state: Any, images: torch.Tensor) -> tuple[Any, Any, Any]:
    """Routed logits, experts asked, and the first router's scores, without the model's own code."""
    body = load_classifier(f"oltr:{folder}", None, Overrides()).module.get_submodule("body")
    with torch.inference_mode():
        direct = body.get_submodule("network")(images).numpy()
    parts = direct.reshape(len(images), 3, -1)
    parts = parts / np.linalg.norm(parts, axis=2, keepdims=True)
    weight = state["head.weight"].reshape(len(NAMES), 3, -1) * 3
    each = np.einsum("bed,ced->ebc", parts, weight)
    so_far = each.cumsum(0) / np.arange(1, 4)[:, None, None]
    scores = []
    for k in range(2):
        weight, bias = (state[f"body.router.hidden.{k}.{name}"] for name in ("weight", "bias"))
        hidden = np.maximum(parts[:, k] @ weight.T + bias, 0)
        largest = np.sort(so_far[k], axis=1)[:, ::-1]  # all, of no more than 30 classes
        seen = np.concatenate([largest, hidden], axis=1)
        score = seen @ state["body.router.score.weight"][0]
        scores.append(score + state["body.router.score.bias"])
    asked = np.where(scores[0] <= 0, 1, np.where(scores[1] <= 0, 2, 3))
    return so_far[asked - 1, np.arange(len(images))], asked, scores[0]


def test_preset_paper__changes_augmentation_squashing_and_scale(
    train: Command, tmp_path: Path
) -> None:
    fine(train("--preset", "paper", "--epochs", "1"))
    assert read_json(tmp_path / "out/config.json")["setting"]["preset"] == "paper"
    weight = read_tensors(tmp_path / "out/model.safetensors")[0]["head.weight"]
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 1, rtol=1e-5)


def test_official_head__has_rows_of_length_16(train: Command, tmp_path: Path) -> None:
    fine(train("--epochs", "1"))
    weight = read_tensors(tmp_path / "out/model.safetensors")[0]["head.weight"]
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 16, rtol=1e-5)


@pytest.mark.slow
def test_head_only__is_the_rival_on_the_first_stage_s_features(
    train: Command, tmp_path: Path, work: Path
) -> None:
    from alphafix.features.store import FeatureStore
    from alphafix.rivals import fit_method
    from alphafix.rivals.data import FitData
    from alphafix.values.head import Head

    fine(train("--method", "plain", "--output", str(tmp_path / "plain")))
    first = str(tmp_path / "plain")
    fine(train("--method", "tau-norm", "--first-stage", first, "--output", str(tmp_path / "tau")))
    line = ["extract", "--backbone", f"oltr:{first}", "--data", str(work / "data")]
    line += ["--workers", "0", "--device", "cpu", "--run", str(tmp_path / "run")]
    fine(runner.invoke(app, line))
    fit, val = (FeatureStore.open(tmp_path / "run/features" / split) for split in ("train", "val"))
    head = Head.load(tmp_path / "run/head.safetensors")
    classes = _classes(tmp_path / "tau")
    expected = fit_method("tau-norm", FitData(fit, val, head, classes)).apply(head)
    found = read_tensors(tmp_path / "tau/model.safetensors")[0]
    np.testing.assert_allclose(found["head.weight"], expected.weight, rtol=1e-4, atol=1e-5)


def _classes(folder: Path) -> Any:
    from alphafix.values.classes import ClassTable

    return ClassTable.from_dict(read_json(folder / "config.json")["classes"])


@pytest.mark.slow
def test_first_stage__of_another_run_gives_the_same_second_stage(
    train: Command, tmp_path: Path
) -> None:
    whole, plain, second = (str(tmp_path / name) for name in ("whole", "plain", "second"))
    fine(train("--output", whole))
    fine(train("--method", "plain", "--output", plain))
    fine(train("--first-stage", plain, "--output", second))
    tensors = [read_tensors(Path(f) / "model.safetensors")[0] for f in (whole, second)]
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_first_stage__of_another_architecture_names_what_is_missing(
    train: Command, tmp_path: Path
) -> None:
    plain = str(tmp_path / "plain")
    fine(train("--method", "plain", "--epochs", "1", "--output", plain))
    result = train("--first-stage", plain, "--backbone", "timm:test_resnet")
    failed(result, "stage-1.pt does not hold the weights", "missing: network.backbone.body.model")
    assert not (tmp_path / "out/model.safetensors").exists()


def test_first_stage__of_other_classes_is_refused(train: Command, tmp_path: Path) -> None:
    plain = str(tmp_path / "plain")
    fine(train("--method", "plain", "--epochs", "1", "--output", plain))
    data = write_folders(tmp_path / "renamed")
    for split in COUNTS:
        (data / split / "bell").rename(data / split / "zebra")
    failed(train("--first-stage", plain, data=data), "other classes", "apple, cup, door")


def test_pretrained__weights_of_a_classifier_are_loaded_but_for_the_head(
    train: Command, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=7)
    save_file(model.state_dict(), tmp_path / "imagenet.safetensors")
    frozen = write_recipe(
        tmp_path / "frozen.yaml",
        "{backbone: 'timm:test_resnet', size: 32, resize: 32, augmentation: none, "
        "stage1: {epochs: 1, frozen: [network.backbone]}}",
    )
    flags = ("--method", "plain", "--pretrained", str(tmp_path / "imagenet.safetensors"))
    fine(train(*flags, recipe=str(frozen)))
    tensors, _ = read_tensors(tmp_path / "out/model.safetensors")
    for name, tensor in model.state_dict().items():
        if not name.startswith("fc."):
            found = tensors[f"body.network.backbone.body.model.{name}"]
            np.testing.assert_array_equal(found, tensor.numpy())


def test_pretrained__weights_of_another_architecture_are_named(
    train: Command, tmp_path: Path
) -> None:
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    flags = ("--pretrained", str(tmp_path / "vit.safetensors"), "--backbone", "timm:test_resnet")
    failed(train(*flags), "vit.safetensors does not hold the weights", "missing: conv1")


def test_recipe__that_starts_from_imagenet_wants_its_weights(train: Command) -> None:
    failed(train(recipe="places-lt"), "--pretrained", "--from-scratch", "timm:resnet152")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stage1: {epoch: 3}", "stage1.epoch"),
        ("stage2: {lr: fast}", "stage2.lr: 'fast'"),
        ("base: imagenet", "base: imagenet"),
        ("[1, 2]", "names and values"),
        ("stage1: {epochs: 0}", "greater than or equal to 1"),
        ("a: [", "line 1: this is no valid YAML"),
        ("", "names and values"),
        ("size: 16\nresize: 16\nstage2:\n  epochs: 2\n  lr: -1\n", "wrong.yaml, line 5"),
        ("size: 16\nchanels: 3\n", "wrong.yaml, line 2"),
        ("size: 16\nchanels: 3\n", "expected: base, name, backbone, "),
        ("stage1: {epoch: 3}", "expected: epochs, "),
        ("stages:\n  - neighbors\n", "wrong.yaml is a chain of stages"),
        ("extends: other.yaml\n", "wrong.yaml` does its stages"),
    ],
)
def test_recipe_file__that_is_not_understood_is_an_error(
    text: str, says: str, train: Command, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "wrong.yaml", text)
    failed(train(recipe=str(recipe)), "wrong.yaml", says)
    assert not (tmp_path / "out").exists()


def test_recipe_file__as_json_starts_from_a_built_in_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "imagenet-lt", "stage2": {"feature-lr": 0.003}}))
    recipe = read_recipe(str(path))
    assert recipe.name == "mine"
    assert recipe.stages[0] == built_in("imagenet-lt").stages[0]
    assert recipe.stages[1].feature_lr == 0.003
    assert recipe.stages[1].epochs == 60


def test_recipes__hold_the_published_settings() -> None:
    imagenet = built_in("imagenet-lt")
    assert (imagenet.backbone, imagenet.width, imagenet.size) == ("resnet10", 512, 224)
    assert imagenet.stages[0] == StageRecipe(epochs=30, lr=0.1, drop_every=10)
    second = StageRecipe(epochs=60, lr=0.1, feature_lr=0.01, drop_every=20)
    assert imagenet.stages[1] == second
    places = built_in("places-lt")
    assert (places.backbone, places.pretrained) == ("timm:resnet152", True)
    assert (places.stages[0].feature_lr, places.stages[0].lr) == (1e-3, 0.1)
    assert (places.stages[1].feature_lr, places.stages[1].lr) == (1e-4, 0.01)
    assert places.stages[1].frozen == ("network.backbone",)
    for name in BUILT_IN:
        for stage in built_in(name).stages:
            assert (stage.batch, stage.momentum, stage.per_class) == (128, 0.9, 4)
    # Table 8: 30 epochs, a tenth every 10.
    for name, rate in (("imagenet-lt", 0.1), ("places-lt", 0.01), ("ms1m-lt", 0.01)):
        paper = built_in(name, "paper")
        assert paper.augmentation == "paper"
        for stage in paper.stages:
            found = (stage.lr, stage.epochs, stage.drop_every, stage.drop, stage.decay)
            assert found == (rate, 30, 10, 0.1, 5e-4)
    assert built_in("imagenet-lt").thresholds.few == 21  # <= 20 is few
    assert built_in("imagenet-lt", "paper").thresholds.few == 20


def test_flags__have_the_last_word(train: Command, tmp_path: Path) -> None:
    flags = ("--epochs", "1,2", "--lr", "0.03,0.02", "--feature-lr", "0.01", "--batch-size", "8")
    fine(train(*flags, "--width", "24", "--few-below", "25", "--many-above", "30"))
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["stage"], r["epoch"]) for r in records] == [(1, 1), (2, 1), (2, 2)]
    assert records[0]["lr"] == {"features": 0.01, "head": 0.03}
    assert records[1]["lr"]["head"] == 0.02
    config = read_json(tmp_path / "out/config.json")
    assert config["setting"]["width"] == 24
    splits = [entry["split"] for entry in config["classes"]["classes"]]
    assert splits == ["many", "many", "medium", "few", "few", "few"]


def test_json__is_all_of_stdout(train: Command, tmp_path: Path) -> None:
    found = json.loads(fine(train("--epochs", "1", "--json", "--openmax", "--odin")).stdout)
    assert found["output"] == str(tmp_path / "out")
    methods = [row["method"] for row in found["evaluation"]["detection"]]
    assert methods == ["max-softmax", "OpenMax", "ODIN"]
    recognition = [row["method"] for row in found["evaluation"]["recognition"]]
    assert recognition == ["oltr", "oltr + OpenMax"]
    assert found["evaluation"]["open_on"] == "test"


def save_unknown(path: Path, seed: int) -> None:
    """A drawing of a kind that is none of the classes."""
    Image.fromarray(draw(len(NAMES), np.random.default_rng(seed))).save(path)


def test_odin__temperature_and_step_are_chosen_on_other_unknown_images(
    train: Command, work: Path, tmp_path: Path
) -> None:
    """OLTR's Table 2, the rows with a dagger."""
    grid = ("--odin", "--odin-temperature", "1,1000", "--odin-step", "0,0.004")
    others = tmp_path / "others"
    for number in range(6):
        place = others / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        save_unknown(place, 90 + number)
    words = ("--epochs", "1", "--json", *grid, "--open-val", str(others))
    found = json.loads(fine(train(*words)).stdout)["evaluation"]
    assert found["odin"]["temperature"] in (1, 1000)
    assert found["odin"]["step"] in (0, 0.004)
    assert [row["method"] for row in found["detection"]] == ["max-softmax", "ODIN"]
    # One pair, that pair alone: the same figures as where it was chosen.
    chosen = [f"{found['odin'][name]:g}" for name in ("temperature", "step")]
    alone = ("--odin", "--odin-temperature", chosen[0], "--odin-step", chosen[1])
    again = json.loads(fine(train("--epochs", "1", "--json", *alone)).stdout)["evaluation"]
    assert again["detection"] == found["detection"]


def test_odin__several_values_take_images_to_choose_on(train: Command) -> None:
    result = train("--odin", "--odin-step", "0,0.1")
    assert result.exit_code == 2
    assert "--open-val" in result.stderr


def test_open_classes__are_the_first_folders(train: Command, work: Path, tmp_path: Path) -> None:
    """OLTR's Figure 8 (c): all classes give what the whole open set gives."""
    for name, count in (("x-a", 3), ("x-b", 4)):
        (tmp_path / "unknown" / name).mkdir(parents=True)
        for number in range(count):
            save_unknown(tmp_path / "unknown" / name / f"{number}.png", number + 10 * count)
    words = ("--epochs", "1", "--json", "--open", str(tmp_path / "unknown"))
    found = json.loads(fine(train(*words, "--open-classes", "1,2")).stdout)["evaluation"]
    one, both = found["open_classes"]
    assert (one["classes"], both["classes"]) == (1, 2)
    assert both["f_measure"] == found["recognition"][0]["f_measure"]
    assert one["closed"] == both["closed"]
    failed(train(*words, "--open-classes", "3"), "there are no 3 unknown classes", "2 folders")


def test_openmax_rank__evaluates_again_and_does_not_train_again(
    train: Command, tmp_path: Path
) -> None:
    fine(train("--epochs", "1", "--openmax"))
    model = (tmp_path / "out/model.safetensors").read_bytes()
    every = read_json(tmp_path / "out/evaluation.json")["detection"][1]
    fine(train("--epochs", "1", "--openmax", "--openmax-rank", "1"))
    one = read_json(tmp_path / "out/evaluation.json")["detection"][1]
    assert (tmp_path / "out/model.safetensors").read_bytes() == model
    assert one["method"] == every["method"] == "OpenMax"
    assert one["auroc"] != every["auroc"]


def test_logger__tensorboard_has_the_figures(train: Command, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fine(train("--epochs", "2", "--logger", "tensorboard"))
    events = EventAccumulator(str(tmp_path / "out/tensorboard/oltr-stage-2"))
    events.Reload()
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(r["epoch"], pytest.approx(r["loss"])) for r in records[2:]]


def test_arrays__in_grey_are_trained_in_memory(train: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, counts in COUNTS.items():
        labels = np.repeat(np.arange(len(counts)), counts)
        arrays[f"{split}_images"] = np.stack([draw(int(c), rng)[..., 0] for c in labels])
        arrays[f"{split}_labels"] = labels
    arrays["open_images"] = np.stack([draw(6 + i % 2, rng)[..., 0] for i in range(10)])
    np.savez(tmp_path / "images.npz", **arrays)
    fine(train(data=tmp_path / "images.npz"))
    config = read_config(tmp_path / "out")
    assert config.transform.channels == config.spec.input_channels == 1
    assert config.names == ("0", "1", "2", "3", "4", "5")
    values = arrays["train_images"] / 255
    assert config.transform.mean == pytest.approx([values.mean()], abs=1e-3)
    assert config.transform.std == pytest.approx([values.std()], abs=1e-3)
    assert "recognition" in read_json(tmp_path / "out/evaluation.json")


@pytest.mark.slow
def test_photographs__go_through_random_crops_in_loading_processes(
    train: Command, tmp_path: Path, work: Path
) -> None:
    text = "{backbone: resnet10, size: 32, resize: 36, stage1: {epochs: 1, batch: 32}}"
    recipe = write_recipe(tmp_path / "photos.yaml", text)
    fine(train("--method", "plain", "--workers", "2", recipe=str(recipe)))
    config = read_config(tmp_path / "out")
    assert (config.transform.resize, config.transform.size) == (36, 32)
    assert config.transform.mean == (0.485, 0.456, 0.406)


def test_lists__of_make_lt_train_with_their_open_classes(
    train: Command, tmp_path: Path, work: Path
) -> None:
    line = ["make-lt", "--data", str(work / "data/train"), "--output", str(tmp_path / "lists")]
    line += ["--max", "12", "--min", "2", "--open-classes", "1", "--val", "1", "--test", "1"]
    line += ["--order", "size"]
    made = runner.invoke(app, line)
    assert made.exit_code == 0, made.stderr
    fine(train("--root", str(work / "data/train"), "--epochs", "1", data=tmp_path / "lists"))
    figures = read_json(tmp_path / "out/evaluation.json")
    assert figures["recognition"][0]["f_measure"] is not None


def test_open__a_folder_without_the_split_s_name(
    train: Command, tmp_path: Path, work: Path
) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    shutil.move(tmp_path / "data/open", tmp_path / "unknown")
    fine(train("--epochs", "1", "--open", str(tmp_path / "unknown"), data=tmp_path / "data"))
    assert "recognition" in read_json(tmp_path / "out/evaluation.json")


def test_threshold__auto_is_chosen_with_other_unknown_images(
    train: Command, tmp_path: Path, work: Path
) -> None:
    from PIL import Image

    shutil.copytree(work / "data", tmp_path / "data")
    unknown = sorted((tmp_path / "data/open").rglob("*.png"))
    for path in unknown[::2]:
        target = tmp_path / "unknown" / path.relative_to(tmp_path / "data/open")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    line = ["--method", "plain", "--epochs", "1", "--open-threshold", "auto"]
    fine(train(*line, data=tmp_path / "data"))
    assert read_json(tmp_path / "out/evaluation.json")["threshold"] == pytest.approx(2 / 6)

    fine(train(*line, "--open-val", str(tmp_path / "unknown"), data=tmp_path / "data"))
    found = read_json(tmp_path / "out/evaluation.json")["threshold"]
    classifier = load_classifier(f"oltr:{tmp_path / 'out'}", None, Overrides())
    logits, right = {}, np.zeros(0)
    for name, folder in (("val", tmp_path / "data/val"), ("unknown", tmp_path / "unknown")):
        paths = sorted(folder.rglob("*.png"))
        images = [Image.open(path).convert("RGB") for path in paths]
        pixels = torch.stack([classifier.preprocess.transform(image) for image in images])
        with torch.no_grad():
            logits[name] = classifier.module(classifier.preprocess.finish(pixels))
        if name == "val":
            labels = [sorted(NAMES).index(path.parent.name) for path in paths]
            right = (logits["val"].argmax(dim=1) == torch.tensor(labels)).numpy()
    known, other = (x.softmax(dim=1).amax(dim=1).numpy() for x in logits.values())

    def f_measure(threshold: float) -> float:
        hits = (right & (known >= threshold)).sum()
        return float(2 * hits / (2 * hits + len(known) - hits + (other >= threshold).sum()))

    best = max(f_measure(value) for value in np.concatenate([known, other]))
    assert f_measure(found - 1e-6) == pytest.approx(best)


def test_threshold__that_rejects_everything_is_a_warning(train: Command) -> None:
    result = fine(train("--epochs", "1", "--preset", "paper", "--open-threshold", "0.99"))
    assert "rejects every image: of 6 classes the largest confidence is" in result.stderr


def test_open__with_a_known_class_is_refused(train: Command, tmp_path: Path, work: Path) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    shutil.copytree(tmp_path / "data/train/cup", tmp_path / "data/open/cup")
    result = train(data=tmp_path / "data")
    failed(result, "the open set overlaps the known classes", "class folders cup")
    assert not (tmp_path / "out").exists()


def test_open__with_training_images_is_refused(train: Command, tmp_path: Path, work: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, counts in COUNTS.items():
        rows = [
            f"{split}/{name}/{number:02d}.png {label}\n"
            for label, (name, count) in enumerate(zip(NAMES, counts, strict=True))
            for number in range(count)
        ]
        (lists / f"{split}.txt").write_text("".join(rows))
    inside = {
        "test/bell/01.png": "1 image of test",
        "train/ear/99.png": "the folder of a known class",
    }
    for path, says in inside.items():
        (lists / "open.txt").write_text(f"open/{OPEN[0]}/00.png -1\n{path} -1\n")
        failed(train("--root", str(work / "data"), data=lists), "overlaps", says)
    (lists / "open.txt").write_text(f"open/{OPEN[0]}/00.png -1\n")
    fine(train("--root", str(work / "data"), "--epochs", "1", data=lists))


def test_files_of_others__are_never_replaced(train: Command, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "checkpoint").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "checkpoint/stage-1.pt"):
        (folder / name).write_bytes(b"mine")
        failed(train(), f"{name} exists already", "--overwrite")
        assert (folder / name).read_bytes() == b"mine"
        (folder / name).unlink()
    (folder / "checkpoint/notes.txt").write_text("mine")
    fine(train("--epochs", "1", "--overwrite"))
    assert (folder / "checkpoint/notes.txt").read_text() == "mine"


def test_class_without_images__is_an_error(train: Command, tmp_path: Path, work: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join([*NAMES, "gate"]))
    result = train("--class-map", str(tmp_path / "names.txt"))
    failed(result, "1 of 7 classes have no training samples", "gate")
    assert not (tmp_path / "out").exists()


def test_bad_image__is_named(train: Command, tmp_path: Path, work: Path) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    (tmp_path / "data/train/cup/03.png").write_bytes(b"no image")
    failed(train(data=tmp_path / "data"), "cup/03.png cannot be used")


def test_head_only__without_validation_is_an_error(
    train: Command, tmp_path: Path, work: Path
) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/val")
    failed(train("--method", "crt", data=tmp_path / "data"), "--method crt", "a split val")
    result = fine(train("--method", "plain", "--epochs", "1", data=tmp_path / "data"))
    assert "no split val" in result.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--method", "resnet"), "--method resnet is none of"),
        (("--epochs", "1,2,3"), "--epochs takes one value"),
        (("--lr", "0"), "--lr"),
        (("--pretrained", "x", "--from-scratch"), "exclude each other"),
    ],
)
def test_usage__is_exit_code_2(flags: tuple[str, ...], says: str, train: Command) -> None:
    result = train(*flags)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())


def test_backbone__of_a_folder_that_is_no_model_is_an_error(tmp_path: Path, work: Path) -> None:
    line = ["extract", "--backbone", f"oltr:{work / 'data'}", "--data", str(work / "data")]
    failed(runner.invoke(app, [*line, "--run", str(tmp_path / "run")]), "model.safetensors")


def test_backbone__with_weights_of_another_architecture_names_what_is_missing(
    train: Command, tmp_path: Path, work: Path
) -> None:
    fine(train("--epochs", "1"))
    other = str(tmp_path / "other")
    fine(train("--epochs", "1", "--method", "plain", "--output", other))
    line = ["extract", "--backbone", f"oltr:{tmp_path / 'out'}", "--data", str(work / "data")]
    line += ["--weights", f"{other}/model.safetensors", "--run", str(tmp_path / "run")]
    failed(runner.invoke(app, line), "missing: body.network.attention", "unexpected: head.bias")
    assert own_file(f"oltr:{other}") == Path(other) / "model.safetensors"
    assert without_folder(f"oltr:{other}") == "oltr:other"


def test_help__loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from alphafix.commands.app import app\n"
        "try: app(['train-oltr', '--help'])\n"
        "except SystemExit as exit: assert exit.code == 0, exit.code\n"
        "assert not {'torch', 'timm', 'torchvision', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example: alphafix train-oltr" in " ".join(done.stdout.split())
