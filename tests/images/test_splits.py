"""Which part of the data is which split, what is left out, and whether data has changed."""

from __future__ import annotations

import io
import logging
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alphafix.errors import InputError
from alphafix.images import fingerprints
from alphafix.images.fingerprints import CONTENT, FILES
from alphafix.images.names import given_names
from alphafix.images.spec import Details, open_data
from alphafix.images.splits import Said, SplitSources, choose_splits, open_splits
from tests.extract.colours import picture, write_pictures
from tests.extract.photos import add_member
from tests.images.test_labels import class_label, hub, labels, write_archive

NAMES = ("ant", "bee")


def opened(
    data: object, wanted: str = "", details: Details | None = None, **said: Any
) -> SplitSources:
    found = open_data(str(data), details)
    chosen = Said(**said)
    made = open_splits(found, choose_splits(found, wanted, str(data), chosen), chosen)
    made.warn()
    return made


def sizes(found: SplitSources) -> dict[str, int | None]:
    return {split: source.known_size for split, source in found.sources.items()}


def ids(found: SplitSources, split: str = "train") -> list[str]:
    source = found.sources[split]
    return [source.sample(g, i).id for g in range(source.groups) for i in range(source.size(g))]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was said."""
    caplog.set_level(logging.INFO)
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


# Names of splits


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "eval", "Valid"])
def test_names__usual_ones_of_validation(
    name: str, tmp_path: Path, told: Callable[[], str]
) -> None:
    write_pictures(tmp_path / "train", NAMES)
    write_pictures(tmp_path / name, NAMES, 3)
    assert sizes(opened(tmp_path)) == {"train": 8, "val": 6}
    assert (f"val: {tmp_path}/{name}" in told()) is (name != "val")
    assert sizes(opened(tmp_path, f"train,{name}")) == {"train": 8, "val": 6}


def test_names__what_is_beside_is_counted_and_named(
    tmp_path: Path, told: Callable[[], str]
) -> None:
    for part in ("train", "val", "valid", "holdout"):
        write_pictures(tmp_path / part, NAMES)
    (tmp_path / "scripts").mkdir()
    assert sizes(opened(tmp_path)) == {"train": 8, "val": 8}
    assert f"{tmp_path}/holdout/: 8 images: not used" in told()
    assert "split_name='val=holdout'" in told()
    assert f"{tmp_path}/valid/: 8 images: not used" in told()
    assert "scripts" not in told()
    found = opened(tmp_path, names=given_names(["val=holdout"]))
    assert found.places["val"] == f"{tmp_path}/holdout"


def test_names__two_that_could_be_meant(tmp_path: Path, told: Callable[[], str]) -> None:
    for part in ("train", "dev", "validation"):
        write_pictures(tmp_path / part, NAMES)
    assert sizes(opened(tmp_path)) == {"train": 8}
    assert "dev/: 8 images: not used" in told()
    with pytest.raises(InputError, match="dev and validation"):
        opened(tmp_path, "train,val")
    assert sizes(opened(tmp_path, "train,dev")) == {"train": 8, "val": 8}


@pytest.mark.parametrize("text", ["valid", "dev=x", "val="])
def test_names__given_wrongly(text: str) -> None:
    with pytest.raises(InputError, match="not understood"):
        given_names([text])


def test_names__given_and_not_there(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", NAMES)
    with pytest.raises(InputError, match="no split hold"):
        opened(tmp_path, names={"val": "hold"})


@pytest.mark.parametrize("kind", ["", "list:"])
def test_names__a_file_of_a_pattern_that_is_not_there_is_named(tmp_path: Path, kind: str) -> None:
    for there in ((), ("train",)):
        for split in there:
            (tmp_path / f"lt_{split}.txt").write_text("a.jpg 0\n")
        missing = "val" if there else "train"
        with pytest.raises(InputError) as error:
            opened(f"{kind}{tmp_path}/lt_{{split}}.txt", "train,val")
        first = f"the data has no split {missing}: {tmp_path}/lt_{missing}.txt is not there"
        assert str(error.value).splitlines()[0] == first


def test_names__of_lists_arrays_archives_and_hub(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / f"{part}.csv").write_text(f"path,label\n{part}.jpg,0\n")
        write_archive(tmp_path / f"{part}-0.tar", [0])
    assert sizes(opened(tmp_path)) == {"train": 1, "val": 1}
    assert set(opened(f"{tmp_path}/{{split}}-{{0..0}}.tar").sources) == {"train", "val"}
    images = np.zeros((2, 2, 2), dtype=np.uint8)
    arrays: dict[str, Any] = {
        f"{part}_{what}": value
        for part in ("train", "valid")
        for what, value in (("images", images), ("labels", np.array([0, 1])))
    }
    np.savez(tmp_path / "a.npz", **arrays)
    assert sizes(opened(tmp_path / "a.npz")) == {"train": 2, "val": 2}
    data = hub(tmp_path / "h", {part: ([0, 1], class_label(NAMES)) for part in ("train", "dev")})
    assert sizes(opened(data)) == {"train": 2, "val": 2}


def test_column__says_the_split(tmp_path: Path) -> None:
    rows = [
        ("a", "ant", "train"),
        ("b", "bee", "train"),
        ("c", "ant", "valid"),
        ("d", "bee", "test"),
    ]
    text = "".join(f"{name}.jpg,{label},{split}\n" for name, label, split in rows)
    (tmp_path / "all.csv").write_text("path,class_name,split\n" + text)
    found = opened(tmp_path / "all.csv")
    assert sizes(found) == {"train": 2, "val": 1, "test": 1}
    assert (ids(found, "val"), labels(found, "test")) == (["c.jpg"], [1])
    (tmp_path / "all.csv").write_text("path,label,split\n" + text.replace("valid", "fold 2"))
    with pytest.raises(InputError, match="column of splits"):
        opened(tmp_path / "all.csv", "train")
    details = Details(names=("fold 2",))
    assert sizes(opened(tmp_path / "all.csv", "val", details, names={"val": "fold 2"})) == {
        "val": 1
    }
    (tmp_path / "train.csv").write_text("path,label,split\n" + text)
    with pytest.raises(InputError, match="list of one split and has rows of others"):
        opened(tmp_path)


# Validation from training


def test_lists__an_image_of_two_splits_is_told(tmp_path: Path, told: Callable[[], str]) -> None:
    (tmp_path / "train.txt").write_text("a.jpg 0\nb.jpg 1\nc.jpg 0\n")
    (tmp_path / "val.txt").write_text("d.jpg 0\nx/../c.jpg 0\n./b.jpg 1\n")
    opened(tmp_path)
    assert f"2 images of val that train has too, the first {tmp_path}/c.jpg" in told()


def test_lists__of_other_images_say_nothing(tmp_path: Path, told: Callable[[], str]) -> None:
    (tmp_path / "train.txt").write_text("a.jpg 0\nb.jpg 1\n")
    (tmp_path / "val.txt").write_text("c.jpg 0\n")
    opened(tmp_path)
    assert "too, the first" not in told()


def test_val_fraction__is_drawn_by_class_with_a_seed(tmp_path: Path) -> None:
    for name, count in (("ant", 10), ("bee", 5), ("cat", 1)):
        write_pictures(tmp_path / "train" / name, [""], count)
    found = opened(tmp_path, val_fraction=0.2)
    assert sizes(found) == {"train": 13, "val": 3}
    assert sorted(labels(found, "val")) == [0, 0, 1]
    assert not set(ids(found)) & set(ids(found, "val"))
    assert len(set(ids(found)) | set(ids(found, "val"))) == 16
    assert ids(opened(tmp_path, val_fraction=0.2), "val") == ids(found, "val")
    assert ids(opened(tmp_path, "val", val_fraction=0.2), "val") == ids(found, "val")
    other = opened(tmp_path, val_fraction=0.2, val_seed=1)
    assert ids(other, "val") != ids(found, "val")
    prints = [one.sources["train"].fingerprint() for one in (found, other, opened(tmp_path))]
    assert len(set(prints)) == 3


def test_val_fraction__of_archives_and_beside_validation(tmp_path: Path) -> None:
    write_archive(tmp_path / "train-0.tar", [0, 0, 1])
    write_archive(tmp_path / "train-1.tar", [1, 1, 0])
    found = opened(f"{tmp_path}/{{split}}-{{0..1}}.tar", val_fraction=0.3)
    assert sizes(found) == {"train": 4, "val": 2}
    assert sorted(labels(found, "val")) == [0, 1]
    assert sorted(ids(found) + ids(found, "val")) == sorted(
        f"train-{part}/{number:03d}" for part in range(2) for number in range(3)
    )
    write_pictures(tmp_path / "f" / "train", NAMES)
    write_pictures(tmp_path / "f" / "valid", NAMES)
    with pytest.raises(InputError, match="validation images already"):
        opened(tmp_path / "f", val_fraction=0.3)


# What is left out


def test_folders__endings_and_what_is_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", NAMES, 2)
    folder = tmp_path / "train" / "ant"
    for number, ending in enumerate(("jfif", "JPG", "Tif", "GIF", "heic", "txt", "")):
        (folder / f"x{number}{'.' * bool(ending)}{ending}").write_bytes(b"x")
    found = opened(tmp_path)
    assert found.sources["train"].known_size == 4 + 4
    assert found.sources["train"].notes[:3] == (
        "1 file .heic left out, the first ant/x4.heic",
        "1 file .txt left out, the first ant/x5.txt",
        "1 file without ending left out, the first ant/x6",
    )
    notes = "\n".join(found.sources["train"].notes)
    assert "files .gif (1) are read, which torchvision's ImageFolder leaves out" in notes
    chosen = opened(tmp_path, details=Details.of({"endings": "png, .JPG"}))
    assert chosen.sources["train"].known_size == 5
    with pytest.raises(InputError, match=r"ant holds no images\n.*only files .png"):
        opened(tmp_path, details=Details.of({"endings": "bmp"}))


def test_folders__links_in_a_circle(tmp_path: Path, told: Callable[[], str]) -> None:
    write_pictures(tmp_path / "train", NAMES, 2)
    (tmp_path / "train" / "self").symlink_to(".")
    (tmp_path / "train" / "up").symlink_to("..")
    (tmp_path / "train" / "ant" / "round").symlink_to("../bee")
    (tmp_path / "train" / "bee" / "round").symlink_to("../ant")
    (tmp_path / "train" / "ant" / "knot").symlink_to("knot")
    found = opened(tmp_path)
    assert found.names == NAMES
    assert len(ids(found)) == 2 * (2 + 2)
    assert "2 links to a folder above left out" in "\n".join(found.sources["train"].notes)
    assert "train/self left out" in told()
    assert "train/up left out" in told()


def test_folders__name_that_is_no_utf8(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", NAMES, 2)
    os.rename(os.fsencode(tmp_path / "train" / "bee"), os.fsencode(tmp_path / "train") + b"/b\xe9e")
    found = opened(tmp_path)
    assert found.names == ("ant", "b\\xe9e")
    assert labels(found) == [0, 0, 1, 1]
    assert all(name.encode() for name in ids(found))
    content = found.sources["train"].sample(0, 3).content
    assert isinstance(content, Path)
    assert content.is_file()


def test_archives__files_of_a_mac_and_repeated_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        for name in ("a.png", "._a.png", "a.cls", "__MACOSX/._a.cls", "b.png", "b.cls"):
            add_member(archive, name, b"0")
    assert ids(opened(tmp_path / "train.tar", "train")) == ["train/a", "train/b"]
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        for name in ("a.png", "b.png", "a.cls", "b.cls"):
            add_member(archive, name, b"0")
    with pytest.raises(InputError, match=r"more than once(.|\n)*sort=name"):
        opened(tmp_path / "train.tar", "train")


def test_archives__of_one_name_in_two_folders(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_archive(tmp_path / folder / "0.tar", [0, 1])
    found = ids(opened(f"{tmp_path}/x/0.tar::{tmp_path}/y/0.tar", "train"))
    assert found == ["x/0/000", "x/0/001", "y/0/000", "y/0/001"]
    with pytest.raises(InputError, match="named more than once"):
        opened(f"{tmp_path}/x/0.tar::{tmp_path}/x/0.tar", "train")


# Whether data has changed


def archive_of(path: Path, label: str) -> None:
    data = io.BytesIO()
    picture(0).save(data, "PNG")
    with tarfile.open(path, "w") as archive:
        add_member(archive, "a.png", data.getvalue())
        add_member(archive, "a.cls", label.encode())


def array_of(path: Path, pixel: int) -> None:
    images = np.full((1, 2, 2), pixel, dtype=np.uint8)
    np.savez(path, images=images, labels=np.array([0]))


@pytest.mark.parametrize("whole", [True, False])
def test_fingerprint__follows_what_the_files_hold(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "READ_WHOLE", 1 << 20 if whole else 0)
    image = tmp_path / "f" / "train" / "ant" / "0.bmp"

    def replaced() -> None:
        Image.new("RGB", (2, 2), "red").save(tmp_path / "new.bmp")
        before = image.stat()
        os.utime(tmp_path / "new.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (tmp_path / "new.bmp").stat().st_size == before.st_size
        (tmp_path / "new.bmp").replace(image)

    archive_of(tmp_path / "train.tar", "0")
    array_of(tmp_path / "a.npz", 1)
    write_pictures(tmp_path / "f" / "train", ["ant"], 1, "bmp")
    Image.new("RGB", (2, 2), "blue").save(image)
    cases: dict[str, Callable[[], None]] = {
        str(tmp_path / "train.tar"): lambda: archive_of(tmp_path / "train.tar", "1"),
        str(tmp_path / "a.npz"): lambda: array_of(tmp_path / "a.npz", 2),
        str(tmp_path / "f"): replaced,
    }
    for data, change in cases.items():

        def found(data: str = data) -> fingerprints.Fingerprint:
            return opened(data, "train").sources["train"].fingerprint()

        before = found()
        assert before.of == (CONTENT if whole else FILES)
        assert found() == before
        size = os.stat(data).st_size
        change()
        assert os.stat(data).st_size == size
        assert found() != before, data


def test_fingerprint__of_a_hub_data_set_with_image_files(tmp_path: Path) -> None:
    import datasets

    picture(0).save(tmp_path / "a.png")
    features = datasets.Features({"image": datasets.Image(), "label": class_label(NAMES)})
    rows = {"image": [str(tmp_path / "a.png")], "label": [0]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "d"))
    before = opened(f"hf:{tmp_path / 'd'}").sources["train"].fingerprint()
    assert opened(f"hf:{tmp_path / 'd'}").sources["train"].fingerprint() == before
    picture(1).save(tmp_path / "a.png")
    after = opened(f"hf:{tmp_path / 'd'}").sources["train"].fingerprint()
    kept = open_data(f"hf:{tmp_path / 'd'}")
    stored = open_splits(kept, ["train"]).sources["train"].sample(0, 0).content
    # A data set that holds the bytes themselves does not change with the file.
    assert (after != before) is isinstance(stored, Path)
