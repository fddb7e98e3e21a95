"""Of two commands that write the same files, one fails; or, where each may, one's are all there."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import TargetExistsError
from alphafix.files import together, write_files
from alphafix.progress import Advance
from tests.common import make_problem, write_run
from tests.imports.projects import save_networks
from tests.imports.test_oltr import CLASSES, WIDTH, body_state, layer
from tests.stages import find_neighbors, report, train

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two run directories with other corrections."""
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("one", "two")):
        write_run(folder / name, make_problem(seed=number))
        find_neighbors(NeighborsOptions(run=folder / name, k=3))
        train(TrainOptions(run=folder / name, seeds=1, epochs=2))
    return folder / "one", folder / "two"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_report__whose_page_came_meanwhile_is_refused(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    one, two = runs
    page = tmp_path / "page"
    theirs: dict[str, bytes] = {}

    @contextlib.contextmanager
    def meanwhile(what: str, total: int | None) -> Iterator[Advance]:
        yield lambda count: None
        if what == "figures":
            report(ReportOptions(run=two, bootstraps=100, output=page))
            theirs.update(contents(page))

    with pytest.raises(TargetExistsError, match="exists already"):
        report(ReportOptions(run=one, bootstraps=100, output=page), progress=meanwhile)
    assert contents(page) == theirs
    assert "index.html" in theirs


def test_write_files__one_that_came_meanwhile_stays(tmp_path: Path) -> None:
    write_files({tmp_path / name: b"1" for name in NAMES})
    write_files({tmp_path / name: b"1" for name in NAMES})  # just so: nothing to do
    (tmp_path / "a").unlink()
    with pytest.raises(TargetExistsError, match="b exists already"):
        write_files({tmp_path / name: b"2" for name in NAMES})
    assert contents(tmp_path) == {"b": b"1", "c": b"1"}


WRITER = """
import sys, time
from pathlib import Path
from alphafix.files import write_files
folder, content, end = sys.argv[1:]
while not Path(end).exists():
    write_files({Path(folder) / name: content.encode() for name in "abc"}, overwrite=True)
    time.sleep(0.01)  # or the lock would always be the same one's
"""


def test_write_files__at_once_leave_files_of_one(tmp_path: Path) -> None:
    folder, end = tmp_path / "files", tmp_path / "end"
    write_files({folder / name: b"1" for name in NAMES})
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), kind, str(end)])
        for kind in ("1", "2")
    ]
    seen: set[bytes] = set()
    looks = 0
    while (len(seen) < 2 or looks < 300) and all(writer.poll() is None for writer in writers):
        with together([folder / "a"]):
            found, looks = contents(folder), looks + 1
        assert len(set(found.values())) == 1, found
        seen |= set(found.values())
    end.touch()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert set(contents(folder)) == set(NAMES)


def test_import__keeps_a_model_that_is_not_its_own(tmp_path: Path) -> None:
    _, body = body_state(attention=False)
    path = save_networks(tmp_path / "a.pth", body, layer("fc", WIDTH, CLASSES))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"mine")
    words = ["import", "oltr", str(path), "-o", str(tmp_path / "model")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 1, found.output
    assert "exists already" in found.stderr
    assert contents(tmp_path / "model") == {"model.safetensors": b"mine"}
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0


def test_evaluate__replaces_its_own_reports_and_no_other_xml(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["evaluate", "--run", str(runs[0]), "--bootstraps", "100"]
    words += ["--junit", str(tmp_path / "j.xml")]
    (tmp_path / "j.xml").write_text('<?xml version="1.0" encoding="utf-8"?>\n<project/>\n')
    assert CliRunner().invoke(app, words).exit_code == 1
    (tmp_path / "j.xml").unlink()
    for _ in range(2):
        assert CliRunner().invoke(app, words).exit_code == 0
