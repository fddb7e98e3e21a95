"""Safetensors headers: everything valid is read as the library reads it, all else is refused."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from alphafix.checkpoints.formats.safetensors_header import read_header
from alphafix.checkpoints.formats.safetensors_metadata import metadata_splice
from alphafix.checkpoints.formats.tensors import read_values
from alphafix.checkpoints.patch.writing import fill_copy
from alphafix.errors import FileFormatError

NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
KINDS = st.sampled_from(["<f4", "<f2", "<i8", "|u1"])
TENSORS = st.dictionaries(NAMES, st.tuples(SHAPES, KINDS), max_size=5)
# An empty table that the library writes is not valid JSON where there are no tensors.
ENTRIES = st.dictionaries(st.text(max_size=8), st.text(max_size=8), min_size=1, max_size=3)
METADATA = st.none() | ENTRIES


def write(folder: str, tensors: dict[str, Any], metadata: dict[str, str] | None) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 100, size=shape).astype(kind)
        for name, (shape, kind) in tensors.items()
    }
    path = Path(folder) / "model.safetensors"
    save_file(arrays, path, metadata=metadata)
    return path


@settings(max_examples=60, deadline=None)
@given(tensors=TENSORS, metadata=METADATA)
def test_read_header__agrees_with_the_library(
    tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, tensors, metadata)
        header = read_header(path)
        with safe_open(path, framework="numpy") as file:
            assert {t.name for t in header.tensors} == set(file.keys())
            assert header.metadata == (file.metadata() or {})
            for tensor in header.tensors:
                expected = file.get_tensor(tensor.name)
                assert tensor.shape == expected.shape
                if tensor.dtype in ("float32", "float16"):
                    np.testing.assert_array_equal(read_values(tensor), expected)


@settings(max_examples=60, deadline=None)
@given(tensors=TENSORS, metadata=METADATA, key=st.text(max_size=6), value=st.text(max_size=9000))
def test_metadata_splice__adds_one_entry_and_keeps_the_rest(
    tensors: dict[str, Any], metadata: dict[str, str] | None, key: str, value: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, tensors, metadata)
        target = path.with_name("copy.safetensors")
        fill_copy(path, target, [metadata_splice(path, key, value)])
        before, after = read_header(path), read_header(target)
        added = {k: v for k, v in after.metadata.items() if k not in before.metadata}
        assert list(added.values()) == [value]
        assert {k: after.metadata[k] for k in before.metadata} == before.metadata
        assert (after.data_start - before.data_start) % 4096 == 0
        old, new = path.read_bytes(), target.read_bytes()
        assert new[after.data_start :] == old[before.data_start :]
        assert [(t.name, t.dtype, t.shape) for t in after.tensors] == [
            (t.name, t.dtype, t.shape) for t in before.tensors
        ]
        with safe_open(target, framework="numpy") as file:
            assert file.metadata() == after.metadata


@settings(max_examples=150, deadline=None)
@given(data=st.data(), tensors=TENSORS, metadata=METADATA)
def test_read_header__a_damaged_front_is_refused_or_harmless(
    data: st.DataObject, tensors: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    """Any bytes changed, cut off or added: an error of ours, or offsets inside the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, tensors, metadata)
        whole = bytearray(path.read_bytes())
        front = min(len(whole), read_header(path).data_start + 4)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, front - 1))
            whole[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
        path.write_bytes(bytes(whole[:cut]) + data.draw(st.binary(max_size=8)))
        try:
            header = read_header(path)
        except FileFormatError:
            return
        size = path.stat().st_size
        assert all(header.data_start <= t.offset <= size for t in header.tensors)


def raw(header: str | dict[str, Any], data: bytes = b"", *, length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> Any:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


TWICE = '{"a":%s,"a":%s}' % ((json.dumps(tensor(0, 4)),) * 2)

BROKEN = {
    "empty": (b"", "no header"),
    "short": (b"\0\0\0", "no header"),
    "length beyond the file": (raw({}, length=1000), "length does not fit"),
    "length of all ones": (b"\xff" * 16, "length does not fit"),
    "no JSON": (raw("hello"), "no JSON object"),
    "broken JSON": (raw('{"a": '), "header is not valid"),
    "not UTF-8": (struct.pack("<Q", 3) + b'{"\xff', "header is not valid"),
    "a constant": (raw('{"a": NaN}'), "the constant NaN"),
    "nested without end": (raw("{" + '"a":{' * 90_000), "header is not valid"),
    "a name twice": (raw(TWICE, b"\0" * 4), "'a' twice"),
    "overlap": (raw({"a": tensor(0, 8), "b": tensor(4, 12)}, b"\0" * 12), "overlaps"),
    "hole": (raw({"a": tensor(0, 4), "b": tensor(8, 12)}, b"\0" * 12), "leaves a hole"),
    "beyond the end": (raw({"a": tensor(0, 400)}, b"\0" * 12), "truncated"),
    "bytes at the end": (raw({"a": tensor(0, 4)}, b"\0" * 12), "goes on behind"),
    "wrong size": (raw({"a": tensor(0, 8, [3])}, b"\0" * 8), "do not fit its shape"),
    "backwards": (raw({"a": tensor(8, 0, [2])}, b"\0" * 8), "do not fit its shape"),
    "negative": (raw({"a": tensor(-4, 0)}, b""), "not described"),
    "huge": (raw({"a": tensor(0, 4, [2**62, 2**62])}, b"\0" * 4), "do not fit its shape"),
    "text as size": (raw({"a": tensor(0, 4, ["1"])}, b"\0" * 4), "not described"),
    "truth as size": (raw({"a": tensor(0, 4, [True])}, b"\0" * 4), "not described"),
    "unknown dtype": (raw({"a": tensor(0, 4, [1], "F33")}, b"\0" * 4), "unknown dtype"),
    "no dtype": (raw({"a": {"shape": [1]}}, b""), "not described"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "table of texts"),
    "metadata as list": (raw({"__metadata__": []}), "table of texts"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_read_header__broken(case: str, tmp_path: Path) -> None:
    data, message = BROKEN[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(FileFormatError) as caught:
        read_header(path)
    text = str(caught.value)
    assert message in text
    assert all(part in text for part in ("got:", "expected:", "to do:"))
