"""What is no file, links in a circle, names that are no text: one error, and nothing changes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from pathlib import Path
from types import FrameType

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import alphafix
from alphafix.commands.app import app
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import InputError
from alphafix.files import atomic_path, write_json
from alphafix.reading.boundary import real
from alphafix.run.directory import FITTED
from tests.common import make_problem, write_run
from tests.fuzz.engine import OURS
from tests.fuzz.readers import ALL, Reader
from tests.stages import find_neighbors, train

# As little as a comparison can be.
LESS = ["--rho", "1", "--seeds", "1", "-k", "2", "--no-on-top", "--bootstraps", "100"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a correction, and its model."""
    folder = tmp_path_factory.mktemp("world")
    problem = make_problem()
    write_run(folder / "run", problem)
    find_neighbors(NeighborsOptions(run=folder / "run", k=3))
    train(TrainOptions(run=folder / "run", seeds=1, epochs=2))
    tensors = {"fc.weight": problem.head.weight, "fc.bias": problem.head.bias_or_zeros}
    save_file(tensors, folder / "model.safetensors")
    return folder


def refused(*words: str | Path) -> str:
    """The one error that a command ends in."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 1, done.output
    assert done.stderr.count("error: ") == 1
    return done.stderr


def waited(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("it was waited for")


@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_reader__of_a_pipe_waits_for_nobody(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / reader.file
    path.parent.mkdir(exist_ok=True)
    reader.around(path.parent)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    signal.signal(signal.SIGALRM, waited)
    signal.alarm(5)
    try:
        if reader.name == "values":  # which tries several, and takes their errors
            reader.read(path)
            return
        with pytest.raises(OURS) as raised:
            reader.read(path)
    finally:
        signal.alarm(0)
    assert "pipe" in str(raised.value) or "is not there" in str(raised.value)


def test_atomic_path__replaces_nothing_but_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "socket"))
        before = {path: path.lstat().st_ino for path in tmp_path.iterdir()}
        for path in before:
            with (
                pytest.raises(InputError, match="which is not replaced"),
                atomic_path(path, overwrite=True) as draft,
            ):
                draft.write_bytes(b"x")
        assert {path: path.lstat().st_ino for path in tmp_path.iterdir()} == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_real__goes_as_far_as_links_lead(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("file")
    assert real(tmp_path / "loop") == real(tmp_path) / "loop"
    assert real(tmp_path / "link") == real(tmp_path) / "file"
    package = Path(alphafix.__file__).parent
    places = [p for p in package.rglob("*.py") if ".resolve()" in p.read_text(encoding="utf-8")]
    assert places == []  # before Python 3.13 it raises a RuntimeError


@pytest.mark.slow
def test_commands__given_links_in_a_circle(world: Path) -> None:
    loop, run = world / "loop", world / "run"
    loop.symlink_to(loop)
    model = world / "model.safetensors"
    refused("patch", model, "--output", loop, "--run", run)
    refused("neighbors", "-k", "3", "--csv", loop, "--run", run)
    refused("train", "--run", loop)
    refused("inspect", loop)
    (run / FITTED).symlink_to(FITTED)  # as a run directory from anywhere may have it
    try:
        refused("compare", "--methods", "tau-norm", *LESS, "--run", run)
    finally:
        (run / FITTED).unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_commands__cannot_record_names_that_are_no_text(world: Path) -> None:
    model = world / os.fsdecode(b"\xff.safetensors")
    model.write_bytes((world / "model.safetensors").read_bytes())
    before = sorted(world.iterdir())
    told = refused("patch", model, "--run", world / "run")
    assert "a name is not in UTF-8" in told
    assert sorted(world.iterdir()) == before
    assert CliRunner().invoke(app, ["inspect", str(model)]).exit_code == 0


def test_write_json__says_which_name_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got: +.*\\udcff"):
        write_json(tmp_path / "a.json", {"model": os.fsdecode(b"a\xff")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_compare__clears_what_a_kill_left_of_its_clearing(world: Path) -> None:
    run = world / "run"
    words = ["compare", "--methods", "tau-norm", *LESS, "--run", str(run)]
    assert CliRunner().invoke(app, words).exit_code == 0
    (run / FITTED / "compare").mkdir(parents=True)
    (run / FITTED / "compare/0.safetensors").write_bytes(b"left")
    assert CliRunner().invoke(app, words).exit_code == 0
    assert not (run / FITTED).exists()


def test_recipe__sweeps_what_a_kill_left_of_a_stage_that_is_done(world: Path) -> None:
    left, theirs = world / "run/.neighbors.safetensors.0.tmp", world / "run/mine.tmp"
    left.write_bytes(b"left")
    theirs.write_bytes(b"kept")
    recipe = world / "recipe.yaml"
    recipe.write_text("run: run\nstages:\n  - neighbors: {k: 3}\n")
    done = CliRunner().invoke(app, ["run", str(recipe)])
    assert (done.exit_code, left.exists(), theirs.exists()) == (0, False, True), done.output
    assert "neighbors: up to date" in done.stderr
