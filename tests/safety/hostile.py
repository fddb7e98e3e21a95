"""Files that are made to harm: what takes too much, what would run code, what has another shape."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as save_arrays

from alphafix.features.writer import FeatureWriter

Make = Callable[[Path, Path], None]
"""Writes a file that, if it ran code, would make the folder of the second path."""


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def data(content: bytes | str) -> Make:
    """A file of fixed content."""
    whole = content.encode() if isinstance(content, str) else content
    return lambda path, mark: _wrote(path, whole)


def _wrote(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)


def torch_zip(pickled: bytes, *, compressed: bool = False) -> Make:
    """A torch archive with another data.pkl."""
    out, new = io.BytesIO(), io.BytesIO()
    torch.save({"fc.weight": torch.zeros(3, 4)}, out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            mine = name.endswith("data.pkl")
            kind = zipfile.ZIP_DEFLATED if mine and compressed else zipfile.ZIP_STORED
            archive.writestr(name, pickled if mine else old.read(name), kind)
    return data(new.getvalue())


def code(legacy: bool) -> Make:
    """A torch file that runs code when it is unpickled."""

    def make(path: Path, mark: Path) -> None:
        torch.save({"a": Evil(mark)}, path, _use_new_zipfile_serialization=not legacy)

    return make


def pickled(path: Path, mark: Path) -> None:
    """What joblib and pickle write of an object."""
    path.write_bytes(pickle.dumps({"model": Evil(mark)}, protocol=4))


def exported(pickled: bytes, *, compressed: bool = False, legacy: bool = False) -> Make:
    """A torch.export archive with a pickle in the place of its example inputs."""

    def make(path: Path, mark: Path) -> None:
        part = path.with_name("part.pth")
        if legacy:
            part.write_bytes(pickled)
        else:
            torch_zip(pickled, compressed=compressed)(part, mark)
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(part, "m/data/sample_inputs/model.pt")

    return make


def larger(path: Path, mark: Path) -> None:
    """A torch file of the older kind whose tensor has more elements than it has numbers."""
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    size, stride = b"K\x02\x85q", b"J\xff\xff\xff\x7f\x85q"
    assert data.count(size) == 1
    path.write_bytes(data.replace(size, stride))


def scripted(path: Path, mark: Path) -> None:
    """A TorchScript archive whose pickle would run code."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Evil(mark), protocol=2))
        archive.writestr("m/constants.pkl", pickle.dumps(Evil(mark), protocol=2))


def twice(depth: int, pair: bytes) -> bytes:
    """Containers of which each holds the one before twice: 2^depth items in some bytes."""
    return b"]q\x00" + b"".join(
        b"0" + pair.replace(b"?", b"h" + bytes([i])) + b"q" + bytes([i + 1]) for i in range(depth)
    )


LISTS = b"\x80\x02}X\x01\x00\x00\x00a" + twice(30, b"](??e") + b"s."
CYCLE = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
NAMES = b"\x80\x02}" + twice(40, b"??\x86").replace(b"]", b")", 1) + b"K\x01s."
MEMO = b"\x80\x02}r\xff\xff\xff\x7f."
LONG = b"\x80\x02\x8d" + struct.pack("<Q", 1 << 40) + b"."
BYTEARRAY = b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"."
LENGTH = b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R."
SHAPE = b"\x80\x02ctorch\nFloatTensor\nctorch\nSize\nJ\xff\xff\xff\x7f\x85\x85R\x85R."
TYPED = (
    b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nTensor\nctorch\nTensor\n"
    b"J\xff\xff\xff\x7f\x85}tR."
)
GREEDY_LIST = b"\x80\x03cbuiltins\nlist\ncbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R\x85R."
ZEROS = b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85Rs."


def safetensors(header: object, size: int = 0) -> Make:
    """A safetensors file with a header and so many zeros behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return data(len(text).to_bytes(8, "little") + text + bytes(size))


def entry(shape: list[int], end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}


TWICE = b"{" + b",".join(b'"n%d":0' % (i % 60_000) for i in range(60_001)) + b"}"


def npy(shape: str, kind: str = "<f4", rest: int = 16) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(rest)


def npz(features: bytes, *, compressed: bool = False) -> Make:
    def make(path: Path, mark: Path) -> None:
        kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
            archive.writestr("features.npy", features)
            labels = io.BytesIO()
            np.save(labels, np.zeros(3, np.int64))
            archive.writestr("labels.npy", labels.getvalue())

    return make


def zip_bomb(path: Path, mark: Path) -> None:
    """300 MB of zeros in 1.4 MB."""
    block = bytes(1 << 24)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("features.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy("(4718592, 16)", rest=0))
        for _ in range(18):
            member.write(block)


def parquet(**columns: Any) -> Make:
    def make(path: Path, mark: Path) -> None:
        import pyarrow
        from pyarrow import parquet as written

        written.write_table(pyarrow.table(columns), path)

    return make


def repeated(path: Path, mark: Path) -> None:
    """40 million labels in a few kB: one label, repeated."""
    parquet(label=np.zeros(40_000_000, np.int8), features=np.zeros(40_000_000, np.int8))(path, mark)


def long_ids(path: Path, mark: Path) -> None:
    """A text of 1 MB that 4,000 samples have."""
    import pyarrow

    ids = pyarrow.DictionaryArray.from_arrays(np.zeros(4000, np.int32), ["a" * (1 << 20)])
    parquet(label=np.zeros(4000, np.int8), features=[[1.0]] * 4000, id=ids)(path, mark)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _compact(value: Any) -> tuple[int, bytes]:
    """Thrift's type of a value, and its bytes: numbers, texts, lists of one type, structures."""
    if isinstance(value, int):
        return 6, _varint(value << 1)
    if isinstance(value, bytes):
        return 8, _varint(len(value)) + value
    if isinstance(value, list):
        kind = _compact(value[0])[0] if value else 12
        body = b"".join(_compact(item)[1] for item in value)
        return 9, bytes([0xF0 | kind]) + _varint(len(value)) + body
    fields, last = b"", 0
    for number, inner in sorted(value.items()):
        kind, body = _compact(inner)
        fields, last = fields + bytes([(number - last) << 4 | kind]) + body, number
    return 12, fields + b"\x00"


def _parquet(schema: list[Any], columns: list[Any], pages: bytes = b"") -> Make:
    """A Parquet file of one group with these columns."""
    _, footer = _compact({1: 1, 2: schema, 3: 1, 4: [{1: columns, 2: 1, 3: 1}]})
    return data(b"PAR1" + pages + footer + struct.pack("<I", len(footer)) + b"PAR1")


def _column(values: int, size: int) -> dict[int, Any]:
    """A part of the column of features, whose pages have so many bytes."""
    return {2: 4, 3: {1: 4, 2: [0], 3: [b"features"], 4: 0, 5: values, 6: size, 7: size, 9: 4}}


def _page(values: int) -> bytes:
    """The header of a page that holds nothing."""
    return _compact({1: 0, 2: 0, 3: 0, 5: {1: values, 2: 0, 3: 3, 4: 3}})[1]


_SCHEMA = [{4: b"schema", 5: 1}, {1: 4, 3: 0, 4: b"features"}]
DEEP_COLUMNS = _parquet([{4: b"a", 5: 1}] * 100_000, [])
MANY_PAGES = _parquet(_SCHEMA, [_column(9, 5_000_000)], _page(0) * 300_000)
MANY_VALUES = _parquet(_SCHEMA, [_column(1 << 30, 9)], _page(1 << 30))
DENIED_VALUES = _parquet(_SCHEMA, [_column(9, 9)], _page(1 << 30))


def tar(size: bytes) -> Make:
    """An archive whose first member has another size than it has."""
    info = tarfile.TarInfo("a.cls")
    info.size = 1
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data(bytes(block) + b"1".ljust(512, b"\0") + bytes(1024))


def onnx(**external: str) -> Make:
    """A model whose weights are said to be elsewhere."""

    def make(path: Path, mark: Path) -> None:
        from onnx import TensorProto, helper

        weight = TensorProto(name="w", data_type=1, dims=[4, 3], data_location=TensorProto.EXTERNAL)
        for key, value in external.items():
            weight.external_data.add(key=key, value=value)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", 1, ["n", 4])],
            [helper.make_tensor_value_info("y", 1, ["n", 3])],
            [weight],
        )
        path.write_bytes(helper.make_model(graph).SerializeToString())

    return make


def many_axes(path: Path, mark: Path) -> None:
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=1, dims=[1] * 100_000, raw_data=bytes(4))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [], [], [weight])
    path.write_bytes(helper.make_model(graph).SerializeToString())


def told(arrays: dict[str, Any], metadata: str) -> Make:
    """A safetensors file of alphafix with metadata of another."""
    return data(save_arrays(arrays, {"alphafix": metadata}))


LAUGHS = "x0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"x{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 7)
)


def wide_manifest(path: Path, mark: Path) -> None:
    """A feature store whose manifest says another width than its shard has."""
    writer = FeatureWriter(path.parent, num_classes=2)
    writer.add(np.ones((2, 3), np.float32), np.array([0, 1]), ["a", "b"])
    writer.finish({"split": "val"})
    path.write_text(path.read_text().replace('"width": 3', '"width": 4611686018427387904'))
