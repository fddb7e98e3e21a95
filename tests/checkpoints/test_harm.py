"""Ways to harm a model file with `alphafix patch`, each refused before a byte is written."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alphafix.checkpoints import find_head
from alphafix.checkpoints.formats.splices import Splice, in_order
from alphafix.checkpoints.patch.inplace import write_in_place
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import AlphafixError, InputError, StaleInputError
from alphafix.run.directory import HEAD
from alphafix.values.correction import Correction
from tests.checkpoints.models import make_correction, write_stages
from tests.stages import patch

CLASSES, WIDTH = 20, 8


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with model.safetensors and the run directory of its correction."""
    rng = np.random.default_rng(0)
    tensors = {
        "a.weight": rng.normal(size=(50, 50)).astype(np.float32),
        "fc.bias": rng.normal(size=CLASSES).astype(np.float32),
        "fc.weight": rng.normal(size=(CLASSES, WIDTH)).astype(np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    head = find_head(tmp_path / "model.safetensors")
    write_stages(tmp_path / "run", head, make_correction(head))
    return tmp_path


def run_patch(work: Path, **given: object) -> None:
    patch(
        PatchOptions.model_validate(
            {"run": work / "run", "file": work / "model.safetensors", **given}
        )
    )


def refused(work: Path, message: str, **given: object) -> None:
    """The patch fails with the message, and every file of the folder is as it was."""
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    with pytest.raises(AlphafixError, match=message):
        run_patch(work, **given)
    after = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("ids", [[-1, 3], [3, 3], [5, 3], [[1, 2]], [0.5, 1.0]])
def test_correction__ids_that_are_no_rows_are_refused(ids: list[Any]) -> None:
    with pytest.raises(InputError, match="not those of rows"):
        Correction(np.array(ids), np.ones((2, 4), np.float32), None)


def change_delta(work: Path, change: Callable[[dict[str, Any]], None], *, seal: bool) -> Path:
    """A delta with changed tensors; with ``seal`` its recorded content is made to agree."""
    delta = work / "delta.safetensors"
    run_patch(work, delta=True, output=delta)
    tensors: dict[str, Any] = load_file(delta)
    raw = delta.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    change(tensors)
    metadata = header["__metadata__"]
    if seal:
        from alphafix.checkpoints.patch.delta import _content

        inner = json.loads(metadata["alphafix"])
        inner["content"] = _content(list(tensors.values()))
        metadata["alphafix"] = json.dumps(inner)
    save_file(tensors, delta, metadata=metadata)
    return delta


@pytest.mark.parametrize("place", [-1, CLASSES, 500])
@pytest.mark.parametrize("in_place", [False, True])
def test_apply__a_class_id_outside_of_the_head_is_refused(
    work: Path, place: int, in_place: bool
) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["classes"][-1 if place > 0 else 0] = place

    delta = change_delta(work, change, seal=True)
    refused(work, "not those of rows", apply=delta, in_place=in_place)


def test_apply__a_flipped_bit_is_refused(work: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["fc.weight"].view(np.uint8)[0, 0] ^= 1

    refused(work, "is damaged", apply=change_delta(work, change, seal=False))


def test_apply__nan_is_refused(work: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["fc.weight"][0, 0] = np.nan

    refused(work, "not finite", apply=change_delta(work, change, seal=True))


def test_apply__rows_of_another_width_are_refused(work: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["fc.weight"] = np.ones((len(tensors["classes"]), 2 * WIDTH), np.float32)

    refused(work, "do not fit", apply=change_delta(work, change, seal=True))


@pytest.mark.parametrize("content", ["{", "[]", '{"value": "delta"}'])
def test_apply__metadata_that_is_no_deltas_is_refused(work: Path, content: str) -> None:
    save_file({"classes": np.arange(2)}, work / "d.safetensors", metadata={"alphafix": content})
    refused(work, "no delta|not a delta", apply=work / "d.safetensors")


@pytest.mark.parametrize(
    "given",
    [
        {"delta": True, "output": "model.safetensors"},
        {"card": "model.safetensors"},
        {"card": "model.safetensors", "in_place": True},
        {"card": "out.safetensors", "output": "out.safetensors"},
        {"card": "run/head.safetensors"},
        {"output": "run/alphanet.safetensors"},
    ],
)
def test_patch__overwrite_never_reaches_an_input(work: Path, given: dict[str, Any]) -> None:
    paths = {k: work / v if isinstance(v, str) else v for k, v in given.items()}
    refused(work, "cannot be written by this patch", overwrite=True, **paths)


def test_patch__a_shard_is_not_a_target(work: Path) -> None:
    tensors = load_file(work / "model.safetensors")
    folder = work / "sharded"
    folder.mkdir()
    names = {"a.weight": "one.safetensors", "fc.weight": "two.safetensors"}
    names["fc.bias"] = "two.safetensors"
    for shard in ("one.safetensors", "two.safetensors"):
        save_file({n: tensors[n] for n, s in names.items() if s == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    refused(
        work,
        "cannot be written by this patch",
        file=folder,
        output=folder / "one.safetensors",
        overwrite=True,
    )


def test_patch__a_correction_of_another_head_is_refused(work: Path) -> None:
    correction = Correction.load(work / "run" / "alphanet.safetensors")
    other = replace(correction, provenance={"inputs": {HEAD: "0" * 64}})
    other.save(work / "other.safetensors")
    before = (work / "model.safetensors").read_bytes()
    with pytest.raises(StaleInputError, match="made for another head"):
        run_patch(work, correction=work / "other.safetensors")
    assert (work / "model.safetensors").read_bytes() == before
    assert not (work / "model.alphafix.safetensors").exists()


def test_patch__a_tensor_that_save_model_left_out_is_shared(work: Path) -> None:
    tensors = load_file(work / "model.safetensors")
    save_file(tensors, work / "model.safetensors", metadata={"embed.weight": "fc.weight"})
    refused(work, "is shared")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_patch__the_copy_has_the_permissions_of_the_original(work: Path, mode: int) -> None:
    (work / "model.safetensors").chmod(mode)
    run_patch(work)
    assert stat.S_IMODE((work / "model.alphafix.safetensors").stat().st_mode) == mode


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_patch__a_file_with_another_name_is_not_patched_in_place(
    work: Path, link: Callable[[Path, Path], None]
) -> None:
    link(work / "model.safetensors", work / "linked.safetensors")
    refused(work, "is not patched in place", file=work / "linked.safetensors", in_place=True)


def test_in_order__overlapping_replacements_are_refused() -> None:
    with pytest.raises(ValueError, match="same bytes"):
        in_order([Splice(0, 4, b"abcd"), Splice(3, 4, b"efgh")])


def test_write_in_place__bytes_beyond_the_end_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(bytes(10))
    with pytest.raises(ValueError, match="bytes would move"):
        write_in_place({file: [Splice(8, 4, b"abcd")]})
    assert file.read_bytes() == bytes(10)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
