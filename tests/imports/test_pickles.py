"""Pickles: arrays come out, code never runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alphafix.errors import FileFormatError, InputError
from alphafix.foreign.pickles import read_pickle, read_pickled_features


class Evil:
    """A pickle of this makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def write(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("tensor", [False, True])
def test_features__of_every_protocol(tmp_path: Path, protocol: int, tensor: bool) -> None:
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    feats = torch.from_numpy(features) if tensor else features
    labels = [np.int64(1), 0, torch.tensor(2), 1]
    data = OrderedDict(feats=feats, labels=labels, idxs=np.arange(4))
    found = read_pickled_features(write(tmp_path / "a.pkl", data, protocol), allowed=True)
    np.testing.assert_array_equal(found.features, features)
    assert found.labels.tolist() == [1, 0, 2, 1]
    assert found.ids == ("a/0", "a/1", "a/2", "a/3")


def test_features__under_the_module_names_of_either_numpy(tmp_path: Path) -> None:
    data = {"feats": np.ones((2, 3), np.float16), "labels": np.array([0, 1])}
    written = pickle.dumps(data, protocol=2)
    for old, new in ((b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")):
        path = tmp_path / "a.pkl"
        path.write_bytes(written.replace(old, new))
        assert read_pickled_features(path, allowed=True).features.dtype == np.float32


def test_pickle__that_was_not_allowed_is_refused_and_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="allow_pickle=True"):
        read_pickle(tmp_path / "not-even-there.pkl", allowed=False)


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_pickle__that_would_run_code_runs_nothing(
    tmp_path: Path, allowed: bool, inside: bool
) -> None:
    mark = tmp_path / "mark"
    evil = Evil(mark)
    objects = np.empty(1, dtype=object)
    objects[0] = evil
    data = {"feats": objects if inside else np.ones((1, 2)), "labels": [0], "extra": evil}
    path = write(tmp_path / "evil.pkl", data)
    with pytest.raises(InputError) as caught:
        read_pickled_features(path, allowed=allowed)
    assert not mark.exists()
    # Inside of an array the array itself is refused first: it is of objects.
    reason = "a NumPy type 'O8'" if inside else "system"
    assert (reason in str(caught.value)) == allowed
    pickle.loads(path.read_bytes())  # the pickle is a real one
    assert mark.exists()


@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__", "open"])
def test_pickle__of_a_builtin_that_is_no_data_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02cbuiltins\n" + name.encode() + b"\nU\x011\x85R.")
    with pytest.raises(FileFormatError, match=rf"builtins\.{name}"):
        read_pickle(path, allowed=True)


def test_pickle__with_code_inside_of_a_tensor_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = pickle.dumps(Evil(mark), protocol=2)

    class Storage:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (inner,)

    path = write(tmp_path / "a.pkl", {"feats": Storage(), "labels": [0]})
    with pytest.raises(FileFormatError):
        read_pickled_features(path, allowed=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds no features"),
        ({"feats": np.ones((2, 3))}, "holds no features"),
        ({"feats": np.ones((2, 3)), "labels": [0]}, "do not fit together"),
        ({"feats": np.ones((2, 3), int), "labels": [0, 1]}, "do not fit together"),
        ({"feats": np.ones((2, 3)), "labels": ["a", "b"]}, "no arrays"),
    ],
)
def test_features__of_other_contents_are_an_error(
    tmp_path: Path, value: object, message: str
) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_pickled_features(write(tmp_path / "a.pkl", value), allowed=True)


def test_features__of_a_cut_or_missing_file_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pkl", {"feats": np.ones((50, 30)), "labels": [0] * 50})
    whole = path.read_bytes()
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"a\.pkl"):
            read_pickled_features(path, allowed=True)
    with pytest.raises(InputError, match="cannot read"):
        read_pickled_features(tmp_path / "none.pkl", allowed=True)


def forged(dtype: bytes, state: bytes, shape: bytes, data: bytes) -> bytes:
    """A dictionary of features whose array is made by hand of allowed names alone."""
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    kind = b"cnumpy\ndtype\n(X" + len(dtype).to_bytes(4, "little") + dtype + b"I00\nI01\ntR" + state
    whole = array + b"(K\x01" + shape + kind + b"I00\nC" + bytes([len(data)]) + data + b"tb"
    return b"\x80\x02}(X\x05\x00\x00\x00feats" + whole + b"X\x06\x00\x00\x00labels](K\x00K\x01eu."


PLAIN = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
POINTERS = PLAIN[:-3] + b"\x3ftb"
SHARED = b"\x80\x02]q\x00" + b"".join(
    b"]q" + bytes([i + 1]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(40)
)
# What weights_only makes of any length that it is told.
BUFFER = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
FORGED = {
    "an array of objects": forged(b"O8", PLAIN, b"(K\x02t", b"A" * 16),
    "a type that turns into pointers": forged(b"f8", POINTERS, b"(K\x02t", b"A" * 16),
    "a record": forged(b"V8", PLAIN, b"(K\x02t", b"A" * 16),
    "a shape of more than its bytes": forged(b"f4", PLAIN, b"(K\x02K\x7ft", b"A" * 16),
    "a shape of terabytes": forged(b"f4", PLAIN, b"(J\xff\xff\xff\x7ft", b"A" * 16),
    "a negative shape": forged(b"f4", PLAIN, b"(J\xff\xff\xff\xfft", b"A" * 16),
    "a list of gigabytes": b"cbuiltins\nlist\n(cbuiltins\nbytes\n(J\x00\x00\x00\x7ftRtR.",
    "a memo of gigabytes": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a list of itself, 2^40 times": b"\x80\x02}(X\x05\x00\x00\x00feats" + SHARED[2:] + b"X\x06"
    b"\x00\x00\x00labels](K\x00eu.",
    "gigabytes inside of a tensor": b"\x80\x02}(X\x05\x00\x00\x00feats"
    b"ctorch.storage\n_load_from_bytes\nB"
    + len(BUFFER).to_bytes(4, "little")
    + BUFFER
    + b"\x85RX\x06\x00\x00\x00labels](K\x00eu.",
    "a state of a function": b"c_codecs\nencode\n}X\x0c\x00\x00\x00__defaults__)sb.",
}


@pytest.mark.parametrize("what", FORGED)
def test_pickle__forged_of_allowed_names_is_refused_in_little_memory(
    tmp_path: Path, what: str
) -> None:
    path = tmp_path / "forged.pkl"
    path.write_bytes(FORGED[what])
    read = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from alphafix.errors import FileFormatError\n"
        "from alphafix.foreign.pickles import read_pickled_features\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "try: read_pickled_features(Path(sys.argv[1]), allowed=True)\n"
        "except FileFormatError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", read, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
