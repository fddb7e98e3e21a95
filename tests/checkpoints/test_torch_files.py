"""Torch files: nothing in them is run, and patching keeps every other byte."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alphafix.checkpoints import find_head, load_state_dict, open_checkpoint
from alphafix.checkpoints.weights import load_strictly, read_weights
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import FileFormatError, InputError
from tests.checkpoints.models import CLASSES, FEW, build, make_correction, write_stages
from tests.stages import patch


class Evil:
    """A pickle of this creates a file when it is loaded without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_open__runs_no_code(zipped: bool, tmp_path: Path) -> None:
    path, trap = tmp_path / "model.pth", tmp_path / "trap"
    content = {"state_dict": build("lws").state_dict(), "args": Evil(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for read in (open_checkpoint, load_state_dict, find_head):
        with pytest.raises(FileFormatError) as caught:
            read(path)
        assert "refused" in str(caught.value)
        assert "weights_only" in str(caught.value)
    assert not trap.exists()
    # The file is what it is meant to be: without care it does create the file.
    torch.load(path, weights_only=False)
    assert trap.exists()


def test_open__plain_pickle_runs_no_code(tmp_path: Path) -> None:
    path, trap = tmp_path / "model.bin", tmp_path / "trap"
    path.write_bytes(pickle.dumps(Evil(trap), protocol=2))
    with pytest.raises(FileFormatError):
        open_checkpoint(path)
    assert not trap.exists()


def test_open__torchscript_pickle_runs_no_code(tmp_path: Path) -> None:
    path, trap = tmp_path / "model.pt", tmp_path / "trap"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", pickle.dumps(()))
        archive.writestr("model/data.pkl", pickle.dumps({"fc.weight": Evil(trap)}))
    assert open_checkpoint(path).tensors == ()
    assert not trap.exists()


NESTINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {
        "state_dict": state,
        "optimizer": {"m": [torch.ones(CLASSES, 16)]},
    },
    "model": lambda state: {"model": state, "epoch": 7},
    "state_dict_ema": lambda state: {"state_dict_ema": state},
    "prefix": lambda state: {f"module.{key}": value for key, value in state.items()},
    "nested prefix": lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_patch__changes_only_the_rows(nesting: str, zipped: bool, tmp_path: Path) -> None:
    model = build("timm-vit")
    path = tmp_path / "model.pth"
    content = NESTINGS[nesting](model.state_dict())
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    original = path.read_bytes()
    head = find_head(path, num_classes=CLASSES)
    correction = make_correction(head)
    run = write_stages(tmp_path / "run", head, correction)

    target = patch(PatchOptions(run=run.folder, file=path)).target

    assert path.read_bytes() == original
    old = np.frombuffer(original, np.uint8)
    new = np.frombuffer(target.read_bytes(), np.uint8)
    assert old.shape == new.shape
    # 3 rows of 32 and 3 biases in float32, and two checksums (each twice) in an archive.
    most = 4 * (3 * 32 + 3) + (2 * 2 * 4 if zipped else 0)
    assert 0 < (old != new).sum() <= most
    state, again = load_state_dict(path), load_state_dict(target)
    assert list(state) == list(again) == list(model.state_dict())
    for name in state:
        if name not in ("head.weight", "head.bias"):
            assert torch.equal(state[name], again[name])
    np.testing.assert_array_equal(again["head.weight"][FEW].numpy(), correction.rows)
    others = np.setdiff1d(np.arange(CLASSES), FEW)
    assert torch.equal(again["head.weight"][others], state["head.weight"][others])
    assert torch.equal(again["head.bias"][others], state["head.bias"][others])


def test_patch__archive_checksums_are_right(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(build("timm-vit").state_dict(), path)
    head = find_head(path, num_classes=CLASSES)
    run = write_stages(tmp_path / "run", head, make_correction(head))
    target = patch(PatchOptions(run=run.folder, file=path)).target
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("zipped", [True, False])
def test_open__torch_file_under_another_name(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save(build("lws").state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileFormatError, match=r"(?s)is a torch file.*rename it to model\.pth"):
        open_checkpoint(path)
    path = path.rename(tmp_path / "model.weights")  # of a name that says nothing
    assert open_checkpoint(path).format.name == "torch"


def test_open__averaged_weights_come_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.pth"
    raw = build("timm-vit", seed=1).state_dict()
    averaged = build("timm-vit", seed=2).state_dict()
    torch.save({"state_dict": raw, "state_dict_ema": averaged}, path)
    assert torch.equal(load_state_dict(path)["head.weight"], averaged["head.weight"])
    assert "state_dict_ema is used" in caplog.text
    head = find_head(path)
    assert head.source is not None
    assert head.source.weights == ("state_dict_ema.head.weight",)
    other = load_state_dict(path, section="state_dict")
    assert torch.equal(other["head.weight"], raw["head.weight"])


def test_patch__shared_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    weight = torch.randn(CLASSES, 16)
    torch.save({"embedding.weight": weight, "head.weight": weight}, path)
    head = find_head(path, num_classes=CLASSES, name="head")
    run = write_stages(tmp_path / "run", head, make_correction(head))
    with pytest.raises(InputError, match=r"(?s)is shared.*embedding\.weight uses the same bytes"):
        patch(PatchOptions(run=run.folder, file=path))
    assert not (tmp_path / "model.alphafix.pth").exists()


def test_patch__transposed_view(tmp_path: Path) -> None:
    """A head whose storage is the other way round is written where its elements are."""
    path = tmp_path / "model.pth"
    torch.save({"head.weight": torch.randn(16, CLASSES).T, "other": torch.ones(3)}, path)
    head = find_head(path)
    correction = make_correction(head)
    run = write_stages(tmp_path / "run", head, correction)
    target = patch(PatchOptions(run=run.folder, file=path)).target
    again = torch.load(target, weights_only=True)["head.weight"].numpy()
    np.testing.assert_array_equal(again, correction.apply(head).weight)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_open__truncated(keep: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(build("lws").state_dict(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(FileFormatError, match="got:"):
        open_checkpoint(path)


def test_open__compressed_archive_is_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "model.pth", tmp_path / "packed.pth"
    torch.save(build("lws").state_dict(), path)
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in archive.namelist():
            out.writestr(name, archive.read(name))
    with pytest.raises(FileFormatError):
        open_checkpoint(packed)


def test_load_state_dict__something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"weights": [1, 2, 3]}, path)
    with pytest.raises(FileFormatError, match=r"(?s)holds no state dict.*'weights', a list"):
        load_state_dict(path)


class Settings:
    """A training script's own configuration."""

    def __init__(self) -> None:
        self.rate = 0.1


class Node:
    """A configuration that knows its parent, as those of OmegaConf do."""

    def __init__(self, parent: Node | None = None) -> None:
        self.parent = parent
        self.content = {"parts": [Node(self), Node(self)]} if parent is None else {}


def _lightning(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in state.items()},
        "hyper_parameters": {"args": argparse.Namespace(lr=0.1), "seed": np.float64(3)},
        "callbacks": {"best": Path("a.ckpt")},
    }


SCRIPTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": np.float32(0.5)},
    "DeepSpeed": lambda state: {"module": state, "ds_config": argparse.Namespace(stage=3)},
    "Lightning": _lightning,
    "a section's name for settings": lambda state: {
        "state_dict": state,
        "model": {"name": "vit"},
        "module": argparse.Namespace(depth=1),
    },
    "settings that know their parent": lambda state: {"model": state, "args": Node()},
    "one table under another name": lambda state: {"net": state, "opt": {"lr": 1.0}},
    "settings of the script": lambda state: {"model": state, "args": Settings()},
    "a prefix of its own": lambda state: {f"net.{name}": tensor for name, tensor in state.items()},
    "all prefixes": lambda state: {f"module._orig_mod.model.{k}": v for k, v in state.items()},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("script", SCRIPTS)
def test_reader__is_one_for_patch_and_extract(script: str, zipped: bool, tmp_path: Path) -> None:
    """What either takes the other one takes: the same tensors, and the same rows after a patch."""
    model, path = build("timm-vit"), tmp_path / "model.pth"
    content = SCRIPTS[script](model.state_dict())
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    head = find_head(path, num_classes=CLASSES)
    correction = make_correction(head)
    run = write_stages(tmp_path / "run", head, correction)

    target = patch(PatchOptions(run=run.folder, file=path)).target

    for file, rows in ((path, head.weight), (target, correction.apply(head).weight)):
        again = build("timm-vit", seed=4)
        load_strictly(again, read_weights(file, spec="timm"), file=file, spec="timm")
        np.testing.assert_array_equal(again.state_dict()["head.weight"].numpy(), rows)
        for name, tensor in model.state_dict().items():
            if not name.startswith("head."):
                assert torch.equal(again.state_dict()[name], tensor)
    torch.load(target, weights_only=False)  # it is still whole for the script that wrote it


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_open__whole_model(wrapped: bool, zipped: bool, tmp_path: Path) -> None:
    """A pickled module is read as its state dict; none of its code is run."""
    model, path = build("timm-resnet"), tmp_path / "model.pt"
    torch.save(
        {"model": model, "epoch": 3} if wrapped else model,
        path,
        _use_new_zipfile_serialization=zipped,
    )
    found = load_state_dict(path)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_open__object_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(Settings(), path)
    with pytest.raises(FileFormatError, match=r"(?s)Settings without tensors.*state_dict\(\)"):
        open_checkpoint(path)


def test_open__numbers_of_another_byte_order(tmp_path: Path) -> None:
    path, turned = tmp_path / "model.pth", tmp_path / "big.pth"
    torch.save(build("lws").state_dict(), path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(turned, "w") as out:
        for name in archive.namelist():
            out.writestr(name, b"big" if name.endswith("byteorder") else archive.read(name))
    for read in (open_checkpoint, load_state_dict, find_head):
        with pytest.raises(FileFormatError, match=r"(?s)high byte .* first.*torch\.load"):
            read(turned)


def test_read_weights__of_two_copies_says_which(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    raw, averaged = (build("timm-vit", seed=seed).state_dict() for seed in (1, 2))
    torch.save({"state_dict": raw, "state_dict_ema": averaged}, path)
    with pytest.raises(InputError, match=r"(?s)more than once.*state_dict_ema and state_dict"):
        read_weights(path, spec="python:x")
    timms = read_weights(path, spec="timm:x", averaged_first=True)
    assert torch.equal(timms["head.weight"], averaged["head.weight"])
    mine = read_weights(path, spec="python:x", section="state_dict")
    assert torch.equal(mine["head.weight"], raw["head.weight"])
    with pytest.raises(InputError, match="no part best"):
        read_weights(path, spec="python:x", section="best")
