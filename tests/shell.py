"""A real shell, whose `alphafix` is forked from a process that has torch loaded.

What stands on the shell's PATH hands its words, folder, environment and streams to a thread of the
tests, which has a process forked that is the command (`tests.processes`), and ends as that does.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shlex
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.processes import alphafix

# Without site-packages it starts at once.
_ASK = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(sys.argv[1])
    asking = [sys.argv[2:], os.getcwd(), dict(os.environ), os.getpid()]
    asked.sendall(json.dumps(asking).encode() + b"\\n")
    sys.exit(int(asked.makefile().readline()))
"""


class _Asked(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        words, folder, environment, process = json.loads(self.rfile.readline())
        streams = [f"/proc/{process}/fd/{place}" for place in range(3)]
        code = alphafix(words, Path(folder), environment, streams)
        self.wfile.write(f"{code}\n".encode())


@functools.cache
def _programs() -> Path:
    """A folder with the program `alphafix`, which is answered as long as the tests run."""
    folder = tempfile.TemporaryDirectory(prefix="alphafix-")
    atexit.register(folder.cleanup)
    place, program = Path(folder.name, "asked"), Path(folder.name, "alphafix")
    server = socketserver.ThreadingUnixStreamServer(str(place), _Asked)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words = shlex.join([sys.executable, "-IS", "-c", _ASK, str(place)])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return Path(folder.name)


def bash(
    arguments: Sequence[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run bash with arguments in a folder, with variables beside those of this process."""
    path = [str(_programs()), str(Path(sys.executable).parent), os.environ["PATH"]]
    return subprocess.run(
        ["bash", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join(path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
