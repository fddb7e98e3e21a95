"""The data set that ships: its counts, its images as files, and its names."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphafix.demo.glyphs import (
    Glyphs,
    GlyphSplit,
    describe_code_point,
    load_glyphs,
    unpack_images,
)
from alphafix.errors import TargetExistsError


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    """The data set, loaded once."""
    return load_glyphs()


@pytest.fixture(scope="module")
def unpacked(glyphs: Glyphs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the whole data set was unpacked into."""
    folder = tmp_path_factory.mktemp("glyphs") / "data"
    assert unpack_images(glyphs, folder) == 41_794
    return folder


def natural_key(name: str) -> list[tuple[int, str]]:
    """Order digits by value and everything else as text, as file managers do."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def test_load__split_sizes(glyphs: Glyphs) -> None:
    assert (len(glyphs.train), len(glyphs.val), len(glyphs.test)) == (32_394, 2_400, 6_000)
    assert glyphs.open_images.shape == (1_000, 16, 16)
    assert len(glyphs.open_code_points) == 1_000


def test_load__long_tail(glyphs: Glyphs) -> None:
    counts = np.bincount(glyphs.train.labels, minlength=glyphs.num_classes)
    assert (int(counts.max()), int(counts.min())) == (400, 5)
    many, few = counts > 100, counts < 20
    medium = ~many & ~few
    assert [np.count_nonzero(split) for split in (many, medium, few)] == [120, 114, 66]


def test_load__validation_and_test_are_balanced(glyphs: Glyphs) -> None:
    assert (np.bincount(glyphs.val.labels) == 8).all()
    assert (np.bincount(glyphs.test.labels) == 20).all()


def test_load__font_families_do_not_cross_splits(glyphs: Glyphs) -> None:
    train, val, test = (
        set(glyphs.face_groups[split.faces]) for split in (glyphs.train, glyphs.val, glyphs.test)
    )
    assert train.isdisjoint(val | test)
    assert val.isdisjoint(test)


def test_load__open_code_points_are_no_classes(glyphs: Glyphs) -> None:
    assert not set(glyphs.open_code_points) & set(glyphs.code_points)


def test_names__class_order_is_string_and_natural_order(glyphs: Glyphs) -> None:
    folders = list(glyphs.class_folders)
    assert len(set(folders)) == 300
    assert folders == sorted(folders) == sorted(folders, key=natural_key)
    assert all(re.fullmatch(r"[0-9]{3}-U\+[0-9A-F]{4,6}", name) for name in folders)


def test_names__for_people() -> None:
    assert describe_code_point(0x1E6F) == "U+1E6F ṯ LATIN SMALL LETTER T WITH LINE BELOW"


@pytest.mark.slow
def test_unpack__folders_are_classes_in_order(glyphs: Glyphs, unpacked: Path) -> None:
    assert sorted(path.name for path in unpacked.iterdir()) == ["open", "test", "train", "val"]
    for split in ("train", "val", "test"):
        names = sorted(path.name for path in (unpacked / split).iterdir())
        assert names == list(glyphs.class_folders)
    unknown = sorted(path.name for path in (unpacked / "open").iterdir())
    assert unknown == sorted(unknown, key=natural_key)
    assert not set(unknown) & set(glyphs.class_folders)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_unpack__files_equal_arrays(glyphs: Glyphs, unpacked: Path, name: str) -> None:
    split = getattr(glyphs, name)
    files = sorted((unpacked / name).glob("*/*.png"), key=lambda path: path.name)
    folders = [path.parent.name for path in files]
    assert folders == [glyphs.class_folders[label] for label in split.labels]
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])
    np.testing.assert_array_equal(pixels, split.images)


@pytest.mark.slow
def test_unpack__open_files_equal_arrays(glyphs: Glyphs, unpacked: Path) -> None:
    files = sorted((unpacked / "open").glob("*/*.png"), key=lambda path: path.name)
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])
    np.testing.assert_array_equal(pixels, glyphs.open_images)
    code_points = [int(path.parent.name.partition("U+")[2], 16) for path in files]
    np.testing.assert_array_equal(code_points, glyphs.open_code_points)


def test_unpack__refuses_a_folder_in_use(glyphs: Glyphs, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(TargetExistsError, match="not empty"):
        unpack_images(glyphs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_unpack__leaves_nothing_when_it_fails(glyphs: Glyphs, tmp_path: Path) -> None:
    tiny = GlyphSplit(glyphs.val.images[:9], glyphs.val.labels[:9], glyphs.val.faces[:9])
    one_image = glyphs.open_images[:1]
    broken = replace(glyphs, train=tiny, val=tiny, test=tiny, open_images=one_image)
    with pytest.raises(ValueError, match="zip"):
        unpack_images(broken, tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_import__loads_no_torch() -> None:
    code = "import sys, alphafix.demo.glyphs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
