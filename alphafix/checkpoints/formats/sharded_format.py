"""Sharded models: an index file that says which tensor is in which file."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.safetensors_format import SafetensorsFormat
from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.formats.tensors import Tensor
from alphafix.errors import FileFormatError
from alphafix.files import read_object
from alphafix.reading.boundary import is_beside, is_plain


class ShardedFormat(SafetensorsFormat):
    """Several safetensors files under an index of JSON."""

    name = "sharded"

    def detect(self, path: Path, front: bytes) -> bool:
        """Tell the index by its name."""
        return path.suffix == ".json"

    def open(self, path: Path, *, section: str = "", folder: Path | None = None) -> Checkpoint:
        """Read the shards that ``model.safetensors.index.json`` names.

        Raises:
            FileFormatError: If the index is damaged, names a file that is missing or outside of
                its folder, or does not list exactly the tensors that the shards hold.
        """
        folder = folder or path.parent
        places = read_index(path, folder)
        files = (path, *_shards(places, folder))
        single = SafetensorsFormat()
        tensors = [tensor for shard in files[1:] for tensor in single.open(shard).tensors]
        _check_listing(path, places, tensors)
        return Checkpoint(path, self, tuple(tensors), files)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The index and the shards that it names."""
        return (path, *_shards(read_index(path, path.parent), path.parent))

    def renaming(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> list[Splice]:
        """Change the names of shards in the index, each of which must stand once a tensor."""
        path = checkpoint.path
        data, places = path.read_bytes(), read_index(path, path.parent)
        found: list[Splice] = []
        for old, new in names.items():
            text = json.dumps(old).encode()
            spots = [match.start() for match in re.finditer(re.escape(text), data)]
            tensors = sum(name == old for name in places.values())
            if len(spots) != tensors:
                _refuse(path, f"{old} does not stand once a tensor", len(spots), tensors)
            found += [Splice(spot, len(text), json.dumps(new).encode()) for spot in spots]
        return found


def _shards(places: Mapping[str, str], folder: Path) -> list[Path]:
    return sorted(folder / name for name in set(places.values()))


def read_index(path: Path, folder: Path) -> dict[str, str]:
    """Return the index's ``weight_map``: the shard, in ``folder``, of each tensor.

    Raises:
        FileFormatError: If it is damaged or names a file it must not or cannot name.
    """
    places = read_object(path).get("weight_map")
    valid = isinstance(places, dict) and all(isinstance(v, str) for v in places.values())
    if not valid or not isinstance(places, dict) or not places:
        _refuse(path, "it has no weight_map", reprlib.repr(places), "the shard of each tensor")
    for name in sorted(set(places.values())):
        if not is_plain(name):
            _refuse(path, "it names a path outside its folder", name, "names of files beside it")
        if not name.endswith(".safetensors"):
            _refuse(path, "it names a shard that is no safetensors file", name, "*.safetensors")
        if not is_beside(folder, name):
            _refuse(path, "a shard that it names is missing", f"no {name}", "all shards beside it")
    return places


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
