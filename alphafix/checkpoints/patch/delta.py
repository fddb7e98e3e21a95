"""The changed rows alone, to ship instead of a whole model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.checkpoints.formats.format import Checkpoint
from alphafix.checkpoints.formats.opening import open_checkpoint
from alphafix.checkpoints.formats.safetensors_header import pack, read_header
from alphafix.checkpoints.formats.tensors import Tensor, elements, encode, read_raw, read_values
from alphafix.checkpoints.patch.planning import (
    PatchPlan,
    RowChange,
    is_turned,
    require_own,
    require_range,
)
from alphafix.errors import FileFormatError, InputError, call, option, some
from alphafix.files import METADATA_KEY, atomic_path, holds
from alphafix.reading.boundary import reading
from alphafix.reading.schema import parse_json, typed
from alphafix.values.arrays import Array
from alphafix.values.correction import require_class_ids
from alphafix.values.head import HeadSource


def delta_name(path: Path) -> Path:
    """``model.safetensors`` -> ``model.alphafix-delta.safetensors``."""
    return path.with_name(f"{path.name.split('.')[0]}.alphafix-delta.safetensors")


def save_delta(
    path: Path, plan: PatchPlan, provenance: dict[str, Any] | None, *, overwrite: bool = False
) -> None:
    """Write the changed rows of a plan, in the model's own element type.

    The file holds ``classes`` (R class ids) and for each tensor that changes its new rows
    under the tensor's name.

    Raises:
        TargetExistsError: If ``path`` is there and ``overwrite`` is false.
        InputError: If it cannot be written.
    """
    stored = {
        change.tensor.name: (change.tensor.dtype, encode(change.rows, change.tensor.dtype))
        for change in plan.changes
    }
    tensors = {"classes": ("int64", plan.classes), **stored}
    metadata = {
        "value": "delta",
        "content": _content([np.ascontiguousarray(array) for _, array in tensors.values()]),
        "model": plan.checkpoint.sha256(),
        "section": plan.checkpoint.section,
        "source": asdict(plan.source),
        "provenance": provenance,
    }
    data = pack(tensors, {METADATA_KEY: json.dumps(metadata)})
    if not overwrite and holds(path, data):
        return  # a command that was killed before it could say so
    with atomic_path(path, overwrite=overwrite, like=plan.changes[0].tensor.file) as temporary:
        temporary.write_bytes(data)


def load_delta(path: Path, model: Path) -> tuple[PatchPlan, dict[str, Any] | None]:
    """Read a delta as a plan for the model that it belongs to.

    Returns:
        The plan, and the provenance to write.

    Raises:
        FileFormatError: If the delta is damaged or something else.
        InputError: If the model is another one.
    """
    tensors, metadata = _read(path)
    checkpoint = open_checkpoint(model, section=metadata.section)
    _require_model(path, checkpoint, metadata.model)
    source = metadata.source
    with reading(path, "a delta"):
        classes = elements(tensors["classes"], read_raw(tensors.pop("classes"))).astype(np.int64)
    require_class_ids(classes)
    changes = tuple(
        RowChange(checkpoint.tensor(name), is_turned(source, name), read_values(tensors[name]))
        for name in (*source.weights, *source.biases)
        if name in tensors
    )
    for change in changes:
        require_own(checkpoint, change.tensor)
        require_range(change, classes)
    return PatchPlan(checkpoint, source, classes, changes), metadata.provenance


@dataclass(frozen=True)
class _Metadata:
    """What a delta says of itself (see `save_delta`)."""

    content: str
    model: str
    section: str
    source: HeadSource
    provenance: dict[str, Any] | None


def _read(path: Path) -> tuple[dict[str, Tensor], _Metadata]:
    """The tensors by name and the metadata of a delta whose content is as it was written."""
    header = read_header(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    with reading(path, "a delta"):
        found = parse_json(header.metadata.get(METADATA_KEY, "{}"))
    if not isinstance(found, dict) or found.get("value") != "delta" or "classes" not in tensors:
        raise FileFormatError(
            f"{path} is no delta",
            got=f"tensors {some(t.name for t in header.tensors)}",
            expected=f"a file that {call('patch', delta=True)} wrote",
            todo=f"give a whole correction with {option('correction')}",
        )
    with reading(path, "a delta"):
        metadata = typed(_Metadata, found)
        content = _content([elements(tensor, read_raw(tensor)) for tensor in header.tensors])
    if content != metadata.content:
        raise FileFormatError(
            f"{path} is damaged",
            got=f"content {content[:16]}",
            expected=f"content {metadata.content[:16]}, as it was written",
            todo=f"copy it again, or make it again with {call('patch', delta=True)}",
        )
    return tensors, metadata


def _content(arrays: Sequence[Array]) -> str:
    """SHA-256 of stored elements, whatever the order of the tensors in the file."""
    parts = sorted(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _require_model(path: Path, checkpoint: Checkpoint, expected: str) -> None:
    found = checkpoint.sha256()
    if found != expected:
        raise InputError(
            f"{path} belongs to another model than {checkpoint.path}",
            got=f"SHA-256 {found[:16]}",
            expected=f"SHA-256 {expected[:16]}",
            todo="give the original that the delta was made for, not patched and not saved again",
        )
