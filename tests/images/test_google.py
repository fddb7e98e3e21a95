"""Files at gs://, of a stand-in for Google's server on this machine, where its package is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gcsfs", reason="gs:// needs gcsfs")
pytest.importorskip("gcp_storage_emulator", reason="no server: pip install gcp-storage-emulator")

from alphafix import remote
from alphafix.errors import InputError
from alphafix.features import elsewhere


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="data")
    server.start()
    port = server._api._httpd.server_address[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # of which it knows nothing
    monkeypatch.setenv("ALPHAFIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    remote._system.cache_clear()
    yield "gs://data"
    remote._system.cache_clear()
    server.stop()


def test_files__are_written_listed_and_read_as_they_are_now(bucket: str, tmp_path: Path) -> None:
    path, address = tmp_path / "model", f"{bucket}/a/model"
    assert not remote.exists(address)
    for data in (b"one" * 100_000, b"two" * 100_000):
        path.write_bytes(data)
        remote.put(path, address)
        assert remote.exists(address)
        assert remote.exists(f"{bucket}/a")
        assert [one.address for one in remote.entries(f"{bucket}/a")] == [address]
        assert remote.read(address) == data
        assert remote.fetched(address).read_bytes() == data
    remote.write(f"{bucket}/a/more", b"more")
    assert [one.size for one in remote.entries(f"{bucket}/a")] == [300_000, 4]
    with pytest.raises(InputError, match="gs://data/gone cannot be found"):
        remote.fetched(f"{bucket}/gone")


def test_parts__are_those_with_a_manifest(bucket: str) -> None:
    remote.write(f"{bucket}/run/parts/00000-of-00002/files/{'0' * 64}", b"x")
    with pytest.raises(InputError, match="no finished part"):
        elsewhere.parts_at(f"{bucket}/run")
    remote.write(f"{bucket}/run/parts/00001-of-00002/manifest.json", b"{}")
    part = f"{bucket}/run/parts/00001-of-00002"
    assert elsewhere.parts_at(f"{bucket}/run") == [part]
    assert elsewhere.parts_at(part) == [part]
