"""YAML that knows where its values stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphafix.documents import nearest, parse, read_document
from alphafix.errors import FileFormatError, InputError


def test_parse__takes_on_and_yes_as_text_and_numbers_as_numbers() -> None:
    text = "on: yes\nrho: [1, 2.5, 1e-3]\nnone: ~\nempty:\nquoted: '1'\nflag: true\n"
    assert parse(text, "f").plain() == {
        "on": "yes",
        "rho": [1, 2.5, 0.001],
        "none": None,
        "empty": None,
        "quoted": "1",
        "flag": True,
    }


def test_parse__remembers_lines() -> None:
    node = parse("a: 1\nb:\n  - c: 2\n    d:\n", "file.yaml")
    item = node.value["b"].value[0]
    assert str(node.value["a"].place) == "file.yaml, line 1"
    assert str(item.value["c"].place) == "file.yaml, line 3"
    assert str(item.value["d"].place) == "file.yaml, line 4"


def test_variables__are_filled_in_with_their_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAFIX_TEST_DATA", "/data")
    text = "a: ${ALPHAFIX_TEST_DATA}/x\nb: ${ALPHAFIX_TEST_NONE:-data}/{split}.txt\n"
    assert parse(text, "f").plain() == {"a": "/data/x", "b": "data/{split}.txt"}


def test_variables__that_are_not_set_are_an_error_with_the_line() -> None:
    with pytest.raises(InputError, match=r"f, line 2: .*ALPHAFIX_TEST_NONE is not set"):
        parse("a: 1\nb: ${ALPHAFIX_TEST_NONE}\n", "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "line 2"),
        ("a: 1\na: 2\n", "line 2.*twice"),
        ("a: 1\n b: 2\n", "line 2"),
        ("? [1]\n: 2\n", "no name"),
        ("a: \0\n", "no valid YAML"),
    ],
)
def test_parse__names_the_line_of_bad_yaml(text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=f"(?s){message}"):
        parse(text, "f")


def test_read_document__of_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_document(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="UTF-8"):
        read_document(tmp_path / "binary.yaml")


def test_nearest__names_one_or_all() -> None:
    assert nearest("tran", ["train", "patch"]) == "did you mean train?"
    assert nearest("zzz", ["train", "patch"]) == "known are train, patch"
