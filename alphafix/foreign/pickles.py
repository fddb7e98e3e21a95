"""Features in pickles, of which nothing but arrays and plain data is ever made.

A pickle names functions to call and states to set. Here a name stands for one of the few stand-ins
below, which look at what they are given before any array is made; every other name, and a state of
anything else, ends the reading. So a pickle of allowed names alone can forge no array of object
pointers, and no length that the file itself does not have.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alphafix.checkpoints.formats.torch_format import load_torch_bytes
from alphafix.errors import FileFormatError, InputError, counted, option
from alphafix.features.features import FeatureArrays
from alphafix.reading.boundary import require_file
from alphafix.reading.unpickling import Unpickler, require_plain_keys
from alphafix.values.arrays import Array

# Kinds of NumPy's types that are numbers or text: never objects ("O"), records or dates.
_KINDS = "biufcSU"


class _Refused(pickle.UnpicklingError):
    """A name that is not among the known ones, or a state that no plain value has."""


class _Type:
    """Stands for a NumPy element type until it is needed."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = str(name)
        self.order: Literal["<", ">", "|", "="] = "="
        if self.name.lstrip("<>|=")[:1] not in _KINDS:
            raise _Refused(f"a NumPy type {self.name!r}")

    def set_state(self, state: object) -> None:
        """Take the byte order, and refuse a state that numbers do not have."""
        if not isinstance(state, tuple) or len(state) < 8 or state[2:5] != (None, None, None):
            raise _Refused("a NumPy type with parts")
        if state[1] not in ("<", ">", "|", "=") or (len(state) > 7 and state[7] not in (0, 8)):
            raise _Refused("a NumPy type that is not plain")
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """The type itself."""
        try:
            found = np.dtype(self.name)
        except TypeError as error:
            raise _Refused(f"a NumPy type {self.name!r}") from error
        if found.kind not in _KINDS or found.itemsize == 0:
            raise _Refused(f"a NumPy type {self.name!r}")
        return found if self.order == "|" else found.newbyteorder(self.order)


class _Rows:
    """Stands for a NumPy array until its state says what is in it."""

    def __init__(self, *_: object) -> None:
        self.values: Array = np.zeros(0)

    def set_state(self, state: object) -> None:
        """Take (version, shape, type, whether columns come first, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("an array of another form")
        _, shape, kind, columns_first, data = state
        self.values = _array(data, kind, shape, "F" if columns_first else "C")


def _array(data: object, kind: object, shape: object, order: object = "C") -> Array:
    """An array of the bytes that are there, no more and no fewer."""
    if isinstance(data, str):  # bytes, as Python 2 wrote them
        data = data.encode("latin1")
    sizes = shape if isinstance(shape, tuple) else ()
    whole = all(isinstance(size, int) and 0 <= size < 2**48 for size in sizes)
    if not isinstance(kind, _Type) or not isinstance(data, (bytes, bytearray)) or not whole:
        raise _Refused("an array without type, bytes or shape")
    dtype = kind.dtype()
    if not isinstance(shape, tuple) or len(data) != math.prod(sizes) * dtype.itemsize:
        raise _Refused("an array of another length than its bytes")
    return np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: object, data: object) -> Any:
    return _array(data, kind, ())[()]


def _buffer(data: object, kind: object, shape: object, order: object) -> Array:
    return _array(data, kind, shape, order)


def _encode(text: object, encoding: object) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise _Refused("bytes in another encoding")
    return text.encode("latin1")


def _container(kind: type[Any]) -> Callable[..., Any]:
    """Containers are made of containers that are there: not of a number or a length."""

    def made(*parts: Any) -> Any:
        if len(parts) > 1 or not all(isinstance(x, (list, tuple, set, dict)) for x in parts):
            raise _Refused(f"a {kind.__name__} of something else")
        if parts and issubclass(kind, (dict, set, frozenset)):
            pairs = issubclass(kind, dict) and not isinstance(parts[0], dict)
            require_plain_keys(pair[0] for pair in parts[0]) if pairs else require_plain_keys(
                parts[0]
            )
        return kind(*parts)

    return made


def _number(kind: Callable[..., Any]) -> Callable[..., Any]:
    def made(*parts: object) -> Any:
        if not all(
            isinstance(x, (int, float)) or (isinstance(x, str) and len(x) < 64) for x in parts
        ):
            raise _Refused(f"a {kind.__name__} of something else")
        return kind(*parts)

    return made


def _tensor(storage: object, offset: Any, size: Any, stride: Any, *_: object) -> Array:
    """A tensor of a storage that torch itself read, as an array."""
    import torch

    numbers = (size, stride)
    if not isinstance(storage, torch.TypedStorage) or not all(
        isinstance(x, tuple) and all(isinstance(n, int) and n >= 0 for n in x) for x in numbers
    ):
        raise _Refused("a tensor of something else")
    flat = torch.tensor([], dtype=storage.dtype).set_(storage)
    if math.prod(size) > flat.numel():
        raise _Refused("a tensor of more elements than there are numbers")
    found: Array = flat.as_strided(size, stride, offset).float().numpy()
    return found


def _storage(data: object) -> Any:
    """What torch does to read a tensor's numbers, but with weights_only."""
    if not isinstance(data, bytes):
        raise _Refused("a tensor of something else")
    return load_torch_bytes(data)


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _container(OrderedDict),
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Rows,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}
for _core in ("numpy.core", "numpy._core"):  # the module of the version that wrote the file
    _KNOWN |= {
        (f"{_core}.multiarray", "_reconstruct"): _Rows,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _buffer,
    }
for _kind in (list, dict, set, frozenset, tuple):
    _KNOWN["builtins", _kind.__name__] = _container(_kind)
for _plain in (int, float, complex, bool):
    _KNOWN["builtins", _plain.__name__] = _number(_plain)


class _Arrays(Unpickler):
    """Reads arrays and plain data."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the known stand-ins.

        Raises:
            _Refused: For any other name.
        """
        found = _KNOWN.get(("builtins" if module == "__builtin__" else module, name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found


def _values(found: object) -> Any:
    """The arrays in place of their stand-ins, in a dictionary or a list of them."""
    if isinstance(found, _Rows):
        return found.values
    if isinstance(found, dict):
        return {name: _values(value) for name, value in found.items() if value is not found}
    if isinstance(found, list):
        return [value.values if isinstance(value, _Rows) else value for value in found]
    return found


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
    require_file(path, "a pickle")
    try:
        with path.open("rb") as file:
            # latin1 is how NumPy arrays of Python 2 come back whole.
            return _values(_Arrays(file, encoding="latin1").load())
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
        features, labels = _matrix(data["feats"]), np.asarray(_flat(data["labels"]), np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(f"{path}: feats or labels are no arrays", got=str(error)) from error
    if features.dtype.kind != "f" or features.ndim not in (2, 3) or len(features) != len(labels):
        raise FileFormatError(
            f"features and labels of {path} do not fit together",
            got=f"feats {features.shape} {features.dtype}, {counted(len(labels), 'label')}",
            expected="feats N x D of floating-point numbers, and N labels",
        )
    ids = tuple(f"{path.stem}/{row}" for row in range(len(labels)))
    return FeatureArrays.read(features.astype(np.float32, copy=False), labels, ids)


def _matrix(values: object) -> Array:
    """An array, or a list of arrays; lists may name one list, or one array, a billion times."""
    if isinstance(values, list):
        if not all(isinstance(row, np.ndarray) for row in values):
            raise TypeError("feats is a list of something other than arrays")
        if len({id(row) for row in values}) != len(values):
            raise ValueError("feats is a list that names one array many times")
    return np.asarray(values)


def _flat(values: object) -> list[int]:
    """Labels one by one, of an array or a list."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        return list(map(int, values))
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"labels are a {type(values).__name__}")
    if not all(isinstance(label, (int, np.integer, np.ndarray)) for label in values):
        raise TypeError("labels are no whole numbers")
    return [int(label) for label in values]
