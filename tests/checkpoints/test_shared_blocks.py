"""Copies that share blocks with the original, on file systems of their own where these can be."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.patch.extents import data_ranges, outside, shared_ranges
from alphafix.checkpoints.patch.writing import (
    BLOCK,
    PIECE,
    Span,
    VerificationError,
    fill_copy,
    is_copy,
    prove_piece,
)

# Bytes of an image: the least that both take.
IMAGE = 320 << 20


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def disk(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder on a file system that shares blocks, in an image on a loop device."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    image, place = folder / "image", folder / "disk"
    place.mkdir()
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"no mkfs.{kind} here (packages btrfs-progs and xfsprogs)")
    with image.open("wb") as file:
        file.truncate(IMAGE)
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, capture_output=True)
    command = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no image can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def source(disk: Path) -> Iterator[Path]:
    """A file of a few pieces on it, whose end is in no whole block."""
    folder = disk / "work"
    folder.mkdir()
    path = folder / "source"
    path.write_bytes(np.random.default_rng(0).bytes(2 * PIECE + 12_345))
    yield path
    shutil.rmtree(folder)


def shared(one: Path, other: Path) -> list[tuple[int, int]]:
    with one.open("rb") as original, other.open("rb") as copy:
        size = one.stat().st_size
        return shared_ranges(original.fileno(), copy.fileno(), 0, 0, size)


def test_fill_copy__shares_all_blocks_but_those_of_the_rows(source: Path) -> None:
    target = source.with_name("target")
    content = source.read_bytes()
    splices = [Splice(PIECE - 100, 5000, b"r" * 5000)]
    fill_copy(source, target, splices)
    assert target.read_bytes() == content[: PIECE - 100] + b"r" * 5000 + content[PIECE + 4900 :]
    assert source.read_bytes() == content
    changed = list(outside(shared(source, target), 2 * PIECE))
    assert changed == [(PIECE - BLOCK, PIECE + 2 * BLOCK)]
    assert is_copy(source, target, splices)


def test_fill_copy__of_moved_data_is_copied(source: Path) -> None:
    target = source.with_name("target")
    content = source.read_bytes()
    fill_copy(source, target, [Splice(0, 50, b"h" * 77)])
    assert target.read_bytes() == b"h" * 77 + content[50:]
    assert shared(source, target) == []


def test_prove_piece__sees_a_byte_that_is_not_on_the_disk_yet(source: Path) -> None:
    """In the copy or in the original: a block that is written to is shared no more."""
    target = source.with_name("target")
    piece = Span(0, 0, PIECE)
    for changed in (target, source):
        fill_copy(source, target, [])
        with changed.open("r+b", buffering=0) as file:
            file.seek(150_000)
            before = file.read(1)
            file.seek(150_000)
            file.write(bytes([before[0] ^ 1]))
        with (
            source.open("rb") as original,
            target.open("rb") as copy,
            pytest.raises(VerificationError, match="another byte at 150,000"),
        ):
            prove_piece(original.fileno(), copy.fileno(), piece, [], target)
        assert not is_copy(source, target, [])


def test_prove_piece__of_blocks_elsewhere_in_the_original_is_refused(source: Path) -> None:
    """Shared, but not with the place that they should be a copy of."""
    target = source.with_name("target")
    with source.open("rb") as original, target.open("w+b") as copy:
        os.copy_file_range(original.fileno(), copy.fileno(), PIECE, PIECE, 0)
        assert shared_ranges(original.fileno(), copy.fileno(), PIECE, 0, PIECE) == [(0, PIECE)]
        assert shared_ranges(original.fileno(), copy.fileno(), 0, 0, PIECE) == []
        with pytest.raises(VerificationError, match="another byte"):
            prove_piece(original.fileno(), copy.fileno(), Span(0, 0, PIECE), [], target)


def test_shared_ranges__of_files_that_share_nothing(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"x" * 100_000)
    assert shared(tmp_path / "one", tmp_path / "other") == []


def test_outside__what_no_range_covers() -> None:
    assert list(outside([], 10)) == [(0, 10)]
    assert list(outside([(0, 3), (2, 5), (7, 10)], 10)) == [(5, 7)]
    assert list(outside([(2, 3)], 10)) == [(0, 2), (3, 10)]


@pytest.mark.parametrize("verify", ["full", "rows"])
def test_fill_copy__of_a_file_with_holes(tmp_path: Path, verify: str) -> None:
    """They stay holes where the comparison proves them; the bytes are right in any case."""
    source, target = tmp_path / "source", tmp_path / "target"
    size = 6 * PIECE + 777
    with source.open("wb") as file:
        file.write(b"a" * 10_000)
        file.seek(3 * PIECE)
        file.write(b"b" * 10_000)
        file.truncate(size)
    splices = [Splice(10, 5, b"r" * 5), Splice(5 * PIECE, 9, b"s" * 9)]
    fill_copy(source, target, splices, verify=verify)  # type: ignore[arg-type]
    expected = bytearray(source.read_bytes())
    expected[10:15], expected[5 * PIECE : 5 * PIECE + 9] = b"r" * 5, b"s" * 9
    assert target.read_bytes() == expected
    with source.open("rb") as file:
        has_holes = list(data_ranges(file.fileno(), 0, size)) != [(0, size)]
    if verify == "full" and has_holes:
        assert target.stat().st_blocks * 512 < PIECE


def test_data_ranges__of_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    with path.open("rb") as file, pytest.raises(OSError, match="became shorter"):
        list(data_ranges(file.fileno(), 0, 1001))
