from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.metrics.evaluation import Evaluation
from alphafix.metrics.gates import Gates, check_gates
from alphafix.report.ci import junit_report, markdown_report
from alphafix.run.directory import Run
from alphafix.values.classes import ClassTable
from tests.evaluation.problems import corrected_run
from tests.stages import evaluate

GATES = Gates(min_few_gain=90, max_overall_drop=50, max_class_drop=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return corrected_run(tmp_path_factory.mktemp("ci") / "run")


@pytest.fixture(scope="module")
def found(run: Run) -> Evaluation:
    return evaluate(EvaluateOptions(run=run.folder, bootstraps=100))


def test_junit__one_case_a_gate_with_its_failure(found: Evaluation) -> None:
    root = ElementTree.fromstring(junit_report(found, check_gates(found, GATES)))
    cases = root.findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == [
        "--min-few-gain",
        "--max-overall-drop",
        "--max-class-drop",
    ]
    failures = [case.find("failure") for case in cases]
    assert [failure is None for failure in failures] == [False, True, False]
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert failures[0] is not None
    assert "not at least 90" in (failures[0].text or "")


def test_reports__escape_class_names(found: Evaluation) -> None:
    names = tuple(f"<script>|`&{chr(1)}{i}" for i in range(16))
    evil = replace(found, classes=ClassTable(names, found.classes.counts))
    outcomes = check_gates(evil, Gates(max_class_drop=0))
    case = ElementTree.fromstring(junit_report(evil, outcomes)).find(".//failure")
    assert case is not None
    assert "<script>|`&" in str(case.text)
    text = markdown_report(evil, outcomes)
    assert "&lt;script&gt;\\|\\`&amp;" in text
    assert "<script>" not in text


def test_markdown__table_with_all_splits_and_gates(found: Evaluation) -> None:
    lines = markdown_report(found, check_gates(found, GATES)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0].startswith("| top-1 in % | classes | samples | base | corrected | change |")
    assert len({line.count(" | ") for line in rows[:7]}) == 1
    splits = [row.split(" | ")[0] for row in rows[2:7]]
    assert splits == ["| few", "| medium", "| many", "| other", "| overall"]
    assert sum(line.startswith("- ❌") for line in lines) == 2
    assert sum(line.startswith("- ✅") for line in lines) == 1


def test_gates__stop_a_shell_pipeline(run: Run, tmp_path: Path) -> None:
    arguments = f"--run '{run.folder}' --bootstraps 100 --junit j.xml --markdown s.md"
    main = "from alphafix.commands.app import main; main()"
    program = f"'{sys.executable}' -c '{main}' evaluate {arguments}"
    script = f"set -e\n{program} --min-few-gain 1\necho released\n{program} --min-few-gain 99\n"
    script += "echo never"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert "released" in done.stdout
    assert "never" not in done.stdout
    assert "report.json is up to date" in done.stderr
    assert "\nerror: a gate is not met\n--min-few-gain 99: few-split gain" in done.stderr
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") == "1"
    assert "❌ `--min-few-gain 99`" in (tmp_path / "s.md").read_text()
