"""A patch that is asked for again: up to date, done anew, or refused, and the files stay."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from alphafix.checkpoints import find_head
from alphafix.checkpoints.patch.inplace import undo_path
from alphafix.commands import COMMANDS
from alphafix.commands.app import app
from alphafix.commands.command import Command
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import AlphafixError, InputError, TargetExistsError
from alphafix.run import directory
from alphafix.run.artifact import State
from alphafix.values.correction import Chosen, Correction
from tests.checkpoints.models import make_correction, write_stages
from tests.stages import patch

WAYS: dict[str, dict[str, Any]] = {
    "copy": {},
    "delta": {"delta": True},
    "in place": {"in_place": True},
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with model.safetensors and the run directory of its correction."""
    rng = np.random.default_rng(0)
    shapes = {"body.weight": (30, 30), "fc.weight": (12, 16), "fc.bias": (12,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    head = find_head(tmp_path / "model.safetensors", name="fc")
    write_stages(tmp_path / "run", head, make_correction(head))
    return tmp_path


def options(work: Path, **values: object) -> PatchOptions:
    given = {"run": work / "run", "file": work / "model.safetensors", **values}
    return PatchOptions.model_validate(given)


def state(given: PatchOptions) -> State:
    command: Command = COMMANDS["patch"]
    return command.state(given)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of all files."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("card", [False, True])
def test_again__is_up_to_date(way: str, card: bool, work: Path) -> None:
    more = {"card": work / "README.md"} if card else {}
    given = options(work, **WAYS[way], **more)
    assert state(given) is State.MISSING
    first = patch(given)
    before = contents(work)
    assert state(given) is State.CURRENT
    again = patch(given)
    assert (first.action, again.action) == (way, "up to date")
    assert again.target == first.target
    assert set(again.files) <= set(first.files)
    assert contents(work) == before


@pytest.mark.parametrize("way", WAYS)
def test_again__with_other_options_is_refused(way: str, work: Path) -> None:
    patch(options(work, **WAYS[way]))
    before = contents(work)
    with pytest.raises(TargetExistsError):
        patch(options(work, **WAYS[way], provenance=False))
    assert contents(work) == before


@pytest.mark.parametrize("way", ["copy", "delta"])
def test_again__of_another_correction_or_model_is_refused(way: str, work: Path) -> None:
    given = options(work, **WAYS[way])
    target = patch(given).target
    written = target.read_bytes()
    other = make_correction(find_head(work / "model.safetensors"))
    Correction(other.classes, other.rows + 1, other.biases).save(
        work / "run" / "alphanet.safetensors", overwrite=True
    )
    assert state(given) is State.OTHER
    with pytest.raises(TargetExistsError):
        patch(given)
    assert target.read_bytes() == written
    assert patch(given.model_copy(update={"overwrite": True})).action == way
    assert target.read_bytes() != written
    model = load_file(work / "model.safetensors")
    save_file({**model, "more": model["fc.weight"]}, work / "model.safetensors")
    with pytest.raises(AlphafixError):
        patch(given)


@pytest.mark.parametrize("way", ["copy", "delta"])
def test_again__a_missing_target_is_made_and_a_changed_one_refused(way: str, work: Path) -> None:
    given = options(work, **WAYS[way])
    target = patch(given).target
    written = target.read_bytes()
    target.unlink()
    assert state(given) is State.MISSING
    assert patch(given).action == way
    assert target.read_bytes() == written
    target.write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        patch(given)
    assert target.read_bytes() == b"mine"


def test_again__in_place_with_other_rows_is_refused(work: Path) -> None:
    given = options(work, in_place=True)
    patch(given)
    model = work / "model.safetensors"
    found = find_head(model)
    content = bytearray(model.read_bytes())
    at = content.find(found.weight[make_correction(found).classes[0]].tobytes())
    content[at : at + 4] = b"\0\0\0\0"
    model.write_bytes(content)
    assert state(given) is State.MISSING
    with pytest.raises(InputError, match="has been changed since it was patched in place"):
        patch(given)
    assert model.read_bytes() == content
    assert undo_path(model).is_file()


def test_again__a_dry_run_shows_what_would_change(work: Path) -> None:
    patch(options(work))
    again = patch(options(work, dry_run=True))
    assert again.action == "dry run"
    assert again.plan is not None


def test_again__a_delta_makes_no_run_directory(work: Path) -> None:
    delta = patch(options(work, delta=True)).target
    given = options(work, run=work / "nowhere", apply=delta)
    patch(given)
    assert not (work / "nowhere").exists()
    before = contents(work)
    patch(given)  # it is there just as it would be written
    assert contents(work) == before
    with_run = options(work, apply=delta, overwrite=True)
    patch(with_run)
    assert patch(with_run.model_copy(update={"overwrite": False})).action == "up to date"


def test_again__onto_the_original_stays_refused(work: Path) -> None:
    patch(options(work))
    with pytest.raises(InputError, match="is the original"):
        patch(options(work, output=work / "model.safetensors", overwrite=True))


def test_again__a_shard_that_changed_is_seen(tmp_path: Path) -> None:
    tensors = {
        "body.weight": np.zeros((30, 30), dtype=np.float32),
        "fc.weight": np.eye(12, 16, dtype=np.float32),
    }
    for number, (name, tensor) in enumerate(tensors.items()):
        save_file({name: tensor}, tmp_path / f"part-{number}.safetensors")
    places = {name: f"part-{number}.safetensors" for number, name in enumerate(tensors)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    head = find_head(index, name="fc")
    write_stages(tmp_path / "run", head, make_correction(head))
    given = options(tmp_path, file=index)
    patch(given)
    assert patch(given).action == "up to date"
    shard = tmp_path / "part-0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + b"\0\0\0\1")
    assert state(given) is State.OTHER


@pytest.mark.parametrize("way", WAYS)
def test_patch__all_that_holds_weights_takes_the_mode_of_the_model(way: str, work: Path) -> None:
    model = work / "model.safetensors"
    for mode in (0o600, 0o666):
        model.chmod(mode)
        result = patch(options(work, **WAYS[way], overwrite=mode == 0o666))
        written = [file for file in result.files if file != model]
        umask = os.umask(0o022)
        os.umask(umask)
        assert {stat.S_IMODE(file.stat().st_mode) for file in written} == {mode & ~umask}
        if way == "in place":
            patch(options(work, revert=True))


def test_in_place__a_whole_patch_of_another_correction_is_not_taken_back(work: Path) -> None:
    patch(options(work, in_place=True))
    before = contents(work)
    with pytest.raises(TargetExistsError, match="has been patched in place"):
        patch(options(work, in_place=True, verify="full"))
    assert contents(work) == before


def test_in_place__an_interruption_puts_the_original_back_and_says_so(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, write = work / "model.safetensors", os.pwrite
    before = model.read_bytes()
    calls: list[int] = []

    def interrupted(file: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt, match="has its original bytes"):
        patch(options(work, in_place=True))
    assert model.read_bytes() == before
    assert not undo_path(model).exists()


def test_again__in_place_by_other_versions_of_the_packages(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written are the correction's bytes, whatever wrote them."""
    given = options(work, in_place=True)
    patch(given)
    before = (work / "model.safetensors").read_bytes()
    monkeypatch.setattr(directory, "_VERSIONED", ("pytest", *directory._VERSIONED))
    directory._versions.cache_clear()
    try:
        assert directory.versions().keys() > {"pytest"}
        assert state(given) is State.CURRENT
        assert patch(given).action == "up to date"
    finally:
        directory._versions.cache_clear()
    assert (work / "model.safetensors").read_bytes() == before


def test_patch__of_a_kept_base_model_says_so(work: Path) -> None:
    head = find_head(work / "model.safetensors", name="fc")
    kept = Correction.none(
        head, np.array([1, 2]), Chosen({"offset": 0.0}), "alphanet", why="nothing gained"
    )
    shutil.rmtree(work / "run")
    write_stages(work / "run", head, kept)
    words = ["patch", "--run", work / "run", work / "model.safetensors"]
    shown = CliRunner().invoke(app, list(map(str, words)))
    assert shown.exit_code == 0
    assert "model.safetensors: rows of the base model" in shown.stderr
    assert "rows that change" not in shown.stderr
    told = (
        "the base model is kept, nothing is corrected: nothing gained; the copy is the model as it"
    )
    assert told in " ".join(shown.stderr.split())
    copy, original = (load_file(work / f"model{x}.safetensors") for x in ("", ".alphafix"))
    assert all((copy[name] == original[name]).all() for name in original)
    found = patch(options(work, dry_run=True)).to_dict()
    assert found["kept_because"] == "nothing gained"
