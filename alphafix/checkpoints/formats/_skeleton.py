"""Reading where a torch file's tensors lie, from its pickle, without running any of it.

A pickle can name any function to call. Here each name becomes one of a few classes of this
module that only remember their arguments, so that nothing of the file's choice is imported
or run. Objects of other classes are passed over; a whole model that `torch.save` pickled is read
as its state dict.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from alphafix.checkpoints.formats.tensors import BITS


@dataclass(frozen=True)
class StorageType:
    """A name like torch.FloatStorage; ``dtype`` is None for untyped bytes."""

    dtype: str | None


@dataclass(frozen=True)
class Storage:
    """A flat array of the file: its key there, element type and number of elements."""

    key: str
    dtype: str | None
    numel: int


@dataclass(frozen=True)
class View:
    """A tensor: a view of a storage. Offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Inert:
    """Stands for an object of any other class: keeps its state, does nothing.

    Attributes:
        named: The class, as the file names it.
        state: What the object's attributes would be.
    """

    named: ClassVar[str] = ""
    state: Any = None

    def __new__(cls, *args: Any, **options: Any) -> Inert:
        """Take any arguments, as the class that it stands for would."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop items: no dictionary of another class holds weights."""

    def append(self, value: Any) -> None:
        """Drop items, as above."""

    def extend(self, values: Any) -> None:
        """Drop items, as above."""

    def __call__(self, *args: Any, **options: Any) -> Inert:
        """Stand for what the object would give."""
        return Inert()


@dataclass(frozen=True)
class Skeleton:
    """What a pickle holds.

    Attributes:
        data: The object, with `View` in the place of tensors and `Inert` in that of others.
        named: Names of all classes and functions that were passed over, as "module.name".
    """

    data: Any
    named: frozenset[str]


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "UntypedStorage": None,
}


@dataclass(frozen=True)
class _Type:
    """A name like torch.float16."""

    name: str


def _view(storage: Any, offset: int, shape: Any, strides: Any, *rest: Any) -> Any:
    last = next((item.name for item in rest if isinstance(item, _Type)), None)
    dtype = last or getattr(storage, "dtype", None)
    if not isinstance(storage, Storage) or dtype is None:
        return Inert()
    return View(storage, offset, tuple(shape), tuple(strides), dtype)


def _first(value: Any, *rest: Any) -> Any:
    return value


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _view,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_tensor_v3"): _view,
    ("torch._utils", "_rebuild_qtensor"): _view,  # its integers, so that they are not missed
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("collections", "OrderedDict"): OrderedDict,  # a state dict has attributes
    ("builtins", "set"): set,
    ("torch", "Size"): tuple,
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.passed_over: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; never the thing that it names."""
        module = "builtins" if module == "__builtin__" else module  # as protocol 2 has it
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return StorageType(_STORAGES[name])
        if module == "torch" and name in BITS:
            return _Type(name)
        self.passed_over.add(f"{module}.{name}")
        return type("Inert", (Inert,), {"named": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage, or the class with its source, that a persistent id describes."""
        if isinstance(pid, tuple) and pid[:1] == ("module",):
            return pid[1]
        kind, storage_type, key, _, numel, *_ = pid
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise pickle.UnpicklingError(f"persistent id {kind!r}")
        return Storage(str(key), storage_type.dtype, int(numel))


def read_skeleton(file: IO[bytes]) -> Skeleton:
    """Unpickle one object with `View` in the place of tensors.

    Raises:
        pickle.UnpicklingError: If the pickle is damaged.
    """
    reader = _Reader(file)
    try:
        return Skeleton(reader.load(), frozenset(reader.passed_over))
    except (EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise pickle.UnpicklingError(str(error)) from error


def walk(value: Any, prefix: str = "") -> Iterator[tuple[str, View]]:
    """Yield the tensors of nested dictionaries and objects by dotted name, in order."""
    if isinstance(value, View):
        yield prefix, value
    elif isinstance(value, Inert):
        yield from walk(_members(value.state), prefix)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from walk(item, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from walk(item, f"{prefix}.{index}" if prefix else str(index))


def _members(state: Any) -> Any:
    """What an object has; of a torch.nn.Module what its state dict has, under the same names."""
    if not isinstance(state, dict) or not {"_parameters", "_buffers", "_modules"} <= state.keys():
        return state
    left_out = state.get("_non_persistent_buffers_set") or ()
    buffers = {name: item for name, item in state["_buffers"].items() if name not in left_out}
    return {**state["_parameters"], **buffers, **state["_modules"]}
