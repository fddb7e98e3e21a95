"""What was parsed, held against what it must be: types of entries, types and shapes of arrays."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import numpy.typing as npt
from pydantic import Field

from alphafix.errors import FileFormatError
from alphafix.reading.limits import MOST_ELEMENTS, MOST_JSON

T = TypeVar("T")

# What a number that is read as infinite looks like, if it is one.
_LARGE = re.compile(r"[0-9]{300}|[eE]\+?[0-9]{3}")

Count = Annotated[int, Field(ge=0, le=MOST_ELEMENTS)]
"""A number of something, which fits into an int64."""


def parse_json(text: bytes | str) -> Any:
    """Parse JSON, whose nesting the parser limits.

    Raises:
        ValueError: If it is no JSON in UTF-8 (NaN and Infinity are none), too deep or too large.
    """
    from pydantic_core import from_json

    if len(text) > MOST_JSON:
        raise ValueError(f"{len(text):,} bytes of JSON, at most {MOST_JSON:,} are read")
    found = from_json(text, allow_inf_nan=False)
    if _LARGE.search(text if isinstance(text, str) else text.decode()):
        _require_finite(found)
    return found


def _require_finite(value: object) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a number larger than a float64 can be")
        if isinstance(item, (dict, list)):
            waiting += item.values() if isinstance(item, dict) else item


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def typed(kind: type[T], data: object, name: str = "") -> T:
    """Return JSON data as a value of a dataclass, or of any other type that pydantic knows.

    Args:
        kind: The type.
        data: The data.
        name: What the data is called, for the message.

    Raises:
        ValueError: If an entry is missing or has another type; the first one is named.
    """
    from pydantic import ValidationError

    try:
        return cast(T, _adapter(cast(Hashable, kind)).validate_python(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, filter(None, [name, *first["loc"]])))[:200]
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error


def require_arrays(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    wanted: Mapping[str, str],
    *,
    optional: tuple[str, ...] = (),
) -> None:
    """Hold arrays against what they must be.

    Args:
        path: The file that they are from.
        arrays: The arrays.
        wanted: By name the kind of elements, as NumPy has it, and the axes: ``{"few": "i F",
            "ids": "i F K"}``. Axes of one letter have one length.
        optional: Names of those that may be missing.

    Raises:
        FileFormatError: If one is missing or of another type or shape.
    """
    lengths: dict[str, int] = {}
    for name, form in wanted.items():
        kind, *axes = form.split()
        array = arrays.get(name)
        if array is None and name in optional:
            continue
        fits = array is not None and array.dtype.kind == kind and array.ndim == len(axes)
        if not fits or any(
            lengths.setdefault(axis, length) != length
            for axis, length in zip(axes, array.shape, strict=True)  # type: ignore[union-attr]
        ):
            raise FileFormatError(
                f"{path} does not hold the tensors that it must",
                got=f"no {name}" if array is None else f"{name} {array.dtype} {array.shape}",
                expected=", ".join(f"{n} {' x '.join(f.split()[1:])}" for n, f in wanted.items()),
                todo="make the file again",
            )
