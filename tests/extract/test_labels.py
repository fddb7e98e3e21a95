"""What `alphafix extract` says of labels and of the base head, before anything is built on it."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.extract.options import ExtractOptions
from alphafix.errors import TargetExistsError
from alphafix.features.store import FeatureStore
from alphafix.metrics.doubts import Hits
from alphafix.metrics.predictions import predict
from alphafix.metrics.samples import sample_doubts
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from tests.extract.colours import picture, write_pictures
from tests.extract.photos import add_member
from tests.stages import extract

SIX = ("ant", "bee", "cat", "dog", "eel", "fox")
TWELVE = tuple(map(str, range(12)))


def options(folder: Path, data: object, net: str = "six", **more: Any) -> ExtractOptions:
    backbone = f"python:tests.extract.colours:{net}"
    return ExtractOptions(
        run=folder / "run", backbone=backbone, data=str(data), workers=0, batch_size=7, **more
    )


def run(folder: Path, data: object, *more: str, net: str = "six") -> dict[str, Any]:
    """What the command gives, with what it says under "stderr"."""
    done = CliRunner().invoke(
        app,
        [
            *("extract", "--run", str(folder / "run"), "--data", str(data), "--workers", "0"),
            *("--backbone", f"python:tests.extract.colours:{net}", "--json", *more),
        ],
    )
    assert done.exit_code == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def write(folder: Path, names: Sequence[str] = SIX) -> Path:
    write_pictures(folder / "train", names, 5)
    write_pictures(folder / "valid", names, 4)
    return folder


def class_map(folder: Path, names: Sequence[str]) -> str:
    path = folder / "map.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return str(path)


def test_extract__says_how_labels_were_read_and_how_good_the_base_head_is(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    found = run(tmp_path, data)
    assert found["labels"] == {
        "read_as": "names",
        "order": "folder names in string order",
        "splits": {
            "train": {
                "images": f"{data}/train",
                "labels": "folder names",
                "read_as": "names",
                "example": ["ant", 0],
            },
            "val": {
                "images": f"{data}/valid",
                "labels": "folder names",
                "read_as": "names",
                "example": ["ant", 0],
            },
        },
    }
    assert found["doubts"] == []
    head = Head.load(tmp_path / "run/head.safetensors")
    for split in ("train", "val"):
        store = FeatureStore.open(tmp_path / "run/features" / split)
        right = predict(store, [head.logits])[0].predicted == store.labels
        assert found["base_accuracy"][split]["overall"] == 100 * right.mean()
    assert found["base_accuracy"]["val"]["overall"] > 80
    written = json.loads((tmp_path / "run/classes.json").read_text())
    assert written["labels"] == {"read_as": "names", "order": "folder names in string order"}
    shown = CliRunner().invoke(app, ["extract", "--run", str(tmp_path / "run"), "--data", str(data),
        "--workers", "0", "--backbone", "python:tests.extract.colours:six"]).stderr  # fmt: skip
    assert "How labels were read (order of classes: folder names in string order)" in shown
    assert "ant = 0 (ant)" in shown
    assert "Base accuracy (%)" in shown
    assert "transform: from python:tests.extract.colours:six transform" in shown


def test_extract__of_so_few_images_that_nothing_can_follow_says_so(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    words = ["extract", "--run", str(tmp_path / "run"), "--data", str(data), "--workers", "0"]
    words += ["--backbone", "python:tests.extract.colours:six", "--limit", "3"]
    said = CliRunner().invoke(app, words).stderr
    assert "next: " not in said
    assert "before the next command: " in said
    assert "classes have no training samples" in said
    assert "--limit has left images out" in said


def test_run__of_an_option_that_only_the_stage_has_says_how_to_set_it(tmp_path: Path) -> None:
    data = write(tmp_path / "data", TWELVE)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"run: {tmp_path / 'run'}\nstages:\n  - extract:\n      data: {data}\n      workers: 0\n"
        "      backbone: python:tests.extract.colours:twelve\n"
    )
    said = CliRunner().invoke(app, ["run", str(recipe)]).stderr
    assert "--set extract.class_order=string" in said
    assert "--class-order" not in said
    setting = ["--set", "extract.class_order=natural"]
    assert CliRunner().invoke(app, ["run", str(recipe), *setting]).exit_code == 0
    again = CliRunner().invoke(app, ["run", str(recipe), *setting, "--set", "extract.limit=3"])
    assert "give --overwrite" in again.stderr  # which the command has itself
    assert "--set" not in again.stderr


def test_extract__another_order_than_the_models_is_told(tmp_path: Path) -> None:
    data = write(tmp_path / "data", TWELVE)
    wrong = run(tmp_path / "a", data, "--class-order", "string", net="twelve")
    assert wrong["base_accuracy"]["train"]["overall"] < 25
    assert len(wrong["doubts"]) >= 1
    assert "look like a permutation of the labels (10 of 12 classes" in wrong["doubts"][0]
    assert "10 is predicted as 8, 11 is predicted as 9" in wrong["doubts"][0]
    assert "--class-map FILE" in wrong["doubts"][0]
    assert wrong["doubts"][0] in " ".join(wrong["stderr"].split())
    right = run(tmp_path / "b", data, "--class-order", "natural", net="twelve")
    assert right["doubts"] == []
    assert right["base_accuracy"]["val"]["overall"] > 80


def test_extract__two_classes_that_changed_places_are_told(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    swapped = class_map(tmp_path, ("ant", "cat", "bee", "dog", "eel", "fox"))
    found = run(tmp_path, data, "--class-map", swapped)
    assert found["base_accuracy"]["train"]["overall"] > 50
    (doubt,) = found["doubts"]
    assert "2 of 6 classes: cat is predicted as bee, bee is predicted as cat" in doubt


def test_extract__head_near_chance_is_told(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data/train", SIX, 5)
    for file in (tmp_path / "data/train").rglob("*.png"):
        Image.new("RGB", (8, 8), "white").save(file)
    found = run(tmp_path, tmp_path / "data")
    (doubt,) = found["doubts"]
    assert "right on 16.7% of train, which is about chance (16.7%)" in doubt
    assert "--mean" in doubt


def archive(path: Path, texts: Sequence[str]) -> None:
    with tarfile.open(path, "w") as file:
        for number, text in enumerate(texts):
            data = io.BytesIO()
            picture(number % 6, number).save(data, "PNG")
            add_member(file, f"{number:03d}.png", data.getvalue())
            add_member(file, f"{number:03d}.cls", text.encode())


def stored(folder: Path, split: str = "train") -> list[int]:
    return list(map(int, FeatureStore.open(folder / "run/features" / split).labels))


def test_extract__corrected_labels_of_the_same_size_are_other_data(tmp_path: Path) -> None:
    archive(tmp_path / "train.tar", [str(i % 6) for i in range(12)])
    data = tmp_path / "{split}.tar"
    extract(options(tmp_path, data))
    size = (tmp_path / "train.tar").stat().st_size
    archive(tmp_path / "train.tar", [str(5 - i % 6) for i in range(12)])
    assert (tmp_path / "train.tar").stat().st_size == size
    with pytest.raises(TargetExistsError, match="data_sha256"):
        extract(options(tmp_path, data))
    extract(options(tmp_path, data, overwrite=True))
    assert stored(tmp_path) == [5 - i % 6 for i in range(12)]
    info = FeatureStore.open(tmp_path / "run/features/train").info
    assert info["provenance"]["options"]["data_hashed"] == "content"


def test_extract__another_class_map_of_archives_is_another_result(tmp_path: Path) -> None:
    archive(tmp_path / "train.tar", [SIX[i % 6] for i in range(12)])
    data = tmp_path / "{split}.tar"
    extract(options(tmp_path, data))
    assert stored(tmp_path) == [i % 6 for i in range(12)]
    class_map(tmp_path, SIX[::-1])
    extract(options(tmp_path, data, class_map=tmp_path / "map.txt", overwrite=True))
    assert stored(tmp_path) == [5 - i % 6 for i in range(12)]
    assert ClassTable.load(tmp_path / "run/classes.json").names == SIX[::-1]


def test_extract__later_splits_are_read_as_the_first(tmp_path: Path) -> None:
    write_pictures(tmp_path, SIX, 2)
    lines = [f"{name}/{i}.png {label}\n" for label, name in enumerate(SIX) for i in range(2)]
    (tmp_path / "train.txt").write_text("".join(lines))
    (tmp_path / "val.txt").write_text("".join(line for line in lines if line[-2] in "12"))
    names = class_map(tmp_path, list("543210"))  # numbers that are not their own
    extract(options(tmp_path, tmp_path, split="train", class_map=names, label_kind="ids"))
    assert stored(tmp_path) == [label for label in range(6) for _ in range(2)]
    extract(options(tmp_path, tmp_path, split="val"))
    assert stored(tmp_path, "val") == [1, 1, 2, 2]
    assert ClassTable.load(tmp_path / "run/classes.json").names == tuple("543210")


def test_extract__validation_from_training(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data/train", SIX, 5)
    found = run(tmp_path, tmp_path / "data", "--val-fraction", "0.2")
    assert found["samples"] == {"train": 24, "val": 6}
    assert sorted(stored(tmp_path, "val")) == list(range(6))
    assert "0.2 of each class, drawn with seed 0" in found["labels"]["splits"]["val"]["images"]
    again = run(tmp_path, tmp_path / "data", "--val-fraction", "0.2")
    assert "up to date" in again["stderr"]
    assert ClassTable.load(tmp_path / "run/classes.json").counts.tolist() == [4] * 6


def test_extract__validation_that_the_model_was_trained_on_is_told(tmp_path: Path) -> None:
    """A model that knows all of them, as far as can be seen."""
    write_pictures(tmp_path / "data/train", SIX, 30)
    found = run(tmp_path, tmp_path / "data", "--val-fraction", "0.2", "--few-below", "5")
    (doubt,) = found["doubts"]
    assert doubt.startswith("val is made of training images")
    assert re.search(
        r"right on \d+\.\d% of it \(\d+\.\d% of train\): the model was probably", doubt
    )
    assert "--holdout 0.2 and --holdout-head crt" in doubt


def test_sample_doubts__a_model_that_is_worse_on_them_has_not_seen_them() -> None:
    def hits(right: int, samples: int) -> Hits:
        return Hits(np.array([right, right]), np.array([samples, samples]))

    made = {"train": {}, "val": {"val_fraction": 0.1}}
    seen = {"train": hits(490, 500), "val": hits(49, 50)}
    unseen = {"train": hits(490, 500), "val": hits(40, 50)}
    assert len(sample_doubts(made, seen)) == 1
    assert sample_doubts(made, unseen) == []
    assert sample_doubts({"train": {}, "val": {}}, seen) == []


def test_extract__figures_that_are_not_what_they_seem_are_told(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data/train", SIX, 5)
    write_pictures(tmp_path / "data/val", SIX, 3)
    (tmp_path / "data/test").symlink_to("val")
    found = run(tmp_path / "a", tmp_path / "data", "--few-below", "5")
    assert ["val and test hold the same samples" in doubt for doubt in found["doubts"]] == [True]
    found = run(tmp_path / "b", tmp_path / "data", "--few-below", "5", "--limit", "12")
    assert "few, medium and many are counted of 12 training images alone" in found["doubts"][-1]


def test_extract__images_of_no_known_class_are_counted_as_that(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data/train", SIX, 5)
    write_pictures(tmp_path / "data/open", ("gnu", "hen"), 3)
    found = run(tmp_path, tmp_path / "data", "--split", "train,open")
    assert "train: 30 images, 5 of each of 6 classes" in found["stderr"]
    assert "open: 6 images of no known class" in found["stderr"]
    assert list(found["base_accuracy"]) == ["train"]


def test_extract__values_that_are_cut_are_told(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    for number in range(3):
        deep.save(tmp_path / f"data/train/ant/x{number}.png")
    found = run(tmp_path, data)
    assert found["cut"] == {"train": 3, "val": 0}
    shown = CliRunner().invoke(app, ["extract", "--run", str(tmp_path / "run"), "--data", str(data),
        "--workers", "0", "--backbone", "python:tests.extract.colours:six"]).stderr  # fmt: skip
    assert "3 images of train with more than 8 bits a channel" in shown.replace("\n", " ")
