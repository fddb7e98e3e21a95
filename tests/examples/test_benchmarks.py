"""The benchmark scripts: that for a GPU runs on the CPU in tiny sizes, and all of them load."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "counts")
NUMBERS = [
    (name, flag, value)
    for name in SCRIPTS
    for flag, kind in re.findall(
        r'"(--[\w-]+)",\s*type=(int|float|positive|above_zero|zero_or_more)\b',
        (FOLDER / f"{name}.py").read_text(encoding="utf-8"),
    )
    for value in ("0", "-1", "nan", "many")
    if (kind, value) != ("zero_or_more", "0")
]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts' folder as the first to import from."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script__loads(name: str, scripts: None) -> None:
    assert callable(importlib.import_module(name).main)


def test_numbers__are_found() -> None:
    assert ("discriminant", "--samples", "0") in NUMBERS
    assert ("patch", "--gigabytes", "0") in NUMBERS
    assert ("patch", "--large", "-1") in NUMBERS
    assert len({(name, flag) for name, flag, _ in NUMBERS}) >= 19


@pytest.mark.parametrize(("name", "flag", "value"), NUMBERS)
def test_numbers__that_cannot_be_meant_are_a_usage_error(
    name: str,
    flag: str,
    value: str,
    scripts: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = importlib.import_module(name).main
    monkeypatch.setattr(sys, "argv", [f"{name}.py", f"{flag}={value}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {flag}: '{value}' is no " in said


PARTS = ("equality", "extract", "jpeg", "nccl", "oltr", "search", "tests", "trainer")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "nccl" else n for n in PARTS]
)
def test_gpu__each_part_runs_on_the_cpu_in_tiny_sizes(name: str, scripts: None) -> None:
    gpu: Any = importlib.import_module("gpu")
    assert set(gpu.PARTS) == set(PARTS)
    told: list[Any] = []
    found = gpu.measured(name, gpu.Place(torch.device("cpu"), gpu.TINY), told.append)
    assert "failed" not in found
    assert found["figures"] == told
    if name == "tests":  # pytest -m gpu would skip all of them
        assert "GPU" in found["skipped"]
        return
    assert told
    assert "skipped" not in found
    for entry in told:
        assert set(entry) == {"what", "value", "unit", "target", "met"}
        assert entry["value"] >= 0
    if name == "equality":  # the CPU against itself
        assert all(entry["met"] in (True, None) for entry in told)
    if name == "extract":
        assert sum("JPEG files" in entry["what"] for entry in told) == 2


def test_gpu__of_one_gpu_says_that_two_are_needed(scripts: None) -> None:
    gpu: Any = importlib.import_module("gpu")
    found = gpu.measured("nccl", gpu.Place(torch.device("cpu"), gpu.Sizes()))
    assert found["skipped"].startswith("two GPUs are needed")


def test_gpu__a_part_that_fails_hides_no_other(
    scripts: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu: Any = importlib.import_module("gpu")

    def broken(place: Any) -> Any:
        yield gpu.figure("measured before", 1, "s")
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(gpu.PARTS, "search", (broken, 1))
    found = gpu.measured("search", gpu.Place(torch.device("cpu"), gpu.TINY))
    assert found["failed"] == "RuntimeError: CUDA error: an illegal memory access"
    assert [entry["what"] for entry in found["figures"]] == ["measured before"]
    gpu.show({"where": gpu.where(torch.device("cpu")), "parts": [found]}, sys.stdout)
    assert "FAILED: RuntimeError: CUDA error" in (out := capsys.readouterr().out)
    assert "measured before" in out


def test_gpu__a_step_that_fails_hides_no_other(scripts: None) -> None:
    gpu: Any = importlib.import_module("gpu")

    def broken() -> Any:
        yield gpu.figure("half", 1, "s")
        raise RuntimeError("no C compiler\nlong story")

    def lacking() -> Any:
        raise gpu.NotHereError("TorchCodec is not installed")

    def whole() -> Any:
        yield gpu.figure("whole", 2, "s")

    found: list[Any] = []
    steps = (("compiled", broken), ("decoded", lacking), ("plain", whole))
    with pytest.raises(gpu.StepsFailedError, match=r"compiled: .* C compiler; decoded: TorchCodec"):
        found.extend(gpu.in_steps(steps))
    with pytest.raises(gpu.NotHereError, match=r"^decoded: TorchCodec"):
        found.extend(gpu.in_steps(steps[1:]))
    assert [entry["what"] for entry in found] == ["half", "whole", "whole"]


def test_gpu__tests_that_fail_are_named(scripts: None) -> None:
    gpu: Any = importlib.import_module("gpu")
    suite = ElementTree.fromstring(
        '<testsuite tests="3" failures="1" errors="0" skipped="1">'
        '<testcase classname="tests.a" name="one"/>'
        '<testcase classname="tests.a" name="two"><failure/></testcase>'
        '<testcase classname="tests.a" name="three"><skipped/></testcase></testsuite>'
    )
    found: list[Any] = []
    with pytest.raises(gpu.StepsFailedError, match=r"tests\.a\.two$"):
        found.extend(gpu.of_tests(suite))
    assert [(entry["what"], entry["value"], entry["met"]) for entry in found] == [
        ("tests that passed", 1, True),
        ("tests that failed", 1, False),
        ("tests that were skipped", 1, False),
    ]


@pytest.mark.parametrize(
    ("lines", "ended", "expected"),
    [
        (['{"what": "a"}', '{"part": "oltr", "figures": [1]}'], 0, {"figures": [1]}),
        (['{"what": "a"}', '{"wh'], "not done in 60 s", {"failed": "not done in 60 s"}),
        (["a library's", '{"what": "a"}'], -11, {"failed": "it ended with code -11"}),
        ([], 1, {"failed": "it ended with code 1"}),
    ],
)
def test_gpu__what_a_part_told_before_its_end_is_kept(
    lines: list[str], ended: int | str, expected: dict[str, Any], scripts: None
) -> None:
    gpu: Any = importlib.import_module("gpu")
    found = gpu.result_of("oltr", lines, 3.0, ended)
    assert found.items() >= {"part": "oltr", **expected}.items()
    if "failed" in expected:
        assert found["figures"] == [{"what": "a"}] * any('"a"' in line for line in lines)


def test_gpu__a_part_that_hangs_is_ended_with_all_that_it_started(
    scripts: None, tmp_path: Path
) -> None:
    gpu: Any = importlib.import_module("gpu")
    note = tmp_path / "note"
    # The one that it starts takes a while to end, as torchrun does.
    code = "import signal, time, pathlib\n"
    code += (
        "def end(*of): time.sleep(0.3); pathlib.Path(NOTE).write_text('ended'); raise SystemExit\n"
    )
    code += "signal.signal(signal.SIGTERM, end); print('begun', flush=True); time.sleep(600)"
    inner = code.replace("NOTE", repr(str(note)))
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", outer], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"begun\n"
        gpu.end(process)
        assert out.read() == b""  # nobody has it open any more
    assert process.returncode is not None
    assert note.read_text() == "ended"


def test_gpu__trains_without_faiss(scripts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)  # what is not installed
    gpu: Any = importlib.import_module("gpu")
    found = gpu.measured("trainer", gpu.Place(torch.device("cpu"), gpu.TINY))
    assert "failed" not in found
    assert found["figures"]


@pytest.mark.slow
def test_gpu__says_all_as_json_and_as_a_table_beside_it(tmp_path: Path) -> None:
    (tmp_path / "faiss.py").write_text('raise ModuleNotFoundError("No module named faiss")')
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(FOLDER / "gpu.py"), "--device", "cpu", "--tiny", "--json"]
    done = subprocess.run(
        [*command, "--parts", "search"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    found = json.loads(done.stdout)
    assert found["where"]["torch"] == torch.__version__
    (search,) = found["parts"]
    assert search["skipped"].startswith("FAISS cannot be imported")
    assert "\nsearch (" in done.stderr
    assert "not here: FAISS cannot" in done.stderr
