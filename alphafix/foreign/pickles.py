"""Features in pickles, of which nothing but arrays and plain data is ever made.

A pickle names functions to call. Here only the ones that rebuild NumPy arrays, torch tensors
and plain containers are known; any other name ends the reading before it is called.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.errors import FileFormatError, InputError, option
from alphafix.features.features import FeatureArrays

_PLAIN = {
    kind.__name__: kind
    for kind in (list, dict, set, frozenset, tuple, int, float, complex, str, bytes, bool)
}


class _Refused(pickle.UnpicklingError):
    """A name that is not among the known ones."""


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return one of the known functions.

        Raises:
            _Refused: For any other name.
        """
        if module in ("builtins", "__builtin__") and name in _PLAIN:
            return _PLAIN[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 2 wrote them
            return _encode
        known = _numpy(module, name) or _torch(module, name)
        if known is None:
            raise _Refused(f"{module}.{name}")
        return known


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"bytes in {encoding}")
    return text.encode("latin1")


# What NumPy itself names in pickles of arrays and numbers; files name the modules of the
# version that wrote them.
_REBUILD: dict[str, Any] = {
    "multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "multiarray.scalar": np.float32(0).__reduce__()[0],
    "numeric._frombuffer": np.empty(1).__reduce_ex__(5)[0],
}


def _numpy(module: str, name: str) -> Any:
    if module == "numpy" and name in ("ndarray", "dtype"):
        return getattr(np, name)
    parent, _, last = module.rpartition(".")
    return _REBUILD.get(f"{last}.{name}") if parent in ("numpy.core", "numpy._core") else None


def _torch(module: str, name: str) -> Any:
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        from torch._utils import _rebuild_tensor_v2

        return _rebuild_tensor_v2
    return _load_storage if (module, name) == ("torch.storage", "_load_from_bytes") else None


def _load_storage(data: bytes) -> Any:
    """What torch does to read a tensor's numbers, but with weights_only."""
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def require_allowed(path: Path, *, allowed: bool) -> None:
    """Refuse a pickle that the user has not said may be read.

    Raises:
        InputError: If ``allowed`` is false.
    """
    if not allowed:
        raise InputError(
            f"{path} is a pickle, which can hold code that runs when it is read",
            got=f"a pickle and no {option('allow_pickle', True)}",
            expected="your word that it may be read",
            todo=f"give {option('allow_pickle', True)} if you trust where it is from (arrays and "
            "plain data alone are made of it, and any other name in it is refused), or save "
            "the arrays with numpy.savez",
        )


def read_pickle(path: Path, *, allowed: bool) -> Any:
    """Read a pickle of arrays, tensors and plain data.

    Args:
        path: The file.
        allowed: Whether the user has said that it may be read.

    Raises:
        InputError: If it is not there, or was not allowed.
        FileFormatError: If it is damaged, or names anything but arrays and plain data.
    """
    require_allowed(path, allowed=allowed)
    try:
        with path.open("rb") as file:
            # latin1 is how NumPy arrays of Python 2 come back whole.
            return _Arrays(file, encoding="latin1").load()
    except _Refused as error:
        raise FileFormatError(
            f"{path} is refused: it holds more than arrays and plain data",
            got=f"it would call {error}",
            expected="NumPy arrays, torch tensors, lists, dictionaries, numbers and text",
            todo="do not use a file of unknown origin; otherwise save its arrays with numpy.savez",
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror or str(error)) from error
    # Damaged pickles raise whatever the half-read values lead to.
    except Exception as error:
        raise FileFormatError(
            f"{path} is no whole pickle of arrays",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            todo="copy or make the file again",
        ) from error


def read_pickled_features(path: Path, *, allowed: bool) -> FeatureArrays:
    """Read the features that classifier-balancing and AlphaNet dump.

    The pickle is a dictionary of ``feats`` (N x D, or N x E x D_e of E experts) and ``labels``
    (N); its ``idxs`` are row numbers of a list file and ignored.

    Raises:
        InputError: If it is not there, or was not allowed.
        FileFormatError: If it is damaged, refused, or holds no such arrays.
    """
    data = read_pickle(path, allowed=allowed)
    if not isinstance(data, dict) or not {"feats", "labels"} <= set(data):
        raise FileFormatError(
            f"{path} holds no features",
            got=f"names {', '.join(map(str, data))}" if isinstance(data, dict) else type(data),
            expected='a dictionary of "feats" and "labels"',
        )
    try:
        features = np.asarray(data["feats"])
        labels = np.asarray([int(label) for label in data["labels"]], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: feats or labels are no arrays", got=str(error)) from error
    if features.dtype.kind != "f" or features.ndim not in (2, 3) or len(features) != len(labels):
        raise FileFormatError(
            f"features and labels of {path} do not fit together",
            got=f"feats {features.shape} {features.dtype}, {len(labels)} labels",
            expected="feats N x D of floating-point numbers, and N labels",
        )
    ids = tuple(f"{path.stem}/{row}" for row in range(len(labels)))
    return FeatureArrays.read(features.astype(np.float32, copy=False), labels, ids)
