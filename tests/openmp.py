"""What OpenMP is told in a process that loads torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# OpenMP says what it was told when it is loaded, with torch's library or with that of another
# package that comes first. What comes after torch's, most of torch itself, finds the variables as
# they were then, so that the process may end there.
_ENOUGH = """\
import os, sys
class Enough:
    def find_spec(self, name, path, target=None):
        if name.startswith("torch.") and "torch._C" in sys.modules:
            os._exit(0)
sys.meta_path.insert(0, Enough())
"""


def spins_of(
    code: str, words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> set[str]:
    """How often threads of OpenMP look for work before they sleep, as each library of it says.

    Args:
        code: What the process runs until it has loaded torch's OpenMP.
        words: Its arguments.
        folder: Its working folder.
        environment: Variables beside those of this process, of which it gets none of OpenMP.
    """
    known = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP", "OMP"))}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{_ENOUGH}{code}\nraise SystemExit('torch was not loaded')",
            *words,
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**known, **(environment or {}), "OMP_DISPLAY_ENV": "VERBOSE"},
    )
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))
