"""Loading processes: who is told of an interrupt, and what is said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common import heed_interrupts

LOAD = """
import time
from torch.utils.data import Dataset
from alphafix.images.batches import loader_of

class Slow(Dataset):
    def __getitem__(self, key):
        time.sleep(0.0 if key < 2 else 60.0)
        return key

try:
    for key in loader_of(Slow(), range(8), workers=2, pin_memory=False):
        print(key, flush=True)
except KeyboardInterrupt:
    raise SystemExit("interrupted")
"""


@pytest.mark.slow
def test_loading__an_interrupt_is_told_of_once(tmp_path: Path) -> None:
    """The terminal tells all processes, the loading ones too."""
    script = tmp_path / "load.py"
    script.write_text(LOAD, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == "interrupted\n"
