"""The command line: instant help, clean streams, exit codes."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from alphafix.checkpoints import find_head
from alphafix.commands import COMMANDS, LINES, console
from alphafix.commands.app import app
from alphafix.commands.flags import spelling_of
from alphafix.errors import Words, at_work, option, option_of
from alphafix.run.directory import NEIGHBORS
from tests.checkpoints.models import make_correction, write_stages
from tests.common import make_problem, write_run
from tests.openmp import spins_of

runner = CliRunner()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["compare", "--help"]])
def test_help__loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from alphafix.commands.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as exit: assert exit.code == 0, exit.code\n"
        "heavy = {'numpy', 'scipy', 'torch', 'torchvision', 'faiss', 'timm', 'sklearn'}\n"
        "heavy |= {'matplotlib', 'PIL', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: " in done.stdout


def test_patch__loads_no_torch(tmp_path: Path) -> None:
    """Nor does naming the next command, for which features are not there yet."""
    model = tmp_path / "model.safetensors"
    save_file({"fc.weight": np.eye(12, 16, dtype=np.float32)}, model)
    head = find_head(model)
    write_stages(tmp_path / "run", head, make_correction(head))
    code = (
        "import sys\n"
        "from alphafix.commands.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as exit: assert exit.code == 0, exit.code\n"
        "print('torch' in sys.modules)\n"
    )
    words = ["patch", str(model), "--run", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert "alphafix extract" in done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_help__lists_every_command() -> None:
    shown = runner.invoke(app, ["--help"]).stdout
    for name in LINES:
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)


@pytest.mark.parametrize("name", list(LINES))
def test_help__of_a_command_ends_with_an_example(name: str) -> None:
    result = runner.invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"Example: alphafix {name}" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-command"], "No such command"),
        (["train", "--no-such-flag"], "No such option"),
        (["train", "--rho", "-1"], "--rho"),
        (["train", "--select", "constrained"], "--max-overall-drop"),
        (["train", "--select", "few", "--max-base-drop", "1"], "--select few"),
        (["neighbors", "-k", "0"], "-k"),
        (["patch"], "FILE"),
        (["evaluate", "--max-class-drop", "nan"], "--max-class-drop"),
        (["neighbors", "--class-names", "names.txt"], "--features"),
    ],
)
def test_usage_errors__exit_with_2_and_say_why_on_stderr(
    arguments: list[str], message: str
) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_errors__exit_with_1_and_leave_stdout_empty(tmp_path: Path) -> None:
    result = runner.invoke(app, ["train", "--run", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "to do:" in result.stderr
    assert "Traceback" not in result.stderr


def test_neighbors__prints_json_and_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem(num_classes=16))
    result = runner.invoke(app, ["neighbors", "--run", str(tmp_path), "--json"])
    records = json.loads(result.stdout)
    assert len(records) == 4
    assert len(records[0]["neighbors"]) == 5
    assert (tmp_path / NEIGHBORS).is_file()


def test_neighbors__shows_names_and_distances_on_stderr(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem(num_classes=16))
    result = runner.invoke(app, ["neighbors"], env={"ALPHAFIX_RUN": str(tmp_path)})
    assert result.stdout == f"{tmp_path / NEIGHBORS}\n"
    assert "4 few, 7 medium, 5 many (few < 20, medium 20..100, many > 100" in result.stderr
    assert re.search(r"class 12 +5 +class \d+ [\d.]+, class", result.stderr)


def test_neighbors__names_with_commas_can_be_told_apart(tmp_path: Path) -> None:
    problem = make_problem()
    names = tuple(
        ("great white shark, white shark", "tench", 'the "old" fish', "end;", " ", "crane")[c % 6]
        + str(c) * (c % 6 != 4)
        + " " * c * (c % 6 == 4)
        for c in range(12)
    )
    run = write_run(
        tmp_path / "run", replace(problem, classes=replace(problem.classes, names=names))
    )
    command = ["neighbors", "--run", str(run.folder), "-k", "3"]
    found = json.loads(runner.invoke(app, [*command, "--json"]).stdout)
    shown = runner.invoke(app, command)
    assert shown.exit_code == 0, shown.stderr
    told = [line for line in shown.stderr.splitlines() if re.search(r", .* \d", line)]
    item = re.compile(r'("(?:[^"\\]|\\.)*"|[^,;"]+?) [\d.e+-]+(?:, |$)')
    for record in found:
        line = next(line for line in told if line.startswith(record["name"]))
        cells = line.removeprefix(record["name"]).split(maxsplit=1)[1]
        near = [json.loads(one) if one[0] == '"' else one for one in item.findall(cells)]
        assert near == [one["name"] for one in record["neighbors"]]


def test_train__shows_both_sides_of_the_trade_off(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem(num_classes=16))
    runner.invoke(app, ["neighbors", "--run", str(tmp_path)])
    given = ["train", "--run", str(tmp_path), "--rho", "0.5,1", "--seeds", "2", "--epochs", "6"]
    result = runner.invoke(app, given)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path}/alphanet.safetensors\n"
    for word in ("base model", "rho 0.5 k 5", "rho 1 k 5", "±", "Δ few", "Δ overall", "chosen: "):
        assert word in result.stderr
    data = json.loads(runner.invoke(app, [*given, "--json"]).stdout)
    assert [setting["rho"] for setting in data["settings"]] == [0.5, 1.0]
    assert set(data["settings"][0]["val"]["few"]) == {"mean", "sd"}


def test_train__plan_trains_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem(num_classes=16))
    runner.invoke(app, ["neighbors", "--run", str(tmp_path)])
    result = runner.invoke(app, ["train", "--run", str(tmp_path), "--plan"])
    assert json.loads(result.stdout)["trials"] == 10
    assert not (tmp_path / "alphanet.safetensors").exists()


def test_log__in_a_file_has_lines_of_their_own_length(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_problem())
    command = [sys.executable, "-m", "alphafix", "neighbors", "--run", str(run.folder)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    logged = [line for line in done.stderr.splitlines() if "up to date" in line]
    assert logged == [f"{run.path(NEIGHBORS)} is up to date"]


@pytest.mark.parametrize("splits", [(), ("train",), ("train", "test")])
@pytest.mark.parametrize("command", ["neighbors", "train", "compare", "evaluate", "report"])
def test_missing__names_no_flag_that_the_command_does_not_have(
    command: str, splits: tuple[str, ...], tmp_path: Path
) -> None:
    """What a run lacks is told in flags of the command itself, or in whole other commands."""
    if splits:
        write_run(tmp_path, make_problem(), splits=splits)
        if command not in ("neighbors", "report"):
            runner.invoke(app, ["neighbors", "-k", "3", "--run", str(tmp_path)])
    words = [command, "--run", str(tmp_path), *(["--epochs", "1"] * (command == "train"))]
    said = runner.invoke(app, words).stderr
    known = set(re.findall(r"--[\w-]+", runner.invoke(app, [command, "--help"]).stdout))
    named = set(re.findall(r"--[\w-]+", re.sub(r"alphafix [\w -]+", "", said.replace("\n", " "))))
    assert named <= known, said


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP there")
@pytest.mark.parametrize(
    ("own", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, None)],
)
def test_threads__of_openmp_soon_sleep_unless_the_user_says_otherwise(
    tmp_path: Path, own: dict[str, str], spins: str | None
) -> None:
    write_run(tmp_path, make_problem(num_classes=16))
    runner.invoke(app, ["neighbors", "--run", str(tmp_path)])
    code = "from alphafix.commands.app import main; main()"
    told = spins_of(code, ["train", "--plan", "--run", str(tmp_path)], tmp_path, own)
    assert told
    assert "3000" not in told if spins is None else told == {spins}


@pytest.mark.parametrize(
    ("name", "stage", "told"),
    [
        ("extract", None, "--mean, --head NAME, --model-arg a=1 --model-arg b=2, --holdout 0.2"),
        (
            "fix",
            "extract",
            "--set extract.mean=VALUE, --set extract.head=NAME, "
            "--set 'extract.model_arg=[a=1, b=2]', --set train.holdout=0.2",
        ),
        (
            "run",
            "train.2",  # which has an option holdout itself
            "--set extract.mean=VALUE, --set extract.head=NAME, "
            "--set 'extract.model_arg=[a=1, b=2]', --set train.2.holdout=0.2",
        ),
    ],
)
def test_log__spells_options_as_they_can_be_typed(
    name: str, stage: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    console.speak(lambda at: spelling_of(command.options, stage=at))
    console.show_log(command.log)
    options = [option("mean"), option("head", "NAME"), option_of("model_arg", ["a=1", "b=2"])]
    words = ", ".join([*options, option("holdout", 0.2)])
    with contextlib.ExitStack() as entered:
        if stage is not None:
            entered.enter_context(at_work(stage))
        logging.getLogger("alphafix").warning("give %s", Words(words))
        console.tell(f"or: {words}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"warning: give {told}", f"or: {told}"]


def test_log__a_warning_is_shown_once_and_notes_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.show_log()
    logger = logging.getLogger("alphafix.somewhere")
    for text in ("first", "second", "first"):
        logger.warning("%s of them", text)
        logger.info("noted")
    lines = capsys.readouterr().err.splitlines()
    warnings = ["warning: first of them", "warning: second of them"]
    assert [line for line in lines if line.startswith("warning")] == warnings
    assert lines.count("noted") == 3
