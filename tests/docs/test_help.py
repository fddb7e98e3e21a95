"""Every command's --help ends with an example that runs as printed; completion works."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torchvision
import typer
from typer.testing import CliRunner

from alphafix.commands import COMMANDS, LINES, completion, group, kept_help
from alphafix.commands.app import app, parser_of
from alphafix.commands.options import GROUPS
from alphafix.models import loading
from tests.docs.blocks import REPOSITORY
from tests.docs.commands import check_alphafix, in_folder, run_bash
from tests.docs.world import EXTRACT

runner = CliRunner()


def commands() -> Iterator[str]:
    """Every command, and every command of a group, in the order of a user's work."""
    for name in LINES:
        yield name
        # What is exported can be imported.
        yield from (command.name for command in reversed(group(name)) if command.name != name)


def example_of(command: str) -> str:
    """The example that --help prints, its lines joined."""
    shown = runner.invoke(app, [*command.split(), "--help"]).stdout
    _, found, example = shown.partition("\n  Example: ")
    assert found, f"alphafix {command} --help has no example"
    return " ".join(example.split())


def forget_validation(folder: Path) -> None:
    """Features of val as another tool's file, and not yet in the run directory."""
    with in_folder(folder):
        runner.invoke(app, ["features", "export", "--split", "val", "val.npz"])
    shutil.rmtree(folder / "alphafix-run/features/val")


def leave_parts(folder: Path) -> None:
    """The features of val in place of imported ones, as the jobs of an array leave them."""
    shutil.rmtree(folder / "alphafix-run/features/val")
    with in_folder(folder):
        for index in "01":
            part = ["--split", "val", "--shard-index", index, "--shard-count", "2"]
            runner.invoke(app, [*shlex.split(EXTRACT)[1:], *part])


# What an example needs beside the commands before it.
BEFORE: dict[str, Callable[[Path], None]] = {
    "features import": forget_validation,
    "features merge": leave_parts,
}


@pytest.fixture(scope="module")
def outcomes(world: Callable[[str], Path]) -> dict[str, tuple[int, str]]:
    """Exit code and stderr of each example, run one after another in one folder."""
    folder = world("help")
    found = {}
    for command in commands():
        if command in BEFORE:
            BEFORE[command](folder)
        with in_folder(folder):
            done = runner.invoke(app, shlex.split(example_of(command))[1:])
        found[command] = (done.exit_code, f"{done.stderr}{done.exception or ''}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", list(commands()))
def test_help__example_runs_as_printed(command: str, outcomes: dict[str, tuple[int, str]]) -> None:
    assert example_of(command).startswith(f"alphafix {command}")
    code, stderr = outcomes[command]
    assert code == 0, stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help__shows_no_types_of_python(name: str) -> None:
    """What typer puts into angle brackets may be a choice; values have words of their own."""
    shown = runner.invoke(app, [*name.split(), "--help"]).stdout
    parser: Any = typer.main.get_command(parser_of(COMMANDS[name].word))
    if name != COMMANDS[name].word:
        parser = parser.commands[name.partition(" ")[2]]
    context = parser.context_class(parser, info_name=name, terminal_width=200)
    for text in (shown, parser.get_help(context)):  # as kept, and as made anew
        marked = re.findall("<([^>]*)>", text)
        assert [found for found in marked if "|" not in found] == []
        flags = re.findall("^  (-.*?)(?:  |$)", text, re.MULTILINE)
        assert "--json" in flags
        typed = re.compile(r"\b(Path|str|int|float|bool|list|tuple|None)\b")
        assert [flag for flag in flags if typed.search(re.sub("<.*>", "", flag))] == []


def test_help__example_of_the_whole_is_a_command() -> None:
    check_alphafix(shlex.split(example_of(""))[1:])


def test_pages__say_what_help_says() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples/commands/write.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_pages__that_are_stale_are_named(tmp_path: Path) -> None:
    pages = Path(shutil.copytree(REPOSITORY / "examples/commands", tmp_path / "examples/commands"))
    kept = tmp_path / "alphafix/commands/help.json"
    kept.parent.mkdir(parents=True)
    page, script = pages / "train.md", pages / "write.py"
    before = page.read_text()
    page.write_text(before.replace("--rho NUMBER", "--old NUMBER"))
    (pages / "gone.md").write_text("# alphafix gone\n")
    check = [sys.executable, str(script), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("stale: gone.md, train.md;")
    assert not kept.exists()
    subprocess.run([sys.executable, str(script)], check=True)
    assert page.read_text() == before
    assert list(json.loads(kept.read_text(encoding="utf-8"))) == list(COMMANDS)
    assert subprocess.run(check, check=False).returncode == 0


def completed(line: str, tmp_path: Path) -> list[str]:
    """What bash offers after ``line``, by the script that --show-completion prints."""
    script = tmp_path / "completion.bash"
    environment = {**os.environ, "SHELL": "/bin/bash"}
    program = Path(sys.executable).with_name("alphafix")
    shown = subprocess.run(
        ["bash", "-c", f"{shlex.quote(str(program))} --show-completion; exit $?"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    script.write_text(shown.stdout)
    typed = line.split(" ")
    asked = (
        f"source {shlex.quote(str(script))}\n"
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in typed)})\n"
        f"COMP_CWORD={len(typed) - 1}\n"
        "_alphafix_completion alphafix\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return run_bash(asked, tmp_path).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("alphafix tr", ["train", "train-oltr"]),
        ("alphafix train --tens", ["--tensorboard"]),
        ("alphafix train --metric ", ["euclidean", "cosine", "random"]),
        ("alphafix features e", ["export"]),
        ("alphafix train --method lda-", ["lda-few"]),
        ("alphafix compare --methods few-bias,lda-", ["few-bias,lda-few"]),
        ("alphafix extract --backbone t", ["timm:", "torchvision:", "torchscript:"]),
        ("alphafix make-lt --data pictures --open c", ["cat", "cow"]),
    ],
)
def test_completion__bash_offers_commands_flags_and_values(
    line: str, offered: list[str], tmp_path: Path
) -> None:
    for name in ("cat", "cow", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    assert completed(line, tmp_path) == offered


def test_completion__knows_every_kind_of_backbone() -> None:
    assert sorted(completion.KINDS) == sorted(loading.KINDS)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_completion__knows_the_models_of_a_library(library: str) -> None:
    offered = {name.partition(":")[2] for name in completion.backbones(f"{library}:")}
    known = timm.list_models() if library == "timm" else torchvision.models.list_models()
    assert len(offered & set(known)) > 0.95 * len(offered)
    assert len(offered & set(known)) > 60
    assert "timm:resnet18d" in completion.backbones("timm:resnet18")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_kept_help__is_of_todays_options(name: str) -> None:
    """All but the words that are typer's own, which another version of it may word otherwise."""
    kept = json.loads(kept_help.FILE.read_text(encoding="utf-8"))
    assert list(kept) == list(COMMANDS)
    rows = [row for section in kept[name]["sections"].values() for row in section]
    command = COMMANDS[name]
    parser: Any = typer.main.get_command(parser_of(command.word))
    if name != command.word:
        parser = parser.commands[name.partition(" ")[2]]
    flags = {flag for one in parser.params for flag in (*one.opts, *one.secondary_opts)}
    flags = {flag for flag in flags if flag.startswith("-")} | set(kept_help.FLAGS)
    assert {word for row in rows for word in re.findall(r"(?<![^ ])--?\w[\w-]*", row[0])} == flags
    meanings = [field.description for field in command.options.model_fields.values()]
    assert len(rows) == len(meanings) + 2  # --json and --help
    for meaning in meanings:
        assert any(row[1].startswith(meaning) for row in rows), meaning


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be kept with the typer that is installed."""
    path = tmp_path_factory.mktemp("kept") / "help.json"
    write: Any = importlib.import_module("examples.commands.write")
    path.write_text(write.helps(), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list(COMMANDS))
def test_kept_help__is_laid_out_as_the_parser_does(
    name: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*name.split(), "--help"]
    monkeypatch.setattr(kept_help, "FILE", fresh)
    widths = (40, 60, 80, 120)
    kept = [runner.invoke(app, asked, terminal_width=width) for width in widths]
    monkeypatch.setattr("alphafix.commands.app.asked_for", lambda words: None)
    parsed = [runner.invoke(app, asked, terminal_width=width) for width in widths]
    assert [one.stdout for one in kept] == [one.stdout for one in parsed]
    assert {one.exit_code for one in kept} == {0}
    assert len({one.stdout for one in kept}) == len(widths)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help__says_every_default_and_is_short_to_ask_for(command: str) -> None:
    shown = runner.invoke(app, [*command.split(), "-h"])
    assert shown.exit_code == 0
    assert shown.stdout == runner.invoke(app, [*command.split(), "--help"]).stdout
    fields = COMMANDS[command].options.model_fields.values()
    optional = [field for field in fields if not field.is_required()]
    text = " ".join(shown.stdout.split())
    assert text.count("[default: ") == len(optional) + 1  # and --json
    assert "[default: []" not in text


def test_help__of_train_has_its_options_in_groups() -> None:
    shown = runner.invoke(app, ["train", "--help"]).stdout
    titles = ("Options:", "Trade-off:", "Network and training:", "Resources:", "Output:")
    places = [shown.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)
    assert places[0] < shown.index("  --method") < places[1] < shown.index("  --confidence")
    assert places[2] < shown.index("  --hidden") < places[3] < shown.index("  --device")
    assert "[default: 32,32,32]" in " ".join(shown.split())


def test_groups__name_options_that_there_are() -> None:
    known = {name for one in COMMANDS.values() for name in one.options.model_fields}
    grouped = [name for names in GROUPS.values() for name in names]
    assert set(grouped) <= known | {"json", "help"}
    assert len(set(grouped)) == len(grouped)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("traim", "Did you mean train"),
        ("neighbours", "Did you mean neighbors"),
        ("features exprt", "Did you mean 'export'"),
        ("train --metod lda", "--method"),
        ("evaluate --max-overal-drop 1", "--max-overall-drop"),
        ("fix M --backbone B --data D --image-size 8", "--set extract.image_size=VALUE"),
    ],
)
def test_mistyped__names_what_was_meant(line: str, meant: str) -> None:
    done = runner.invoke(app, line.split())
    assert done.exit_code == 2
    assert meant in done.stderr


def test_completion__is_installed_for_bash(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("alphafix")
    line = f"{shlex.quote(str(program))} --install-completion; exit $?"
    subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"},
        capture_output=True,
        check=True,
    )
    assert "alphafix" in (tmp_path / ".bashrc").read_text()
    assert list(tmp_path.glob(".bash_completions/alphafix.sh"))


def test_help__completion_is_only_at_the_top() -> None:
    assert "--install-completion" in runner.invoke(app, ["--help"]).stdout
    for command in commands():
        assert "completion" not in runner.invoke(app, [*command.split(), "--help"]).stdout
