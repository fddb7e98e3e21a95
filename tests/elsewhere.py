"""A real S3 server on loopback, behind a line that breaks when it is told to: fixtures."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphafix import remote


class Line:
    """A TCP line to a server: what either side says can be cut after so many bytes.

    Attributes:
        cuts: Bytes of the server's next long answers.
        cuts_up: Bytes of what the next long messages to it are.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.cuts: list[int] = []
        self.cuts_up: list[int] = []
        self.made = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            self.made += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            threading.Thread(
                target=self._copy, args=(client, server, self.cuts_up), daemon=True
            ).start()
            self._copy(server, client, self.cuts)

    def _copy(self, source: socket.socket, target: socket.socket, cuts: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if cuts and len(data) > cuts[0]:
                    target.sendall(data[: cuts.pop(0)])
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """The line to moto's server."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    found = Line(port)
    yield found
    found.server.close()
    server.stop()


@pytest.fixture
def bucket(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of a new bucket, "data"."""
    import fsspec

    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "ALPHAFIX_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    remote._system.cache_clear()
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir("data")
    yield system
    line.cuts.clear()
    line.cuts_up.clear()
    system.rm("data", recursive=True)
    remote._system.cache_clear()
