"""The main job in a real shell: class folders, a timm model, and a model file that ships."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from alphafix.checkpoints import head_of
from alphafix.features.store import FeatureStore
from alphafix.values.head import Head
from tests.conftest import Make
from tests.shell import bash

pytestmark = pytest.mark.slow

NUM_CLASSES = 12
RARE = 3
COUNTS = {"train": [32] * 4 + [21] * 5 + [6] * RARE, "val": [4] * 12, "test": [6] * 12}
HANDICAP = 20.0  # which leaves the rare classes about two of five of their images


def draw(label: int, rng: np.random.Generator) -> Image.Image:
    """A blurred patch whose colour and place tell the class, but not beyond doubt."""
    angle = 2 * np.pi * label / NUM_CLASSES + rng.normal(scale=0.12)
    y, x = np.mgrid[:32, :32]
    middle = 16 + 9 * np.array([np.sin(angle), np.cos(angle)])
    blob = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / 30)
    color = 0.5 + 0.5 * np.array([np.cos(angle), np.sin(angle), np.cos(2 * angle)])
    image = 255 * blob[..., None] * color + rng.normal(scale=12, size=(32, 32, 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def work(made_once: Callable[[str, Make], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a module's own with images and their model."""
    folder = tmp_path_factory.mktemp("work")
    return Path(shutil.copytree(made_once("trained", make_trained), folder, dirs_exist_ok=True))


def make_trained(folder: Path) -> None:
    """Class folders of images, and a timm model in a safetensors file.

    Its head is fitted to the training images, and then put off the rare classes.
    """
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=NUM_CLASSES).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images, labels = [], []
    for split, counts in COUNTS.items():
        for label, count in enumerate(counts):
            place = folder / "data" / split / f"class_{label:02d}"
            place.mkdir(parents=True)
            for index in range(count):
                image = draw(label, rng)
                image.save(place / f"{index:03d}.png")
                if split == "train":
                    images.append(transform(image))
                    labels.append(label)
    with torch.inference_mode():
        features = model.forward_features(torch.stack(images))
        rows = model.forward_head(features, pre_logits=True).numpy()
    fitted = head_of(LogisticRegression(C=1e6, max_iter=2000).fit(rows, labels))
    head = model.get_classifier()
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(fitted.weight))
        head.bias.copy_(torch.from_numpy(fitted.bias_or_zeros))
        head.bias[-RARE:] -= HANDICAP
    save_file(model.state_dict(), folder / "model.safetensors")


def shell(
    line: str, folder: Path, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one line in a shell, as a user's pipeline does."""
    done = bash(["-euo", "pipefail", "-c", line], folder, **{"COLUMNS": "120", **environment})
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def chain(work: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """The README's four commands, and the gate."""
    return {
        "extract": shell(
            "alphafix extract --backbone timm:test_resnet --weights model.safetensors --data data",
            work,
        ),
        "neighbors": shell("alphafix neighbors", work),
        "train": shell("alphafix train --rho 0.5 --allow-worse", work),
        "patch": shell("alphafix patch model.safetensors", work),
        "evaluate": shell("alphafix evaluate --json", work),
    }


def test_chain__writes_results_to_stdout_and_the_rest_to_stderr(
    chain: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    assert chain["extract"].stdout == "alphafix-run\n"
    assert chain["neighbors"].stdout == "alphafix-run/neighbors.safetensors\n"
    assert chain["train"].stdout == "alphafix-run/alphanet.safetensors\n"
    assert chain["patch"].stdout == "model.alphafix.safetensors\n"
    assert "12 classes: 3 few, 9 medium, 0 many (few < 20, medium" in chain["extract"].stderr
    assert json.loads(chain["evaluate"].stdout)["splits"]["few"]["classes"] == 3
    for done in chain.values():
        assert "Traceback" not in done.stderr


def test_chain__patches_three_rows_and_biases_and_no_other_byte(
    work: Path, chain: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    before = load_file(work / "model.safetensors")
    after = load_file(work / "model.alphafix.safetensors")
    assert list(before) == list(after)
    for name, tensor in before.items():
        if name.startswith("fc."):
            changed = (tensor != after[name]).reshape(NUM_CLASSES, -1).any(1)
            assert changed.nonzero()[:, 0].tolist() == [9, 10, 11]
        else:
            assert torch.equal(tensor, after[name])


def test_chain__timm_loads_the_patched_file_and_gives_the_predicted_logits(
    work: Path, chain: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    model = timm.create_model("test_resnet", num_classes=NUM_CLASSES)
    model.load_state_dict(load_file(work / "model.alphafix.safetensors"), strict=True)
    model.eval()
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config)
    store = FeatureStore.open(work / "alphafix-run/features/test")
    paths = [work / "data/test" / name for name in store.ids]
    paths = paths if paths[0].is_file() else [work / "data" / name for name in store.ids]
    x = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.inference_mode():
        logits = model(x).numpy()
    after = load_file(work / "model.alphafix.safetensors")
    head = Head(after["fc.weight"].numpy(), after["fc.bias"].numpy())
    expected = head.logits(store.array())
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    accuracy = 100 * float((logits.argmax(1) == store.labels).mean())
    told = json.loads(chain["evaluate"].stdout)["splits"]["overall"]["top1"]
    assert told["corrected"]["value"] == pytest.approx(accuracy)


def test_chain__a_gate_that_is_not_met_ends_a_pipeline_with_3(
    work: Path, chain: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    line = "alphafix evaluate --min-few-gain 101 >table.txt && touch released"
    done = shell(line, work, code=3)
    assert "--min-few-gain" in done.stderr
    assert "few" in (work / "table.txt").read_text()
    assert not (work / "released").exists()
    shell("alphafix evaluate --max-overall-drop 100 >/dev/null && touch released", work)
    assert (work / "released").exists()


def test_chain__a_target_that_exists_is_not_replaced(
    work: Path, chain: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    before = (work / "model.alphafix.safetensors").read_bytes()
    done = shell("alphafix patch model.safetensors", work)
    assert "up to date" in done.stderr  # it is what this very command would write
    (work / "other.safetensors").write_bytes(b"something else")
    done = shell("alphafix patch model.safetensors -o other.safetensors", work, code=1)
    assert "--overwrite" in done.stderr
    assert (work / "other.safetensors").read_bytes() == b"something else"
    assert (work / "model.alphafix.safetensors").read_bytes() == before


def test_chain__the_original_is_untouched(
    work: Path, chain: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    model = timm.create_model("test_resnet", num_classes=NUM_CLASSES)
    model.load_state_dict(load_file(work / "model.safetensors"), strict=True)
    weight = Head.load(work / "alphafix-run/head.safetensors").weight
    np.testing.assert_array_equal(model.get_classifier().weight.detach().numpy(), weight)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("alphafix neighbors --run none", "alphafix extract"),
        ("alphafix train --run none", "alphafix extract"),
        ("alphafix patch model.safetensors --run none", "alphafix extract"),
        (
            "alphafix extract --backbone timm:test_resnet --weights cut.safetensors --data data "
            "--run new",
            "cut.safetensors",
        ),
        ("alphafix patch cut.safetensors", "cut.safetensors"),
        (
            "alphafix extract --backbone timm:test_resnet --weights model.safetensors --data none "
            "--run new",
            "none",
        ),
    ],
)
def test_chain__bad_input_is_one_error_and_leaves_nothing(
    line: str,
    message: str,
    work: Path,
    chain: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    (work / "cut.safetensors").write_bytes((work / "model.safetensors").read_bytes()[:-100])
    done = shell(line, work, code=1)
    assert done.stdout == ""
    assert done.stderr.count("error: ") == 1
    assert message in done.stderr
    assert not (work / "new").exists()
    assert not (work / "none").exists()
    assert not (work / "cut.alphafix.safetensors").exists()
