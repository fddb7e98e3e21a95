from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphafix.commands.make_lt.work import MANIFEST, PICTURE
from alphafix.errors import InputError, TargetExistsError
from alphafix.images.spec import Details, open_data
from alphafix.images.splits import Said, open_splits
from tests.longtail.build import LETTERS, class_folders, letters, lines, made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letters(tmp_path_factory.mktemp("data") / "images")


def test_lists__long_tailed_and_balanced(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "lt", min_images=2)
    counts = found.lists.counts("train")
    assert (counts[0], counts[-1]) == (20, 2)
    assert (np.diff(counts) <= 0).all()
    assert found.lists.counts("val").tolist() == [3] * 8
    assert found.lists.counts("test").tolist() == [4] * 8
    assert not (tmp_path / "lt" / "open.txt").exists()
    assert (tmp_path / "lt" / "classes.txt").read_text().split() == list(LETTERS)


def test_lists__share_no_image(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "lt", open_classes=2)
    paths = [
        path
        for split in ("train", "val", "test", "open")
        for path, _ in lines(tmp_path / "lt", split)
    ]
    assert len(paths) == len(set(paths))
    assert all((data / path).is_file() for path in paths)


def test_lists__are_what_extract_reads(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "lt", open_classes=2)
    opened = open_data(str(tmp_path / "lt"), Details(root=data))
    found = open_splits(
        opened, ("train", "val", "test", "open"), Said(class_map=tmp_path / "lt/classes.txt")
    )
    found.check_classes(6)
    assert found.names is not None
    for split, source in found.sources.items():
        sample = source.sample(0, 0)
        with Image.open(data / sample.id) as image:
            color = image.getpixel((0, 0))
        assert isinstance(color, tuple)
        letter = LETTERS[int(color[0])]
        if split == "open":
            assert sample.label == -1
            assert letter not in found.names
        else:
            assert found.names[sample.label] == letter


def test_lists__same_bytes_again_and_others_with_another_seed(data: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        made(data, tmp_path / name, open_classes=1, seed=seed)
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two", "three")
    ]
    assert contents[0] == contents[1]
    assert contents[0]["train.txt"] != contents[2]["train.txt"]


def test_lists__another_distribution_keeps_val_and_test_and_nests(
    data: Path, tmp_path: Path
) -> None:
    made(data, tmp_path / "large", max_images=30)
    made(data, tmp_path / "small", max_images=10)
    for name in ("val.txt", "test.txt"):
        assert (tmp_path / "large" / name).read_bytes() == (tmp_path / "small" / name).read_bytes()
    assert set(lines(tmp_path / "small", "train")) < set(lines(tmp_path / "large", "train"))


def test_lists__random_order_is_not_that_of_ids(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "lt", order="random")
    counts = found.lists.counts("train")
    by_id = made(data, tmp_path / "id").lists.counts("train")
    assert sorted(counts.tolist()) == sorted(by_id.tolist())
    assert counts.tolist() != by_id.tolist()


def test_lists__order_by_size_gives_most_to_large_classes(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"a": 14, "b": 40, "c": 22})
    found = made(data, tmp_path / "lt", order="size", max_images=None, val=2, test=2)
    assert np.argsort(-found.lists.counts("train")).tolist() == [1, 2, 0]
    assert found.lists.available.tolist() == [10, 36, 18]


def test_lists__as_many_as_the_classes_allow_by_default(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"a": 31, "b": 25, "c": 25})
    found = made(data, tmp_path / "lt", max_images=None, val=2, test=2)
    assert found.lists.counts("train")[0] == 27


def test_lists__given_counts(data: Path, tmp_path: Path) -> None:
    text = ",".join(f"{name}={9 - i}" for i, name in enumerate(LETTERS))
    found = made(data, tmp_path / "lt", counts=text, max_images=None)
    assert found.lists.counts("train").tolist() == [9, 8, 7, 6, 5, 4, 3, 2]


def test_lists__parts_give_val_and_test(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part, size in (("train", 20), ("val", 6)):
        class_folders(root / part, dict.fromkeys("abc", size))
    made(root, tmp_path / "one", max_images=10, test=4, val=3)
    made(root, tmp_path / "two", max_images=10, test=6, val=3, test_from="val", val_from="train")
    beginnings = [
        {
            split: {path.split("/")[0] for path, _ in lines(tmp_path / name, split)}
            for split in LISTS
        }
        for name in ("one", "two")
    ]
    assert beginnings[0] == {"train": {"train"}, "val": {"val"}, "test": {"train"}}
    assert beginnings[1] == {"train": {"train"}, "val": {"train"}, "test": {"val"}}


LISTS = ("train", "val", "test")


def test_lists__natural_class_order(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"c1": 10, "c10": 10, "c2": 10})
    settings = {"max_images": 5, "val": 1, "test": 1}
    assert made(data, tmp_path / "one", **settings).lists.names == ("c1", "c10", "c2")
    natural = made(data, tmp_path / "two", class_order="natural", **settings)
    assert natural.lists.names == ("c1", "c2", "c10")


def test_open__named_and_drawn_classes_are_in_no_other_list(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "lt", open=("c",), open_classes=2, open_images=7)
    assert len(found.lists.open_names) == 3
    assert "c" in found.lists.open_names
    assert len(found.lists.names) == 5
    opened = lines(tmp_path / "lt", "open")
    assert {label for _, label in opened} == {-1}
    assert len(opened) == 21
    for split in LISTS:
        classes = {path.split("/")[0] for path, _ in lines(tmp_path / "lt", split)}
        assert classes == set(found.lists.names)


def test_open__from_another_folder(data: Path, tmp_path: Path) -> None:
    elsewhere = class_folders(tmp_path / "elsewhere", {"x": 5, "y": 4})
    found = made(data, tmp_path / "lt", open_data=elsewhere)
    assert found.lists.open_names == ("x", "y")
    opened = lines(tmp_path / "lt", "open")
    assert len(opened) == 9
    assert all((data / path).is_file() for path, _ in opened)


def test_open__folder_without_class_folders(data: Path, tmp_path: Path) -> None:
    elsewhere = class_folders(tmp_path, {"unknown": 5}) / "unknown"
    made(data, tmp_path / "lt", open_data=elsewhere)
    assert len(lines(tmp_path / "lt", "open")) == 5


def test_open__overlap_of_names(data: Path, tmp_path: Path) -> None:
    elsewhere = class_folders(tmp_path / "elsewhere", {"x": 5, "b": 4})
    with pytest.raises(InputError, match=r"1 class of .*elsewhere in .*\n.*b"):
        made(data, tmp_path / "lt", open_data=elsewhere)
    assert not (tmp_path / "lt").exists()


def test_open__overlap_of_images(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"a": 9, "b/inner": 9})
    with pytest.raises(InputError, match="the open images overlap"):
        made(data, tmp_path / "lt", open_data=data / "b" / "inner", max_images=2, min_images=2)


def test_error__class_with_too_few_images(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"a": 40, "b": 11, "c": 40})
    with pytest.raises(InputError, match=r"1 of 3 classes have too few images") as caught:
        made(data, tmp_path / "lt", min_images=20)
    text = str(caught.value)
    assert "'b' has 11 images in train, of 20 for train + 3 for val + 4 for test" in text
    assert "order='size'" in text
    assert list(tmp_path.iterdir()) == [data]


def test_error__no_distribution_fits(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"a": 40, "b": 9, "c": 40})
    with pytest.raises(InputError, match=r"'b' with 2 training images.*\n.*at least 5 in every"):
        made(data, tmp_path / "lt", max_images=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"open": ("z",)}, "an open class is not there"),
        ({"open_classes": 7}, "too few known classes are left"),
        ({"open_classes": 1, "open_images": 41}, "an open class has too few images"),
        ({"test_from": "val"}, "has no part val"),
        ({"open_data": Path("nowhere")}, "nowhere is not there"),
        ({"distribution": "exponential", "imbalance": 25.0}, "'h' with 0"),
    ],
)
def test_error__says_what_is_wrong(
    options: dict[str, object], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        made(data, tmp_path / "lt", **options)
    assert list(tmp_path.iterdir()) == []


def test_error__class_without_training_images(tmp_path: Path) -> None:
    root = tmp_path / "images"
    class_folders(root / "train", dict.fromkeys("abc", 20))
    class_folders(root / "test", dict.fromkeys("abcd", 6))
    with pytest.raises(InputError, match=r"1 class has no training images\n.*d"):
        made(root, tmp_path / "lt", max_images=10)
    found = made(root, tmp_path / "lt", max_images=10, open=("d",))
    assert found.lists.open_names == ("d",)
    assert {path for path, _ in lines(tmp_path / "lt", "open")} == {
        f"test/d/{index:03d}.png" for index in range(6)
    }


def test_error__name_that_no_list_can_hold(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "images", {"a": 5, "b\tb": 5})
    with pytest.raises(InputError, match=r"cannot be written into a list\n.*b\\tb"):
        made(data, tmp_path / "lt", max_images=2, min_images=1, val=1, test=1)


def test_output__filled_folder_is_refused_and_replaced_on_demand(
    data: Path, tmp_path: Path
) -> None:
    made(data, tmp_path / "lt", open_classes=1)
    (tmp_path / "lt" / "notes.md").write_text("mine")
    before = (tmp_path / "lt" / "train.txt").read_bytes()
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        made(data, tmp_path / "lt", seed=3)
    assert (tmp_path / "lt" / "train.txt").read_bytes() == before
    made(data, tmp_path / "lt", seed=3, overwrite=True)
    assert (tmp_path / "lt" / "train.txt").read_bytes() != before
    assert not (tmp_path / "lt" / "open.txt").exists()
    assert (tmp_path / "lt" / "notes.md").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["lt"]


def test_output__nothing_is_left_of_a_failed_write(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        made(data, tmp_path / "file" / "lt")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_manifest__says_how_the_lists_were_made(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "lt", open=("h",), seed=5)
    manifest = json.loads((tmp_path / "lt" / MANIFEST).read_text())
    assert manifest == found.manifest
    assert manifest["images"]["val"] == 21
    assert manifest["classes"][0] == {
        "id": 0, "name": "a", "train": 20, "val": 3, "test": 4, "available": 33,
    }  # fmt: skip
    assert manifest["open_classes"] == ["h"]
    assert manifest["provenance"]["options"]["seed"] == 5
    assert str(tmp_path) not in json.dumps(manifest)


def test_picture__is_an_image(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "lt")
    with Image.open(tmp_path / "lt" / PICTURE) as image:
        image.load()
        assert image.size[0] > 300
