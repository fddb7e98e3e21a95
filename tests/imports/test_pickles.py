"""Pickles: arrays come out, code never runs."""

from __future__ import annotations

import os
import pickle
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
    assert ("system" in str(caught.value)) == allowed
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
