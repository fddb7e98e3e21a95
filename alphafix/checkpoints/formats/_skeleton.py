"""Reading where a torch file's tensors lie, from its pickle, without running any of it.

A pickle can name any function to call. Here each name becomes one of a few classes of this
module that only remember their arguments, so that nothing of the file's choice is imported
or run. Objects of other classes are passed over; a whole model that `torch.save` pickled is read
as its state dict.
"""

from __future__ import annotations

import pickle
import reprlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from alphafix.checkpoints.formats.tensors import BITS
from alphafix.reading.boundary import first_line
from alphafix.reading.limits import MOST_AXES, MOST_ELEMENTS, MOST_NESTED, MOST_VISITS
from alphafix.reading.unpickling import Unpickler, require_plain_keys


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
    args: tuple[Any, ...] = ()

    def __new__(cls, *args: Any, **options: Any) -> Inert:
        """Take any arguments, as the class that it stands for would."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args = args

    def set_state(self, state: Any) -> None:
        """Keep the state, in which there may be tensors."""
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


class _StateDict(OrderedDict[Any, Any]):
    """Stands for an ordered dictionary; attributes, which a state dict has, are dropped."""

    def __init__(self, pairs: Any = ()) -> None:
        require_plain_keys(name for name, _ in pairs)
        super().__init__(pairs)

    def set_state(self, state: Any) -> None:
        """Drop them."""


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Any:
    last = next((item.name for item in rest if isinstance(item, _Type)), None)
    dtype = last or getattr(storage, "dtype", None)
    if not isinstance(storage, Storage) or dtype is None:
        return Inert()
    plain = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)
    if not plain or len(shape) > MOST_AXES or not _counts(offset, *shape, *strides):
        raise pickle.UnpicklingError(f"a tensor of shape {reprlib.repr(shape)}")
    return View(storage, offset, shape, strides, dtype)


def _counts(*numbers: Any) -> bool:
    return all(type(number) is int and 0 <= number <= MOST_ELEMENTS for number in numbers)


def _set(items: Any = ()) -> Any:
    require_plain_keys(items)
    return set(items)


def _size(lengths: Any = ()) -> Any:
    if not isinstance(lengths, (list, tuple)) or len(lengths) > MOST_AXES:
        raise pickle.UnpicklingError("a shape of something else")
    return tuple(lengths)


def _bytes(data: Any = b"", *encoding: Any) -> Any:
    """Bytes of bytes or text; not of a length, nor in an encoding that multiplies them."""
    if not isinstance(data, (bytes, str)) or not set(encoding) <= {"latin1", "utf-8", "ascii"}:
        raise pickle.UnpicklingError("bytes made of something else")
    return Inert()


def _first(value: Any, *rest: Any) -> Any:
    return value


def _of_type(made_by: Any, kind: Any, args: Any, *state: Any) -> Any:
    """A tensor of another type, or one with attributes: made as any other, which is kept."""
    return made_by(*args)


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _view,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_tensor_v3"): _view,
    ("torch._utils", "_rebuild_qtensor"): _view,  # its integers, so that they are not missed
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("collections", "OrderedDict"): _StateDict,
    ("builtins", "set"): _set,
    ("torch", "Size"): _size,
    # torch makes these, however many the file asks for.
    ("builtins", "bytearray"): _bytes,
    ("_codecs", "encode"): _bytes,
}


class _Tensors(Inert):
    """Stands for a class of tensors, which torch would make of a mere length or shape."""

    def __new__(cls, *args: Any, **options: Any) -> _Tensors:
        """Take nothing but what stands for tensors and numbers of the file.

        Raises:
            pickle.UnpicklingError: If it is to be made of something else.
        """
        if not all(isinstance(arg, (View, Storage, Inert)) for arg in args):
            raise pickle.UnpicklingError("a tensor made of a length")
        return object.__new__(cls)


class _Reader(Unpickler):
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
        tensors = module.partition(".")[0] == "torch" and name.endswith("Tensor")
        return type("Inert", (_Tensors if tensors else Inert,), {"named": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage, or the class with its source, that a persistent id describes."""
        if isinstance(pid, tuple) and pid[:1] == ("module",):
            return pid[1]
        kind, storage_type, key, _, numel, *_ = pid
        plain = kind == "storage" and isinstance(key, (str, int)) and _counts(numel)
        if not plain or not isinstance(storage_type, StorageType):
            raise pickle.UnpicklingError(f"persistent id {reprlib.repr(pid)}")
        return Storage(str(key), storage_type.dtype, numel)


def read_skeleton(file: IO[bytes]) -> Skeleton:
    """Unpickle one object with `View` in the place of tensors.

    Raises:
        pickle.UnpicklingError: If the pickle is damaged.
    """
    reader = _Reader(file)
    try:
        return Skeleton(reader.load(), frozenset(reader.passed_over))
    # Half-read values lead to errors of any type.
    except Exception as error:
        raise pickle.UnpicklingError(first_line(error)) from error


def walk(value: Any, prefix: str = "") -> Iterator[tuple[str, View]]:
    """Yield the tensors of nested dictionaries and objects by dotted name, in order.

    An object that is a part of itself, as one that knows its parent is, is entered once.

    Raises:
        pickle.UnpicklingError: If they are nested without end, or shared so often that there is no
            end to them.
    """
    visits, seen = 0, set[int]()
    waiting, around = [iter([(prefix, value)])], list[Any]()
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            if around:
                around.pop()
        elif isinstance(found[1], Inert) and any(found[1] is one for one in around):
            continue
        elif isinstance(found[1], View):
            yield found[0], found[1]
        elif (inner := _items(*found)) is not None:
            seen.add(id(found[1]))
            visits += 1
            waiting.append(inner)
            around.append(found[1])
            if len(waiting) > MOST_NESTED or visits > MOST_VISITS * len(seen):
                raise pickle.UnpicklingError("containers within containers, without end")


def _items(prefix: str, value: Any) -> Iterator[tuple[str, Any]] | None:
    """What is in a container, by dotted name; None for anything else."""
    if isinstance(value, Inert):
        return iter([(prefix, _members(value.state))])
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return None
    return ((f"{prefix}.{name}" if prefix else str(name), item) for name, item in pairs)


def _members(state: Any) -> Any:
    """What an object has; of a torch.nn.Module what its state dict has, under the same names."""
    if not isinstance(state, dict) or not {"_parameters", "_buffers", "_modules"} <= state.keys():
        return state
    left_out = state.get("_non_persistent_buffers_set") or ()
    buffers = {name: item for name, item in state["_buffers"].items() if name not in left_out}
    return {**state["_parameters"], **buffers, **state["_modules"]}
