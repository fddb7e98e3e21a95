"""One command at a time in a run directory; the other waits, or says who works there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.checkpoints import find_head
from alphafix.commands.app import app
from alphafix.commands.command import Watch, held
from alphafix.commands.patch.options import PatchOptions
from alphafix.commands.run.options import RecipeOptions
from alphafix.commands.run.work import work as run_recipe
from alphafix.errors import MissingStageError
from alphafix.locks import LockedError, if_free, locked
from alphafix.values.display import Part
from tests.checkpoints.models import make_correction, write_stages
from tests.common import make_problem, write_run
from tests.stages import patch

HOLD = """
import sys, time
from pathlib import Path
from alphafix.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
def test_locked__by_another_process_is_said(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with holder:
        with (
            pytest.raises(LockedError, match=rf"process {holder.pid} ") as raised,
            locked(tmp_path),
        ):
            raise AssertionError("not reached")
        assert "wait='SECONDS'" in str(raised.value)
        holder.kill()
    with locked(tmp_path):  # a process that dies gives it up
        pass


@pytest.mark.slow
def test_locked__is_waited_for(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    told: list[str] = []

    def say(text: str) -> None:
        told.append(text)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

    with holder, locked(tmp_path, wait=60, say=say):
        assert told == [told[0]]
    assert told[0].startswith(f"waiting for process {holder.pid} (")


def test_locked__twice_in_one_process_and_shared_among_readers(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path):
        pass
    lines = ("from pathlib import Path", "from alphafix.locks import locked")
    read = "\n".join([*lines, f"with locked(Path({str(tmp_path)!r}), shared=True): pass"])
    with locked(tmp_path, shared=True):
        subprocess.run([sys.executable, "-c", read], check=True)
    write = read.replace(", shared=True", "")
    with locked(tmp_path, shared=True):
        done = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True)
        assert "is in use" in done.stderr


def test_locked__is_not_held_by_forked_processes_that_live_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # until the parent ends it
            os._exit(0)
    os.close(reading)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_locked__a_forked_process_that_leaves_it_takes_nothing_from_its_parent(
    tmp_path: Path,
) -> None:
    child = 0
    with contextlib.suppress(ZeroDivisionError), locked(tmp_path):
        child = os.fork()
        if child == 0:
            raise ZeroDivisionError  # whatever makes it leave
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        other = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True)
        assert b"in use" in other.stderr
    if child == 0:
        os._exit(0)


def test_locked__is_not_held_by_what_a_killed_process_has_forked(tmp_path: Path) -> None:
    print_both = 'import os; os.write(1, f"{os.fork()}\\n".encode())'
    code = HOLD.replace('print("held", flush=True)', print_both)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        # The number of the child, from its parent, and 0 from itself, once it has forgotten.
        forks = {int(parent.stdout.readline()) for _ in range(2)}
        parent.kill()
        try:
            parent.wait()
            with locked(tmp_path):
                pass
        finally:
            os.kill(max(forks), signal.SIGKILL)


def test_command__says_who_works_in_the_run_directory(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    write_run(tmp_path, make_problem())
    with holder:
        command = [sys.executable, "-m", "alphafix", "neighbors", "--run", str(tmp_path)]
        done = subprocess.run([*command, "-k", "3", "--wait", "0"], capture_output=True, text=True)
        assert done.returncode == 1
        assert f"process {holder.pid}" in done.stderr
        assert "--wait SECONDS" in done.stderr
        waiting = subprocess.Popen([*command, "-k", "3"], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert "waiting for process" in waiting.stderr.readline()
        holder.kill()
        assert waiting.wait(60) == 0
        waiting.stderr.close()


def test_command__that_comes_to_nothing_leaves_no_folder(tmp_path: Path) -> None:
    words = ["extract", "--run", str(tmp_path / "new")]
    wrong = ["--backbone", "timm:resnet18", "--data", str(tmp_path / "none")]
    done = CliRunner().invoke(app, [*words, *wrong])
    assert done.exit_code == 1
    assert str(tmp_path / "none") in done.stderr
    assert list(tmp_path.iterdir()) == []


CROWD = """
import sys, time
from pathlib import Path
from alphafix.commands.command import Watch, held

place, name = Path(sys.argv[1]), sys.argv[2]
inside = place.parent / "inside"
sys.stdin.readline()  # when all are ready
for turn in range(30):
    with held(place, Watch(), wait=60, begins=True):
        inside.mkdir()  # fails if anybody else is in there
        (place / "passing").mkdir()  # and this if the folder is not the one at its path
        time.sleep(0.001)
        (place / "passing").rmdir()
        if name and turn == 20:
            (place / name).touch()
        inside.rmdir()
"""


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [[], ["a"], ["a", "b", "c", "d"]])
def test_held__a_new_folder_that_others_leave_empty_is_made_again(
    keeps: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "around" / "new"
    code = [sys.executable, "-c", CROWD, str(place)]
    names = [*keeps, *[""] * (4 - len(keeps))]
    with contextlib.ExitStack() as running:
        crowd = [
            running.enter_context(
                subprocess.Popen(
                    [*code, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
            for name in names
        ]
        for one in crowd:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        said = [one.communicate()[1] for one in crowd]
    assert said == [""] * len(names)
    left = sorted(path.name for path in place.iterdir()) if place.exists() else None
    assert left == (keeps or None)
    around = [path.name for path in place.parent.iterdir()] if place.parent.exists() else None
    assert around == (["new"] if keeps else None)


def test_held__what_is_gone_once_it_is_free_is_not_held_by_those_that_only_read(
    tmp_path: Path,
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        def say(*parts: Part) -> None:
            place.rmdir()
            holder.kill()

        with held(place, Watch(say=say), wait=60):
            assert not place.exists()


def test_locked__a_file_that_was_replaced_meanwhile_is_locked_as_it_is_now(tmp_path: Path) -> None:
    model, other = tmp_path / "model", tmp_path / "other"
    model.touch()
    other.touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(model)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        def say(text: str) -> None:
            other.replace(model)
            holder.kill()
            holder.wait()

        with locked(model, wait=60, say=say):
            late = subprocess.run([sys.executable, "-c", HOLD, str(model)], capture_output=True)
            assert b"in use" in late.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", [{}, {"in_place": True}, {"delta": True}, {"revert": True}])
def test_patch__waits_for_who_works_on_the_model(way: dict[str, bool], tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_file({"fc.weight": np.eye(12, 16, dtype=np.float32)}, model)
    head = find_head(model)
    write_stages(tmp_path / "run", head, make_correction(head))
    model.chmod(0o400)
    before = set(tmp_path.iterdir())
    given = {"run": tmp_path / "run", "file": model, "wait": 0, **way}
    options = PatchOptions.model_validate(given)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(model)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockedError, match=rf"process {holder.pid} "):
            patch(options)
        holder.kill()
    assert set(tmp_path.iterdir()) == before


def test_run__keeps_others_out_between_its_stages(tmp_path: Path) -> None:
    write_run(tmp_path / "results", make_problem())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("run: results\nstages:\n- neighbors: {k: 3}\n- evaluate\n")
    lines = ("from pathlib import Path", "from alphafix.locks import locked")
    take = "\n".join([*lines, f"with locked(Path({str(tmp_path / 'results')!r})): pass"])
    refused: list[int] = []

    def say(*parts: Part) -> None:
        if str(parts[0]).startswith("[1/2]"):
            done = subprocess.run([sys.executable, "-c", take], capture_output=True)
            refused.append(done.returncode)

    with pytest.raises(MissingStageError):  # there is no correction yet
        run_recipe(RecipeOptions(file=recipe), Watch(say=say))
    assert refused == [1]
    with locked(tmp_path / "results"):
        pass


def test_if_free__holds_what_nobody_works_with(tmp_path: Path) -> None:
    with if_free(tmp_path) as free:
        assert free
        with subprocess.Popen(
            [sys.executable, "-c", TRY, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.communicate()[0] == "False LockedError\n"
    with locked(tmp_path), if_free(tmp_path) as free:  # of this process
        assert not free
    with locked(tmp_path):  # and that has not given it up
        script = subprocess.run(
            [sys.executable, "-c", TRY, str(tmp_path)], capture_output=True, text=True, check=True
        )
    assert script.stdout == "False LockedError\n"
    with if_free(tmp_path / "nothing") as free:
        assert not free


TRY = """
import sys
from pathlib import Path
from alphafix.locks import LockedError, if_free, locked

place = Path(sys.argv[1])
with if_free(place) as free:
    print(free, end=" ")
try:
    with locked(place):
        print("locked")
except LockedError as error:
    print(type(error).__name__)
"""
