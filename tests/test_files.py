"""Files are written whole or not at all, under real faults."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alphafix.errors import FileFormatError, InputError, TargetExistsError
from alphafix.files import atomic_path, read_json, read_tensors, write_json, write_tensors
from tests.common import heed_interrupts


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_tensors__keeps_shapes_and_gives_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"number": np.array(3.0), "row": np.zeros((1, 2))}, {"note": "ü"})
    tensors, metadata = read_tensors(path)
    assert (tensors["number"].shape, tensors["row"].shape) == ((), (1, 2))
    assert metadata == {"note": "ü"}
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_write__the_same_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tensors(tmp_path / name, {"y": np.arange(3), "x": np.ones(2)}, {"k": [1]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_atomic_path__an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    with pytest.raises(RuntimeError), atomic_path(path, overwrite=True) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": True}
    assert names(tmp_path) == ["a.json"]


def test_atomic_path__a_target_that_exists_names_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        write_json(path, 2)
    assert read_json(path) == 1


def test_write_tensors__a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from alphafix.files import write_tensors\n"
        "from alphafix.errors import InputError\n"
        "try: write_tensors(Path(sys.argv[1]), {'x': np.zeros(100_000)}, {})\n"
        "except InputError as error: print(error); sys.exit(7)\n"
    )
    target = tmp_path / "big.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        preexec_fn=limit_file_size,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert "cannot write" in done.stdout
    assert names(tmp_path) == []


def test_atomic_path__kill_9_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, "old")
    code = (
        "import sys, time; from pathlib import Path\n"
        "from alphafix.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]), overwrite=True) as temporary:\n"
        "    temporary.write_text('new but not whole')\n"
        "    print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert read_json(path) == "old"


def test_write__into_a_file_as_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_json(tmp_path / "file" / "a.json", 1)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"a": 1'])
def test_read_json__of_damage_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("size", [0, 4, 8, 60])
def test_read_tensors__of_a_truncated_file_names_its_size(size: int, tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"x": np.zeros(100)}, {})
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:size])
    with pytest.raises(FileFormatError, match=f"file size {size} bytes"):
        read_tensors(tmp_path / "b")


def test_read_tensors__of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_tensors(tmp_path / "none.safetensors")


def test_run__has_no_leftover_of_an_interrupted_write(tmp_path: Path) -> None:
    """SIGINT in the middle of a write removes the temporary file."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from alphafix.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
    assert names(tmp_path) == []


def test_atomic_path__of_two_that_write_one_name_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(TargetExistsError, match="exists already"), atomic_path(path) as late:  # noqa: PT012
        late.write_text("late")  # the name was free when it began
        write_json(path, "first")
    assert read_json(path) == "first"
    assert names(tmp_path) == ["a.json"]


def test_atomic_path__what_the_disk_did_not_confirm_is_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("alphafix.files.flush", fails)
    path = tmp_path / "a"
    with (
        pytest.raises(InputError, match="is there and whole, but the disk did not") as raised,
        atomic_path(path) as draft,
    ):
        draft.write_bytes(b"new")
    assert "after a power cut the file may be gone" in str(raised.value)
    assert path.read_bytes() == b"new"


def test_atomic_path__names_as_long_as_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 124 + ".json")
    assert len(path.name.encode()) == 253
    write_json(path, 1)
    write_json(path, 2, overwrite=True)
    assert read_json(path) == 2
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_atomic_path__without_nameless_files(
    tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")  # as on other systems
    path = tmp_path / "a.json"
    write_json(path, 1)
    if overwrite:
        write_json(path, 2, overwrite=True)
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "b") as draft:  # noqa: PT012
        assert stat.S_IMODE(draft.stat().st_mode) == 0o600
        raise RuntimeError
    with pytest.raises(TargetExistsError), atomic_path(tmp_path / "c") as draft:  # noqa: PT012
        draft.write_text("late")
        (tmp_path / "c").write_text("first")
    assert (tmp_path / "c").read_text() == "first"
    assert names(tmp_path) == ["a.json", "c"]


def test_atomic_path__without_nameless_files_named_from_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.chdir(tmp_path)
    for overwrite in (False, True):
        write_json(Path("in/a folder/a.json"), 1, overwrite=overwrite)
    assert names(tmp_path / "in/a folder") == ["a.json"]
