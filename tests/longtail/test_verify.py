from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from alphafix.commands.make_lt.options import MakeLtOptions
from alphafix.commands.make_lt.work import MANIFEST, verify_lists
from alphafix.errors import FileFormatError, InputError
from alphafix.longtail.checksums import read_checksums, verify
from tests.longtail.build import letters, made


@pytest.fixture
def made_lists(tmp_path: Path) -> Path:
    made(letters(tmp_path / "images", 30), tmp_path / "lt", open_classes=1)
    return tmp_path / "lt"


def test_verify__lists_of_a_manifest(made_lists: Path) -> None:
    found = verify_lists(MakeLtOptions(verify=made_lists / MANIFEST))
    assert set(found) == {"train.txt", "val.txt", "test.txt", "open.txt", "classes.txt"}


def test_verify__names_every_list_that_differs(made_lists: Path) -> None:
    with (made_lists / "val.txt").open("a") as file:
        file.write("a/000.png 0\n")
    (made_lists / "open.txt").unlink()
    with pytest.raises(InputError, match="2 of 5 lists") as caught:
        verify_lists(MakeLtOptions(verify=made_lists / MANIFEST))
    assert "val.txt is " in str(caught.value)
    assert "open.txt is missing" in str(caught.value)
    assert "train.txt" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("between", ["  ", " *"])
def test_verify__published_lists_beside_or_elsewhere(
    kind: str, between: str, tmp_path: Path
) -> None:
    text = b"train/n01440764/n01440764_190.JPEG 0\n"
    digest = hashlib.new(kind, text).hexdigest().upper()
    (tmp_path / "sums").write_text(f"{digest}{between}ImageNet_LT_train.txt\n\n")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "ImageNet_LT_train.txt").write_bytes(text)
    options = MakeLtOptions(verify=tmp_path / "sums", output=lists)
    assert verify_lists(options) == ("ImageNet_LT_train.txt",)
    with pytest.raises(InputError, match=r"ImageNet_LT_train\.txt is missing"):
        verify_lists(MakeLtOptions(verify=tmp_path / "sums"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sums", ""),
        ("sums", "train.txt 0123\n"),
        ("sums", "0123abcd  train.txt\n"),
        ("manifest.json", "{}"),
        ("manifest.json", '{"sha256": {"train.txt": "12"}}'),
    ],
)
def test_read__file_without_checksums(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FileFormatError, match="holds no checksums"):
        read_checksums(tmp_path / name)


def test_read__missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        read_checksums(tmp_path / "none")


def test_verify__hashes_of_the_manifest_are_those_of_the_files(made_lists: Path) -> None:
    recorded = json.loads((made_lists / MANIFEST).read_text())["sha256"]
    for name, digest in recorded.items():
        assert hashlib.sha256((made_lists / name).read_bytes()).hexdigest() == digest
    assert verify(recorded, made_lists)
