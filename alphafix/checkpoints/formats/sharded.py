"""Sharded models: an index file that says which tensor is in which file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from alphafix.checkpoints.formats.tensors import Checkpoint, Tensor
from alphafix.checkpoints.patch.splices import Splice
from alphafix.errors import FileFormatError
from alphafix.files import read_json


def open_sharded(path: Path) -> Checkpoint:
    """Read the shards that ``model.safetensors.index.json`` names.

    Raises:
        FileFormatError: If the index is damaged, names a file that is missing or outside of
            its folder, or does not list exactly the tensors that the shards hold.
    """
    from alphafix.checkpoints.formats.safetensors_format import open_safetensors_file

    places = read_index(path)
    shards = [path.parent / name for name in dict.fromkeys(places.values())]
    opened = [open_safetensors_file(shard) for shard in sorted(shards)]
    tensors = [tensor for shard in opened for tensor in shard.tensors]
    _check_listing(path, places, tensors)
    return Checkpoint(path, "sharded", tuple(tensors), (path, *sorted(shards)))


def read_index(path: Path) -> dict[str, str]:
    """Return the index's ``weight_map``: the shard of each tensor.

    Raises:
        FileFormatError: If it is damaged or names a file it must not or cannot name.
    """
    data: Any = read_json(path)
    places = data.get("weight_map") if isinstance(data, dict) else None
    valid = isinstance(places, dict) and all(isinstance(v, str) for v in places.values())
    if not valid or not isinstance(places, dict) or not places:
        _refuse(path, "it has no weight_map", repr(places)[:80], "the shard of each tensor")
    for name in sorted(set(places.values())):
        if name in ("", "..") or "\\" in name or Path(name).name != name:
            _refuse(path, "it names a path outside its folder", name, "names of files beside it")
        if not name.endswith(".safetensors"):
            _refuse(path, "it names a shard that is no safetensors file", name, "*.safetensors")
        if not (path.parent / name).is_file():
            _refuse(path, "a shard that it names is missing", f"no {name}", "all shards beside it")
    return places


def shard_splices(path: Path, names: Mapping[str, str]) -> list[Splice]:
    """Return the splices that give shards other names (old -> new) in an index.

    Raises:
        FileFormatError: If a shard's name stands elsewhere too, so that it is not clear what
            to change.
    """
    data, places = path.read_bytes(), read_index(path)
    found: list[Splice] = []
    for old, new in names.items():
        text = json.dumps(old).encode()
        spots = [match.start() for match in re.finditer(re.escape(text), data)]
        tensors = sum(name == old for name in places.values())
        if len(spots) != tensors:
            _refuse(path, f"{old} does not stand once a tensor", len(spots), tensors)
        found += [Splice(spot, len(text), json.dumps(new).encode()) for spot in spots]
    return found


def _check_listing(path: Path, places: dict[str, str], tensors: list[Tensor]) -> None:
    held = {(tensor.name, tensor.file.name) for tensor in tensors}
    listed = set(places.items())
    if held == listed and len(tensors) == len(held):
        return
    name, shard = min(held ^ listed, default=("", ""))
    side = "lists a tensor that is not there" if (name, shard) in listed else "lacks a tensor"
    _refuse(path, f"it {side}", f"{name} in {shard}", "exactly the tensors that the shards hold")


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise FileFormatError(
        f"{path} is not a good index: {what}",
        got=got,
        expected=expected,
        todo="copy all files of the model into one folder, or save the model again",
    )
