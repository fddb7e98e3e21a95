"""How many threads a training takes beside other processes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from alphafix import load
from alphafix.load import Load
from alphafix.threads import beside_others, threads_beside


@pytest.mark.parametrize(
    ("others", "threads", "left"),
    [(0.0, 2, 2), (0.5, 2, 2), (0.7, 2, 1), (1.0, 2, 1), (1.9, 2, 1), (8.0, 2, 1), (3.1, 16, 13)],
)
def test_threads_beside__leave_processors_that_others_use(
    others: float, threads: int, left: int
) -> None:
    assert threads_beside(others, threads) == left


def test_load__of_others_is_what_is_not_its_own() -> None:
    first = Load(at=10.0, busy=100.0, own=3.0)
    assert first.others(Load(at=12.0, busy=103.0, own=4.0)) == 1.0
    assert first.others(Load(at=12.0, busy=101.0, own=4.5)) == 0.0
    # Too short to tell, and where the system does not tell.
    assert first.others(Load(at=10.1, busy=103.0, own=3.0)) == 0.0
    assert first.others(Load(at=12.0, busy=None, own=3.0)) == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="measured on Linux only")
def test_load__sees_a_busy_process_and_not_itself() -> None:
    before = Load.now()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                pass
            after = Load.now()
        finally:
            busy.kill()
    assert before.busy is not None
    assert after.busy is not None
    # Others of this machine may work too; this process and its child alone took most of a second.
    assert before.others(after) > 0.2
    assert after.busy - before.busy > after.own - before.own > 0.2


def test_beside_others__threads_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    now = Load.now()
    monkeypatch.setattr(load, "_begun", [Load(now.at - 10, (now.busy or 0.0) - 50, now.own)])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with beside_others():
            assert torch.get_num_threads() == (1 if now.busy is not None else 2)
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with beside_others():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
