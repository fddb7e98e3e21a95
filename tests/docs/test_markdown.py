"""No code block of any Markdown file is stale.

`sh` and `console` blocks are run, in order, one folder a file; `python` blocks too, in one
namespace a file; `yaml` and `json` blocks are read, and a `yaml` block that begins with its name
(`# recipe.yaml`) is written there for those that follow. A `text` block is output or shows what
cannot run here: its `alphafix` commands, extras and scripts must exist.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import REPOSITORY, Block, blocks_of, markdown_files, statements
from tests.docs.commands import (
    check_alphafix,
    check_install,
    check_statement,
    in_folder,
    run_shell,
)

FILES = [path for path in markdown_files() if any(blocks_of(path))]
RUN = ("sh", "console", "python")


def runs(path: Path) -> bool:
    """Whether a file has blocks that are run, which takes long."""
    return any(block.language in RUN for block in blocks_of(path))


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if runs(path) else ()) for path in FILES],
    ids=str,
)
def test_blocks__run_as_printed(path: Path, world: Callable[[str], Path]) -> None:
    blocks = list(blocks_of(path))
    folder = world(path.stem) if runs(path) else Path()
    before = set(folder.iterdir())
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        try:
            use(block, folder, names)
        except Exception as error:
            raise AssertionError(f"{block.place}: {error}") from error
    left = sorted(one.name + "/" * one.is_dir() for one in set(folder.iterdir()) - before)
    assert not_ignored(left) == []


# What commands leave that are printed and not run, or leave in a folder of their own.
LEFT = (
    *("alphafix-demo/", "alphafix-run/", "evidence-data/", "fixed/", "glyphs-oltr/", "oltr-run/"),
    *("stand-in/", "examples/recipes/models/", "examples/recipes/runs/", "examples/docs/site/"),
    *("examples/glyphs_lt/fonts/", "examples/glyphs_lt/work/", "limits.json", "neighbors.csv"),
    *("model.alphafix.safetensors", "model.safetensors.alphafix-undo", "release/"),
)


def test_ignored__is_what_commands_leave_in_a_clone() -> None:
    assert not_ignored(LEFT) == []
    if is_clone():
        assert not_ignored(["README.md", "data.md"]) == ["README.md", "data.md"]


def is_clone() -> bool:
    """Whether git reads this copy of the repository."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        return False
    command = ["git", "rev-parse", "--is-inside-work-tree"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True).returncode == 0


def not_ignored(names: Sequence[str]) -> list[str]:
    """Those of some paths in a clone that git would show as new; none where this is no clone."""
    if not names or not is_clone():
        return []
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(
        command, cwd=REPOSITORY, input="\n".join(names), capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return [name for name in names if name not in done.stdout.splitlines()]


def use(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Do with a block what its language asks for."""
    if block.language in ("sh", "console"):
        run_shell(block.text, folder)
    elif block.language == "python":
        with in_folder(folder):
            exec(compile(block.text, block.place, "exec"), names)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
        if name := NAMED.match(block.text):
            (folder / name[1]).write_text(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "text":
        for statement in statements(block.text):
            if shown(statement):
                check_statement(statement)
    else:
        raise ValueError(f"language {block.language!r} is not sh, python, yaml, json or text")


# The first line of a file that the blocks behind it use.
NAMED = re.compile(r"# ([\w-]+\.yaml)\n")


def shown(statement: str) -> bool:
    """Whether a line of a text block is a command of ours and not output."""
    starts = ("alphafix ", "pip install ", "python ", "torchrun ", "srun ")
    return statement.startswith(starts)


# Characters of a line of code that GitHub and the site show without cutting it.
WIDEST = 95


@pytest.mark.parametrize("path", FILES, ids=str)
def test_blocks__fit(path: Path) -> None:
    for block in blocks_of(path):
        long = [line for line in block.text.splitlines() if len(line) > WIDEST]
        assert not long, block.place


def test_every_file_with_blocks_is_found() -> None:
    assert {Path("README.md"), Path("CONTRIBUTING.md")} <= set(FILES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("alphafix train --rho 0.5 --no-such-flag", "NoSuchOption"),
        ("alphafix no-such-command", "no command"),
        ("torchrun -m -- alphafix extract --data x", "MissingParameter"),
        ("alphafix features no-such-command", "no command"),
        ("pip install '.[cpu,no-such-extra]'", "no extra no-such-extra"),
        ("python examples/no_such_script.py", "is not there"),
    ],
)
def test_check__finds_stale_lines(line: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_statement(line)


def test_check__passes_what_is_right() -> None:
    check_alphafix(["train", "--rho", "0.5,1", "-k", "3"])
    check_install([".[cpu,test]"])
    check_statement(
        "srun torchrun --nnodes 2 -m -- alphafix extract --backbone ... --data ... && pytest"
    )


def test_blocks__of_a_file_are_that_file(tmp_path: Path) -> None:
    text = "# own.yaml\nstages: []\n"
    use(Block("a.md:1", "yaml", text), tmp_path, {})
    use(Block("a.md:5", "yaml", "# a remark\nstages: []\n"), tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]
    assert (tmp_path / "own.yaml").read_text() == text
    recipes = [block for block in blocks_of(Path("README.md")) if NAMED.match(block.text)]
    assert [block.text.splitlines()[0] for block in recipes] == ["# recipe.yaml"]


def test_blocks__that_fail_are_told_by_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="alphafix train"):
        use(Block("a.md:1", "sh", "alphafix train --run none\n"), tmp_path, {})
    with pytest.raises(AssertionError):
        use(Block("a.md:1", "sh", "false\ntrue\n"), tmp_path, {})
    with pytest.raises(ZeroDivisionError):
        use(Block("a.md:1", "python", "1 / 0\n"), tmp_path, {})
    with pytest.raises(ValueError, match="language"):
        use(Block("a.md:1", "", "x\n"), tmp_path, {})
