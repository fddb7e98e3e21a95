from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from tests.longtail.build import letters

runner = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letters(tmp_path_factory.mktemp("data") / "images", 30)


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    small = ["--val", "3", "--test", "3", "--open-classes", "2"]
    return ["make-lt", "--data", str(data), "--output", str(output), *small, *more]


def test_command__prints_the_folder_and_a_table_beside_it(data: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, arguments(data, tmp_path / "lt"))
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'lt'}\n"
    for word in ("6 classes: ", "train", "open", "24 to 5", f"--root {data}"):
        assert word in result.stderr


def test_command__json_is_the_manifest(data: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, arguments(data, tmp_path / "lt", "--json"))
    found = json.loads(result.stdout)
    assert found.pop("output") == str(tmp_path / "lt")
    assert found == json.loads((tmp_path / "lt" / "manifest.json").read_text())


def test_command__verify(data: Path, tmp_path: Path) -> None:
    runner.invoke(app, arguments(data, tmp_path / "lt"))
    check = ["make-lt", "--verify", str(tmp_path / "lt" / "manifest.json")]
    result = runner.invoke(app, check)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "train.txt: OK")
    assert "train.txt" in json.loads(runner.invoke(app, [*check, "--json"]).stdout)["verified"]
    (tmp_path / "lt" / "train.txt").write_text("a/000.png 0\n")
    result = runner.invoke(app, check)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "train.txt is " in result.stderr


def test_command__again_and_after_a_kill_is_whole_with_the_same_bytes(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    assert runner.invoke(app, arguments(data, folder)).exit_code == 0
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert runner.invoke(app, arguments(data, folder)).exit_code == 0
    (folder / "manifest.json").unlink()  # as a kill between two names leaves it
    (folder / "train.txt").unlink()
    assert runner.invoke(app, arguments(data, folder)).exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    (folder / "train.txt").write_text("another\n")
    refused = runner.invoke(app, arguments(data, folder))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "train.txt, which is not as it would be written" in refused.stderr


def test_command__filled_folder(data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    result = runner.invoke(app, arguments(data, tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is not empty" in result.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "give --data, or --verify"),
        (["--data", "x", "--max", "3", "--min", "4"], "--max is less than --min"),
        (["--data", "x", "--max", "3", "--counts", "a=1"], "--max does not go with --counts"),
        (["--data", "x", "--power", "0"], "--power"),
    ],
)
def test_command__usage(more: list[str], message: str) -> None:
    result = runner.invoke(app, ["make-lt", *more])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
