"""Sharded models: only the head's shard changes; indexes that lie are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from alphafix.checkpoints import find_head, load_state_dict, open_checkpoint
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import FileFormatError, InputError
from tests.checkpoints.models import make_correction, write_stages
from tests.stages import patch

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    shards: dict[str, dict[str, torch.Tensor]] = {
        "model-00001-of-00002.safetensors": {"body.weight": torch.randn(40, 30)},
        "model-00002-of-00002.safetensors": {
            "fc.weight": torch.randn(12, 8),
            "fc.bias": torch.randn(12),
        },
    }
    for name, tensors in shards.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
    places = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text("{}")
    head = find_head(folder, num_classes=12)
    write_stages(tmp_path / "run", head, make_correction(head))
    return folder


def test_patch__keeps_sharding(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = patch(PatchOptions(run=folder.parent / "run", file=folder))
    new = {path.name for path in folder.iterdir()} - set(before)
    assert new == {
        "model.safetensors.index.alphafix.json",
        "model-00002-of-00002.alphafix.safetensors",
    }
    assert all((folder / name).read_bytes() == data for name, data in before.items())
    old, index = (json.loads((folder / n).read_text()) for n in (INDEX, result.target.name))
    assert index["metadata"] == old["metadata"]
    assert list(index["weight_map"]) == list(old["weight_map"])
    assert index["weight_map"]["body.weight"] == "model-00001-of-00002.safetensors"
    state = load_state_dict(result.target)
    assert torch.equal(state["body.weight"], load_state_dict(folder)["body.weight"])


def test_patch__into_another_folder(folder: Path) -> None:
    target = folder.parent / "patched"
    patch(PatchOptions(run=folder.parent / "run", file=folder / INDEX, output=target))
    assert {p.name for p in target.iterdir()} == {p.name for p in folder.iterdir()}
    for name in (INDEX, "config.json", "model-00001-of-00002.safetensors"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()
    shard = "model-00002-of-00002.safetensors"
    assert (target / shard).read_bytes() != (folder / shard).read_bytes()


def test_patch__in_place_and_back(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = folder.parent / "run"
    patch(PatchOptions(run=run, file=folder, in_place=True))
    changed = [name for name, data in before.items() if (folder / name).read_bytes() != data]
    assert changed == ["model-00002-of-00002.safetensors"]
    patch(PatchOptions(run=run, file=folder, revert=True))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def rewrite(folder: Path, places: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))


SHARD = "model-00002-of-00002.safetensors"
ALL = {
    "body.weight": "model-00001-of-00002.safetensors",
    "fc.weight": SHARD,
    "fc.bias": SHARD,
}
LIES: dict[str, tuple[Any, str]] = {
    "missing shard": ({"fc.weight": "gone.safetensors"}, "is missing"),
    "outside": ({"fc.weight": "../model/" + SHARD}, "a path outside its folder"),
    "absolute": ({"fc.weight": "/etc/model.safetensors"}, "a path outside its folder"),
    "parent": ({"fc.weight": ".."}, "a path outside its folder"),
    "no safetensors": ({"fc.weight": "config.json"}, "no safetensors file"),
    "tensor that is not there": ({**ALL, "x": SHARD}, "lists a tensor"),
    "tensor that is not listed": ({"fc.weight": SHARD}, "lacks a tensor"),
    "numbers": ({"fc.weight": 3}, "no weight_map"),
    "empty": ({}, "no weight_map"),
    "none": (None, "no weight_map"),
}


@pytest.mark.parametrize("lie", LIES)
def test_open__index_that_lies(lie: str, folder: Path) -> None:
    places, message = LIES[lie]
    rewrite(folder, places)
    with pytest.raises(FileFormatError) as caught:
        open_checkpoint(folder)
    text = str(caught.value)
    assert message in text
    assert all(part in text for part in ("got:", "expected:", "to do:"))


def test_open__index_that_is_no_json(folder: Path) -> None:
    (folder / INDEX).write_text("{")
    with pytest.raises(FileFormatError, match="is damaged"):
        open_checkpoint(folder)


def test_open__truncated_shard(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="truncated"):
        open_checkpoint(folder)


def test_folder__that_holds_one_model_twice_is_refused(folder: Path) -> None:

    save_file(load_state_dict(folder), folder / "model.safetensors")
    for read in (open_checkpoint, load_state_dict, find_head):
        with pytest.raises(InputError, match=r"(?s)two models.*model\.safetensors and .*index"):
            read(folder)


def test_folder__torch_file_beside_safetensors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers takes the safetensors; a torch file alone is taken too."""
    save_file({"fc.weight": torch.ones(3, 4)}, tmp_path / "model.safetensors")
    torch.save({"fc.weight": torch.zeros(3, 4)}, tmp_path / "pytorch_model.bin")
    assert load_state_dict(tmp_path)["fc.weight"].sum() == 12
    assert "pytorch_model.bin stays as it is" in caplog.text
    (tmp_path / "model.safetensors").unlink()
    assert load_state_dict(tmp_path)["fc.weight"].sum() == 0


def test_folder__adapter_is_to_be_merged_first(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.ones(3, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"(?s)adapter.*merge_and_unload"):
        open_checkpoint(tmp_path)
