"""Files on a web server of this machine that has its days."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("fsspec")
pytest.importorskip("cryptography")

from typer.testing import CliRunner

from alphafix import remote
from alphafix.commands.app import app
from alphafix.errors import InputError
from alphafix.images.spec import open_data


@dataclass
class Web:
    """What a server has, and how it answers.

    Attributes:
        files: Its files by path.
        ranges: Whether it gives parts of files.
        tags: Whether it says an ETag.
        heads: Whether it answers HEAD.
        codes: Codes to answer with before it is well again, first to last; 0 for no answer at all.
        cuts: Bytes after which the next answers to GET break off.
        moved: Paths that are elsewhere now.
        later: Seconds after which it wants to be asked again, where it answers with a code.
        asked: Every request: method, path, range.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tags: bool = True
    heads: bool = True
    codes: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    later: str | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""

    def got(self, path: str) -> list[str | None]:
        """The ranges of a file that were read."""
        return [part for method, place, part in self.asked if (method, place) == ("GET", path)]


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # whose clients may wait to be told to go on

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(body=True)

        def do_DELETE(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            wanted = self.headers.get("Range")
            web.asked.append((self.command, self.path, wanted))
            if web.codes:
                code = web.codes.pop(0)
                self.close_connection = not code
                told = {} if web.later is None else {"Retry-After": web.later}
                return self._say(code, told, b"") if code else None
            if not body and not web.heads:
                return self._say(405, {}, b"")
            if self.path in web.moved:
                return self._say(302, {"Location": web.moved[self.path]}, b"")
            data = web.files.get(self.path)
            if data is None:
                return self._say(404, {}, b"")
            told = {"ETag": f'"{hash(data)}"'} if web.tags else {}
            if not (wanted and web.ranges):
                return self._say(200, told, data if body else b"", len(data))
            start, stop = map(int, wanted.removeprefix("bytes=").split("-"))
            told["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
            return self._say(206, told, data[start : stop + 1])

        def _say(self, code: int, told: dict[str, str], data: bytes, size: int = -1) -> None:
            self.send_response(code)
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) if size < 0 else size))
            self.end_headers()
            if self.command == "GET" and web.cuts and len(data) > web.cuts[0]:
                data = data[: web.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(data)

    return Handler


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that it has signed itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    place = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([place]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextlib.contextmanager
def serve(pem: Path | None = None) -> Iterator[Web]:
    """A server, over TLS with a certificate."""
    found = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(found))
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.address = f"http{'s' if pem else ''}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("ALPHAFIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(remote, "PIECE", 100_000)
    remote._system.cache_clear()
    with serve() as found:
        yield found
    remote._system.cache_clear()


DATA = np.random.default_rng(0).bytes(350_000)


def test_fetched__in_parts_from_where_it_broke(web: Web) -> None:
    web.files["/model"] = DATA
    web.cuts += [70_000, 1000]
    assert remote.fetched(f"{web.address}/model").read_bytes() == DATA
    assert not web.cuts
    parts = web.got("/model")
    assert len(parts) == 4 + 2
    assert all(parts)
    assert len(set(parts)) == 4


def test_fetched__as_a_whole_where_the_server_gives_no_parts(web: Web) -> None:
    web.files["/model"], web.ranges = DATA, False
    web.cuts += [99_999, 200_000, 300_000]
    assert remote.fetched(f"{web.address}/model").read_bytes() == DATA
    assert not web.cuts


def test_fetched__where_only_get_is_answered(web: Web) -> None:
    web.files["/model"], web.heads = DATA, False
    assert remote.fetched(f"{web.address}/model").read_bytes() == DATA


def test_fetched__from_where_it_has_moved(web: Web) -> None:
    web.files["/new"] = DATA
    web.moved["/model"] = "/new"
    assert remote.fetched(f"{web.address}/model").read_bytes() == DATA
    web.moved["/round"] = "/round"
    with pytest.raises(InputError, match="/round cannot be looked up"):
        remote.fetched(f"{web.address}/round")


GONE, REFUSED = "cannot be found", "cannot be looked up: access is refused"


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_fetched__what_is_refused_is_one_error_at_once(web: Web, code: int) -> None:
    web.codes += [code] * 2
    said = REFUSED if code in (401, 403) else GONE
    with pytest.raises(InputError, match=f"(?s)^{web.address}/model {said}\n.*{code}"):
        remote.fetched(f"{web.address}/model")
    assert len(web.asked) == 2  # HEAD and GET


ASKED: dict[str, list[Callable[[str], object]]] = {
    "looked up": [remote.entry, remote.exists],
    "read": [remote.read],
    "listed": [remote.entries],
    "written": [lambda address: remote.write(address, b"x"), remote.require_writable],
    "removed": [remote.remove],
}
FAULTS = {
    403: "access is refused",
    429: "the store asks to slow down",
    500: "the server fails",
    503: "the server fails",
    0: "the server does not answer",
}


def be_store(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the endpoint of s3://, which says little of what S3 says."""
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.parametrize("kind", ["web", "store"])
def test_address__of_a_server_that_refuses_or_fails_is_not_said_to_be_gone(
    kind: str, code: int, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server, and the endpoint of an object store, that answers so whatever it is asked."""
    monkeypatch.setattr(remote, "TRIES", 2)
    base = web.address
    if kind == "store":
        be_store(web, monkeypatch)
        base = "s3://data"
    for what, asks in ASKED.items():
        if kind == "web" and what not in ("looked up", "read"):
            continue
        for ask in asks:
            web.codes[:] = [code] * 40
            with pytest.raises(InputError) as raised:
                ask(f"{base}/a/b")
            first, *more = str(raised.value).splitlines()
            assert re.fullmatch(f"{base}/a/b(/.*)? cannot be {what}: {FAULTS[code]}", first)
            assert more[-1].endswith("(2 tries were made)") == (code != 403)
            assert ("a server that answers" in more[1]) == (code != 403)


def test_require_writable__where_nothing_may_be_removed_says_so_in_one_line(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    be_store(web, monkeypatch)
    web.codes += [200, 403]
    remote.require_writable("s3://data/run")
    place = f"s3://data/run/{remote._PROBE}"
    why = f"{place} cannot be removed: access is refused (PermissionError: Forbidden)"
    assert [record.getMessage() for record in caplog.records] == [f"a small file stays: {why}"]


@pytest.mark.parametrize("code", FAULTS)
def test_merge__of_parts_on_a_server_that_refuses_or_fails(
    web: Web, code: int, tmp_path: Path
) -> None:
    part = f"{web.address}/run/parts/00000-of-00001"
    web.codes += [code] * 40
    done = CliRunner().invoke(app, ["features", "merge", part, "--run", str(tmp_path / "run")])
    assert (done.exit_code, done.stdout) == (1, "")
    said = f"error: {part}/manifest.json cannot be looked up: {FAULTS[code]}\n"
    assert said in done.stderr
    assert not (tmp_path / "run").exists()
    web.codes.clear()
    done = CliRunner().invoke(app, ["features", "merge", f"{web.address}/run"])
    assert f"error: there is no finished part at {web.address}/run\n" in done.stderr
    assert f"name each: {part[:-1]}2, and so on" in done.stderr


def test_data__of_a_server_that_refuses_all_of_it(web: Web) -> None:
    web.codes += [403] * 100
    for pattern in ("{split}.txt", "{split}-{000..002}.tar"):
        with pytest.raises(InputError, match="cannot be looked up: access is refused"):
            open_data(f"{web.address}/{pattern}").there()


@pytest.mark.parametrize("code", [429, 500, 503])
def test_fetched__a_server_that_fails_is_asked_again(
    web: Web, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    web.files["/model"] = DATA
    web.codes += [code] * 5
    assert remote.fetched(f"{web.address}/model").read_bytes() == DATA
    why = FAULTS[code]
    assert f"{web.address}/model: {why}: another try in" in caplog.text
    assert "FileNotFoundError" not in caplog.text  # fsspec's word for whatever went wrong
    web.codes += [code] * 20
    with pytest.raises(InputError, match=f"(?s){code}.*5 tries were made"):
        remote.fetched(f"{web.address}/other")


@pytest.mark.parametrize("kind", ["web", "store"])
def test_read__of_a_store_that_asks_to_slow_down(
    kind: str, web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked again after the time that it names, and at the end told what can be done."""
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    base = web.address
    if kind == "store":
        be_store(web, monkeypatch)
        base = "s3://data"
    web.files["/data/a" if kind == "store" else "/a"] = b"x"
    web.codes, web.later = [429], "0.2"
    assert remote.read(f"{base}/a") == b"x"
    assert f"{base}/a: the store asks to slow down: another try in 0.2 s" in caplog.text
    web.codes, web.later = [429] * 20, "Fri, 27 Nov 2026 08:00:00 GMT"
    with pytest.raises(
        InputError, match=f"{base}/a cannot be read: the store asks to slow down"
    ) as e:
        remote.read(f"{base}/a")
    assert "with fewer jobs or loading processes at once (5 tries were made)" in str(e.value)


def test_exists__a_server_that_fails_does_not_say_no(web: Web) -> None:
    web.files["/a"] = b"x"
    web.codes += [500, 500, 503]
    assert remote.exists(f"{web.address}/a")
    assert not remote.exists(f"{web.address}/b")
    web.codes += [403, 403]  # as a public bucket says of what is not in it
    assert not remote.exists(f"{web.address}/b", hidden=True)
    web.codes += [403, 403]
    with pytest.raises(InputError, match=REFUSED):
        remote.exists(f"{web.address}/b")
    web.codes += [500] * 20
    with pytest.raises(InputError, match="5 tries"):
        remote.exists(f"{web.address}/b")


def test_fetched__a_file_that_changes_meanwhile_is_an_error(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/model"] = DATA
    real = remote._piece

    def piece(known: remote.Entry, start: int, stop: int) -> bytes:
        found = real(known, start, stop)
        web.files["/model"] = DATA[::-1]
        return found

    monkeypatch.setattr(remote, "_piece", piece)
    with pytest.raises(InputError, match="has changed while it was read"):
        remote.fetched(f"{web.address}/model")
    assert list(remote.cache_folder().rglob("model")) == []


@pytest.mark.parametrize("tags", [True, False])
def test_fetched__a_file_that_has_changed_since_is_fetched_anew(web: Web, tags: bool) -> None:
    """Of the same size; where the server tells no version, by every command."""
    web.files["/model"], web.tags = DATA, tags
    address = f"{web.address}/model"
    assert remote.fetched(address).read_bytes() == DATA
    count = len(web.got("/model"))
    assert remote.fetched(address).read_bytes() == DATA
    assert len(web.got("/model")) == count
    web.files["/model"] = DATA[::-1]
    remote._fetched.clear()  # the next command
    assert remote.fetched(address).read_bytes() == DATA[::-1]


def test_data__folders_of_a_web_server_cannot_be_listed(web: Web) -> None:
    web.files["/photos/"] = b'<a href="train/">train/</a>'
    with pytest.raises(InputError, match=r"(?s)cannot be listed.*a list of the images"):
        open_data(f"{web.address}/photos").there()


def test_data__of_a_list_and_images_on_a_web_server(web: Web) -> None:
    web.files |= {"/train.txt": b"a.png ant\nb.png bee\n", "/a.png": b"A", "/b.png": b"B"}
    data = open_data(f"{web.address}/{{split}}.txt")
    assert data.there() == ("train",)
    web.cuts += [0]
    source = data.source("train", "train", None)
    assert [source.sample(0, index).content for index in range(2)] == [b"A", b"B"]


def test_write__to_a_web_server_is_refused(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(InputError, match="nothing can be written"):
        remote.put(tmp_path / "a", f"{web.address}/a")
    with pytest.raises(InputError, match="nothing can be written"):
        remote.write(f"{web.address}/a", b"x")
    assert web.asked == []


READ = """
import sys
from alphafix import remote
remote.FIRST_WAIT = 0.01
sys.stdout.buffer.write(remote.fetched(sys.argv[1]).read_bytes())
"""


def test_fetched__over_tls_from_a_server_that_is_trusted_only(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    command = [sys.executable, "-c", READ]
    environment = {**os.environ, "ALPHAFIX_CACHE": str(tmp_path / "cache")}
    with serve(pem) as web:
        web.files["/model"] = DATA
        words = [*command, f"{web.address}/model"]
        done = subprocess.run(words, env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"CERTIFICATE_VERIFY_FAILED" in done.stderr
        environment["SSL_CERT_FILE"] = str(pem)
        done = subprocess.run(words, env=environment, capture_output=True, check=False)
        assert done.stdout == DATA, done.stderr
