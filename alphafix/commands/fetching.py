"""Options that name files elsewhere: copies of these are what a command works on."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from alphafix.commands.options import CommandOptions, extra_of
from alphafix.errors import AlphafixError, InputError, call, option
from alphafix.remote import address_of, can_store, fetched, is_address, origins

Options = TypeVar("Options", bound=CommandOptions)

# Kinds of backbones that are one file.
_FILES = ("torchscript", "export", "onnx")


def with_copies(options: Options) -> Options:
    """Options in which each address of an input file is that of its copy on this machine.

    Images are read where they are (see `alphafix.images.remote_files`).

    Raises:
        InputError: If a file cannot be read, or something would be written at an address.
    """
    refuse_addresses(options)
    written = _written(options)
    changes: dict[str, Any] = {}
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if name in written:
            continue
        if _is_fetched(field, value):
            if is_address(value):
                changes[name] = fetched(address_of(value))
        elif name == "backbone" and isinstance(value, str):
            kind, _, place = value.partition(":")
            if kind in _FILES and is_address(place):
                changes[name] = f"{kind}:{fetched(place)}"
    changed = {name: value for name, value in changes.items() if value != getattr(options, name)}
    if "file" in changed and hasattr(options, "output"):
        _require_output(options)
    return options.model_copy(update=changed) if changed else options


@contextlib.contextmanager
def by_address() -> Iterator[None]:
    """Errors name files of which copies are read by the addresses that they are at."""
    try:
        yield
    except AlphafixError as error:
        error.rename(origins())
        raise


def refuse_addresses(options: CommandOptions) -> None:
    """Check that nothing is to be written at an address but a part, and nothing read but files.

    Raises:
        InputError: If something is.
    """
    written = _written(options)
    for name in written:
        _refuse_address(name, getattr(options, name, None))
    for name in options.paths():
        value = getattr(options, name)
        known = name in written or name in options.ELSEWHERE
        if not (known or _is_fetched(type(options).model_fields[name], value)):
            for item in value if isinstance(value, tuple) else (value,):
                _require_here(name, item)
    kind, _, place = str(getattr(options, "backbone", None) or "").partition(":")
    if kind not in _FILES and "://" in place:
        _require_here("backbone", place)


def _is_fetched(field: FieldInfo, value: object) -> bool:
    """Whether an option names one file, of which a copy does as well."""
    return isinstance(value, Path) and extra_of(field)["metavar"] == "FILE"


def _require_here(name: str, value: object) -> None:
    """Check that what an option names, perhaps behind ``SPLIT=``, is no address."""
    if not isinstance(value, (str, Path)):
        return
    named = [value, value.partition("=")[2]] if isinstance(value, str) else [value]
    address = next((address_of(one) for one in named if is_address(one)), None)
    if address is not None:
        raise InputError(
            f"what {option(name)} names is read on this machine only",
            got=address,
            expected="a path on a file system (local or mounted)",
            todo="copy it here, and give its path",
        )


def _written(options: CommandOptions) -> list[str]:
    """Names of the options that say where something is written, but for that of a part."""
    names = [*options.outputs(), "run", "run_directory"]
    if getattr(options, "division", None) is not None:
        names.remove("run")  # one part is made here, and then written there
    return names


def _refuse_address(name: str, value: object) -> None:
    if not (isinstance(value, Path) and is_address(value)):
        return
    address = address_of(value)
    path = "a path on a file system (local or mounted)"
    if name not in ("run", "run_directory"):
        how = " (for example with aws s3 cp)" if address.startswith("s3") else ""
        raise InputError(
            f"nothing but the parts of a job array is written at addresses: {option(name)}",
            got=address,
            expected=path,
            todo=f"write it to a path, and copy it{how}",
        )
    if not can_store(address):
        raise InputError(
            f"a run directory lies on this machine: {option(name)}",
            got=address,
            expected=path,
            todo=f"give {option(name, 'DIR')} with one",
        )
    merge = f"alphafix features merge {shlex.quote(address)} --run DIR"
    part = call("extract", run=address, shard_index=0, shard_count=1)
    raise InputError(
        f"a run directory at an address holds the parts of a job array only: {option(name)}",
        got=address,
        expected=path,
        todo=f"make features of the parts there with `{merge}`, and give {option('run', 'DIR')} "
        f"here; or write a part of the features there: {part}",
    )


def _require_output(options: Any) -> None:
    """Check that a model that is elsewhere is not changed, and that its copy has a place."""
    changing = [name for name in ("in_place", "revert") if getattr(options, name, False)]
    if changing or options.output is None:
        raise InputError(
            f"{address_of(options.file)} is elsewhere, and stays as it is",
            got=option(changing[0], True) if changing else f"no {option('output')}",
            expected=f"{option('output')} with a path on this machine",
            todo="give one, and copy the result where it belongs",
        )
