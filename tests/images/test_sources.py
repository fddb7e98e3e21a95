"""Listing images: names, labels, order, and what is wrong with them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alphafix.errors import AlphafixError, FileFormatError, InputError
from alphafix.images.archives import ArchiveSource
from alphafix.images.labels import Known, Reading
from alphafix.images.lists import ListContent
from alphafix.images.order import in_order, read_class_map, repeated
from alphafix.images.parts import Limited
from alphafix.images.source import BadImageError
from alphafix.images.spec import open_data
from alphafix.images.splits import Said, choose_splits, open_splits
from alphafix.values.texts import Texts
from tests.extract.photos import CLASSES, add_member, make_photos, write_archives, write_folders

# Labels are class ids.
IDS = Reading("ids", None, "")


@given(st.lists(st.text(max_size=12)))
@settings(max_examples=50, deadline=None)
def test_texts__give_back_what_was_packed(texts: list[str]) -> None:
    clean = [text.encode("utf-8", "ignore").decode() for text in texts]
    packed = Texts.pack(clean)
    assert [packed[i] for i in range(len(packed))] == clean


def test_folders__names_with_spaces_other_scripts_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "é 猫"
    folder.mkdir(parents=True)
    names = [b"a b.png", "猫 ü.png".encode(), b"\xff\xfe.png"]  # the last is no UTF-8
    for name in names:
        (folder / "x").write_bytes(b"")
        (folder / "x").rename(Path(str(folder)) / name.decode("utf-8", "surrogateescape"))
    (folder / "notes.txt").write_text("no image")
    opened = open_splits(open_data(str(tmp_path)), ["train"])
    source = opened.sources["train"]
    samples = [source.sample(0, i) for i in range(source.size(0))]
    assert opened.names == ("é 猫",)
    assert all(isinstance(s.content, Path) and s.content.is_file() for s in samples)
    assert {s.id for s in samples} == {"é 猫/a b.png", "é 猫/猫 ü.png", "é 猫/\\xff\\xfe.png"}


def test_folders__empty_class_in_training_is_an_error_elsewhere_not(tmp_path: Path) -> None:
    data = write_folders(tmp_path, make_photos())
    for split in ("train", "val"):
        for file in (tmp_path / split / "bee").iterdir():
            file.unlink()
    assert open_splits(open_data(data), ["val"]).sources["val"].known_size == 4
    with pytest.raises(InputError, match=r"train/bee holds no images"):
        open_splits(open_data(data), ["train"])


def test_folders__empty_data(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="no class folders"):
        open_splits(open_data(str(tmp_path)), ["train"])
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no images"):
        open_splits(open_data(str(tmp_path / "val.txt")), ["val"])


def test_folders__unknown_class_of_a_second_split(tmp_path: Path) -> None:
    data = write_folders(tmp_path, make_photos())
    (tmp_path / "val" / "dog").mkdir()
    with pytest.raises(InputError, match="dog"):
        open_splits(open_data(data), ["train", "val"])


def test_open_split__has_no_classes(tmp_path: Path) -> None:
    data = write_folders(tmp_path, make_photos())
    (tmp_path / "val").rename(tmp_path / "open")
    opened = open_splits(open_data(data), ["train", "open"])
    assert set(np.asarray(opened.sources["open"].known_labels)) == {-1}
    assert opened.names == CLASSES


@pytest.mark.parametrize(
    ("order", "expected"), [("string", ("c1", "c10", "c2")), ("natural", ("c1", "c2", "c10"))]
)
def test_order__is_the_users_choice_where_two_differ(order: str, expected: tuple[str, ...]) -> None:
    names = ["c10", "c2", "c1"]
    assert in_order(names, order) == expected  # type: ignore[arg-type]
    with pytest.raises(InputError) as raised:
        in_order(names, None)
    assert "class 1 is 'c10' in string order, 'c2' in natural" in str(raised.value)
    assert "class_order=" in str(raised.value)
    assert "class_map=" in str(raised.value)
    assert in_order(["b", "a9", "a1"], None) == ("a1", "a9", "b")


class Counted(str):
    """A name that counts how often it is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)


def test_repeated__looks_at_each_of_many_names_a_few_times() -> None:
    names = [Counted(f"class {number}") for number in range(20_000)]
    Counted.compared = 0
    assert repeated([*names, Counted("class 7")]) == ["class 7"]
    assert Counted.compared < 4 * len(names)


def test_class_map__of_many_classes(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(20_000))
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(names))
    assert read_class_map(path) == names
    path.write_text("\n".join([*names, "class 7"]))
    with pytest.raises(InputError, match="'class 7' twice"):
        read_class_map(path)


def test_order__of_a_second_split_must_be_the_same(tmp_path: Path) -> None:
    for name in ("1", "2", "10"):
        for split in ("train", "val"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (2, 2)).save(folder / "a.png")
    data = open_data(str(tmp_path))
    first = open_splits(data, ["train"], Said(order="natural"))
    assert first.names == ("1", "2", "10")
    known = Known(first.names)
    again = open_splits(data, ["val"], known=known)
    assert again.names == first.names
    with pytest.raises(InputError, match="another order"):
        open_splits(data, ["val"], Said(order="string"), known=known)
    (tmp_path / "map.txt").write_text("1\n10\n2\n")
    with pytest.raises(InputError, match=r"class 1 is '10'"):
        open_splits(data, ["val"], Said(class_map=tmp_path / "map.txt"), known=known)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.txt", "cow\nant\nbee\n"),
        ("map.json", '["cow", "ant", "bee"]'),
        ("map.json", '{"ant": 1, "bee": 2, "cow": 0}'),
        ("map.json", '{"0": "cow", "2": "bee", "1": "ant"}'),
    ],
)
def test_class_map__forms(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_map(tmp_path / name) == ("cow", "ant", "bee")


@pytest.mark.parametrize(
    "text", ["ant\nant\n", "", '{"ant": 0, "bee": 2}', '{"a": 0, "b": 0}', "7"]
)
def test_class_map__wrong(tmp_path: Path, text: str) -> None:
    path = tmp_path / ("map.json" if text[:1] in "{7" else "map.txt")
    path.write_text(text)
    with pytest.raises(InputError, match="class map"):
        read_class_map(path)


def test_lists__prefixes_root_and_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("/old/x/a b.jpg 1\n\n/old/c.jpg\t0\nrel.jpg 1\n")
    found = ListContent.read(path, prefixes={"/old/": "new/", "/old/x/": "y/"})
    assert list(found.paths) == ["y/a b.jpg", "new/c.jpg", "rel.jpg"]
    assert [found.values[label] for label in found.labels] == ["1", "0", "1"]
    path.write_text("a.jpg 0\nonly-a-name\n")
    with pytest.raises(InputError, match="line 2"):
        ListContent.read(path)
    path.write_bytes(b"\xff\xfea.jpg 0\n")
    with pytest.raises(InputError, match="UTF-8"):
        ListContent.read(path)


def test_lists__a_label_out_of_range_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.jpg 0\nb c.jpg 3\n")
    opened = open_splits(open_data(str(tmp_path)), ["train"])
    with pytest.raises(InputError, match=r"label 3 of b c.jpg"):
        opened.check_classes(3)
    opened.check_classes(4)


def test_csv__without_the_columns(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="columns x, y"):
        open_splits(open_data(str(tmp_path)), ["train"])


def test_archives__member_that_escapes_is_bad_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        add_member(archive, "../evil.png", b"x")
        add_member(archive, "../evil.cls", b"0")
        add_member(archive, "fine.png", b"x")
        add_member(archive, "fine.cls", b"1")
    source = ArchiveSource((path,), IDS)
    evil, fine = source.sample(0, 0), source.sample(0, 1)
    assert isinstance(evil.content, BadImageError)
    assert "leaves the archive" in str(evil.content)
    assert fine.content == b"x"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar", "in"]


def test_archives__truncated_compressed_unlabelled_and_piped(tmp_path: Path) -> None:
    write_archives(tmp_path, make_photos())
    path = tmp_path / "train-0.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(FileFormatError, match="not a whole tar file"):
        ArchiveSource((path,)).size(0)
    with tarfile.open(tmp_path / "b.tar", "w:gz") as archive:
        add_member(archive, "a.png", b"x")
    with pytest.raises(FileFormatError, match="gunzip"):
        ArchiveSource((tmp_path / "b.tar",)).size(0)
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        add_member(archive, "a.png", b"x")
    with pytest.raises(InputError, match="has no class"):
        ArchiveSource((tmp_path / "c.tar",), IDS).sample(0, 0)
    with pytest.raises(InputError, match="archives are read from files"):
        open_splits(open_data("wds:pipe:curl https://example.org/{0..1}.tar"), ["train"])


def test_archives__label_in_the_json(tmp_path: Path) -> None:
    write_archives(tmp_path, make_photos())
    source = ArchiveSource((tmp_path / "train-1.tar",), IDS, label_key="label")
    assert [source.sample(0, i).label for i in range(source.size(0))] == [1, 1, 2, 2, 2, 2]


def test_limit__is_spread_over_all_classes(tmp_path: Path) -> None:
    data = write_folders(tmp_path, make_photos())
    source = open_splits(open_data(data), ["train"], Said(limit=3)).sources["train"]
    assert [source.sample(0, i).label for i in range(source.size(0))] == [0, 1, 2]


def test_limit__of_archives(tmp_path: Path) -> None:
    data = write_archives(tmp_path, make_photos())
    source = open_splits(open_data(data), ["train"], Said(limit=8)).sources["train"]
    assert isinstance(source, Limited)
    assert [source.size(group) for group in range(source.groups)] == [6, 2]


@pytest.mark.parametrize(
    ("spec", "wanted", "message"),
    [
        ("nowhere", "", "is not there"),
        ("{here}", "tset", "unknown split"),
        ("{here}", "test", "no split test"),
        ("{here}/val.txt", "train,val", "one split"),
    ],
)
def test_splits__wrong(tmp_path: Path, spec: str, wanted: str, message: str) -> None:
    (tmp_path / "val.txt").write_text("a.jpg 0\n")
    spec = spec.replace("{here}", str(tmp_path))
    with pytest.raises(AlphafixError, match=message):
        choose_splits(open_data(spec), wanted, spec)
