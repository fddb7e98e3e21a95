"""Whatever goes wrong, the original is whole and no half file has the final name."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from alphafix.checkpoints import find_head
from alphafix.checkpoints.formats.splices import Splice
from alphafix.checkpoints.patch import writing
from alphafix.checkpoints.patch.inplace import Undo, revert, undo_path, write_in_place
from alphafix.checkpoints.patch.writing import (
    PIECE,
    Span,
    VerificationError,
    compare_piece,
    fill_copy,
)
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import (
    AlphafixError,
    FileFormatError,
    InputError,
    MissingStageError,
    TargetExistsError,
)
from alphafix.files import atomic_paths, read_tensors, write_tensors
from tests.checkpoints.models import make_correction, write_stages
from tests.processes import fork
from tests.stages import patch

CLASSES, WIDTH = 40, 64


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with model.safetensors and the run directory of its correction."""
    rng = np.random.default_rng(0)
    tensors = {
        "body.weight": rng.normal(size=(300, 300)).astype(np.float32),
        "fc.weight": rng.normal(size=(CLASSES, WIDTH)).astype(np.float32),
        "fc.bias": rng.normal(size=CLASSES).astype(np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    head = find_head(tmp_path / "model.safetensors")
    write_stages(tmp_path / "run", head, make_correction(head))
    return tmp_path


def options(work: Path, **values: object) -> PatchOptions:
    given = {"run": work / "run", "file": work / "model.safetensors", **values}
    return PatchOptions.model_validate(given)


def left(work: Path) -> set[str]:
    """What is in the folder, half-written files of hidden names included."""
    return {path.name for path in work.iterdir()}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the kernel's own error, as of a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("room", [0, 5_000, 200_000])
def test_patch__full_disk(room: int, work: Path) -> None:
    before, names = sha256(work / "model.safetensors"), left(work)
    with (
        largest_file(room),
        pytest.raises(InputError, match=r"(?s)cannot write.*what was there before still is"),
    ):
        patch(options(work, card=work / "README.md"))
    assert left(work) == names
    assert sha256(work / "model.safetensors") == before


def test_patch__full_disk_in_place(work: Path) -> None:
    before, names = sha256(work / "model.safetensors"), left(work)
    with largest_file(100), pytest.raises(InputError, match="cannot write"):
        patch(options(work, in_place=True))
    assert left(work) == names
    assert sha256(work / "model.safetensors") == before


@pytest.mark.parametrize("folder", ["/proc", "/dev/null"])
def test_patch__folder_that_cannot_be_written(folder: str, work: Path) -> None:
    # Neither takes new files, whoever asks: permission bits do not bind root.
    target = Path(folder) / "model.safetensors"
    with pytest.raises(InputError, match=r"(?s)cannot write.*got:.*expected:.*to do:"):
        patch(options(work, output=target))
    assert left(work) == {"model.safetensors", "run"}


def test_patch__target_exists(work: Path) -> None:
    target = work / "model.alphafix.safetensors"
    target.write_text("mine")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        patch(options(work))
    assert target.read_text() == "mine"
    patch(options(work, overwrite=True))
    assert target.stat().st_size > 100_000


def test_patch__onto_the_original_is_refused(work: Path) -> None:
    before = sha256(work / "model.safetensors")
    for output in (work / "model.safetensors", work):
        with pytest.raises(InputError, match=r"(?s)is the original.*in_place=True"):
            patch(options(work, output=output, overwrite=True))
    assert sha256(work / "model.safetensors") == before


def test_patch__an_existing_card_is_seen_before_the_first_write(work: Path) -> None:
    (work / "README.md").write_text("mine")
    with pytest.raises(TargetExistsError):
        patch(options(work, card=work / "README.md"))
    assert left(work) == {"model.safetensors", "run", "README.md"}


def patch_and_be_killed(folder: Path, function: str, calls: int, in_place: bool) -> None:
    """Patch, in a process of its own, which is killed after so many calls of a function."""
    original, lock = getattr(os, function), threading.Lock()

    def counted(*arguments: Any) -> Any:
        # A kill can come between any two calls: this is one.
        nonlocal calls
        with lock:
            if not calls:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()  # until it arrives
            calls -= 1
            return original(*arguments)

    setattr(os, function, counted)
    writing.PIECE = 1 << 16
    patch(options(folder, in_place=in_place))


def killed(work: Path, function: str, calls: int, *, in_place: bool = False) -> bool:
    """Patch in a process that is killed after so many calls of a function; was it?"""
    process = fork(patch_and_be_killed, work, function, calls, in_place)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_patch__killed_in_place(writes: int, work: Path) -> None:
    model = work / "model.safetensors"
    before = sha256(model)
    assert killed(work, "pwrite", writes, in_place=True)
    assert undo_path(model).is_file()
    assert (sha256(model) == before) == (writes == 0)
    patch(options(work, revert=True))
    assert sha256(model) == before
    assert not undo_path(model).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "calls"), [("pwrite", 0), ("pwrite", 5), ("preadv", 3), ("fsync", 0)]
)
def test_patch__killed_while_a_copy_is_written(function: str, calls: int, work: Path) -> None:
    """Before, between and behind the pieces: the name is free, and the next patch is whole."""
    model, target = work / "model.safetensors", work / "model.alphafix.safetensors"
    before = sha256(model)
    assert killed(work, function, calls)
    assert not target.exists()
    assert sha256(model) == before
    patch(options(work))
    whole = sha256(target)
    target.unlink()
    assert not killed(work, function, 10_000)
    assert sha256(target) == whole
    assert sha256(model) == before


@pytest.mark.parametrize("verify", [None, "full"])
def test_patch__in_place_and_back(verify: str | None, work: Path) -> None:
    model = work / "model.safetensors"
    before, head = sha256(model), find_head(model)
    result = patch(options(work, in_place=True, verify=verify))
    assert result.target == model
    assert undo_path(model) in result.files
    again = find_head(model)
    np.testing.assert_array_equal(again.weight, make_correction(head).apply(head).weight)
    with pytest.raises(AlphafixError, match="has been patched in place"):
        patch(options(work, in_place=True, measure=False))
    assert patch(options(work, revert=True)).action == "revert"
    assert sha256(model) == before
    assert patch(options(work, in_place=True, verify=verify)).action == "in place"
    assert patch(options(work, revert=True)).action == "revert"
    with pytest.raises(MissingStageError, match="has no undo record"):
        patch(options(work, revert=True))


def test_write_in_place__a_record_is_never_replaced(work: Path) -> None:
    model = work / "model.safetensors"
    write_in_place({model: [Splice(200_000, 2, b"ab")]})
    record = undo_path(model).read_bytes()
    with pytest.raises(TargetExistsError, match="revert=True"):
        write_in_place({model: [Splice(200_100, 2, b"ab")]})
    assert undo_path(model).read_bytes() == record


def test_write_in_place__the_record_of_another_patch_stays(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two patches at once: the one that comes second fails, and takes nothing away."""
    model, of = work / "model.safetensors", Undo.of

    def meanwhile(file: Path, splices: Sequence[Splice], made_by: str) -> Undo:
        undo = of(file, splices, made_by)
        undo_path(file).write_bytes(b"the other's")
        return undo

    monkeypatch.setattr(Undo, "of", meanwhile)
    before = sha256(model)
    with pytest.raises(TargetExistsError):
        write_in_place({model: [Splice(200_000, 2, b"ab")]})
    assert undo_path(model).read_bytes() == b"the other's"
    assert sha256(model) == before


def test_revert__a_file_that_has_changed_since_is_left_alone(work: Path) -> None:
    model = work / "model.safetensors"
    patch(options(work, in_place=True))
    undo = Undo.load(undo_path(model))
    with model.open("r+b") as file:
        file.seek(int(undo.offsets[0]))
        file.write(b"trained on since")
    changed = sha256(model)
    with pytest.raises(InputError, match="has been changed since"):
        revert([model])
    assert sha256(model) == changed


def test_revert__a_damaged_record_changes_nothing(work: Path) -> None:
    model = work / "model.safetensors"
    patch(options(work, in_place=True))
    record, changed = undo_path(model), sha256(model)
    record.write_bytes(record.read_bytes()[:-10])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        patch(options(work, revert=True))
    assert sha256(model) == changed


def cut(record: Path) -> None:
    record.write_bytes(record.read_bytes()[:-10])


def turn(record: Path) -> None:
    data = bytearray(record.read_bytes())
    data[-1] ^= 1
    record.write_bytes(bytes(data))


def replace_it(record: Path) -> None:
    write_tensors(record, {"x": np.zeros(3)}, {"value": "head"}, overwrite=True)


def shorten(record: Path) -> None:
    tensors, metadata = read_tensors(record)
    write_tensors(record, {**tensors, "old": tensors["old"][:-1]}, metadata, overwrite=True)


@pytest.mark.parametrize("harm", [cut, turn, replace_it, shorten])
@pytest.mark.parametrize("how", [{"revert": True}, {"in_place": True}])
def test_patch__a_damaged_record_says_what_it_means_for_the_model(
    harm: Callable[[Path], None], how: dict[str, bool], work: Path
) -> None:
    model = work / "model.safetensors"
    patch(options(work, in_place=True))
    changed = sha256(model)
    harm(undo_path(model))
    with pytest.raises(FileFormatError, match=r"undo record .* is damaged") as raised:
        patch(options(work, **how))
    said = str(raised.value)
    assert "the original of model.safetensors cannot be restored from it" in said
    assert f"{model} was not touched now: it is as the patch has left it" in said
    assert "to keep the file as it is, delete the record" in said
    assert "again" not in said.partition("to do:")[2]
    assert sha256(model) == changed
    undo_path(model).unlink()
    with pytest.raises(MissingStageError):
        patch(options(work, revert=True))
    assert sha256(model) == changed


SPLICES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.binary(max_size=9)))


@settings(max_examples=80, deadline=None)
@given(content=st.binary(max_size=300), parts=SPLICES, seed=st.integers(0, 9))
def test_fill_copy__replaces_exactly_the_splices(
    content: bytes,
    parts: list[tuple[int, int, bytes]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    splices, expected, end = [], b"", 0
    for gap, length, data in parts:
        start = end + gap
        if start + length > len(content):
            break
        splices.append(Splice(start, length, data))
        expected += content[end:start] + data
        end = start + length
    expected += content[end:]
    source, target = folder / "source", folder / "target"
    source.write_bytes(content)
    fill_copy(source, target, splices)
    assert target.read_bytes() == expected
    assert source.read_bytes() == content


def test_fill_copy__pieces_and_moved_data(tmp_path: Path) -> None:
    """More than two pieces, with rows that lie across their borders."""
    source, target = tmp_path / "source", tmp_path / "target"
    content = np.random.default_rng(0).bytes(2 * PIECE + 12_345)
    source.write_bytes(content)
    border = PIECE - 100
    splices = [Splice(0, 50, b"h" * 4146), Splice(border - 10, 20, b"r" * 20)]
    fill_copy(source, target, splices)
    expected = b"h" * 4146 + content[50 : border - 10] + b"r" * 20 + content[border + 10 :]
    assert target.read_bytes() == expected


@pytest.mark.parametrize("seed", range(20))
def test_fill_copy__many_replacements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Rows of all lengths, next to each other or not, some of which move what follows."""
    monkeypatch.setattr(writing, "PIECE", 8192)
    monkeypatch.setattr(writing, "BUFFER", 1000)
    rng = np.random.default_rng(seed)
    content = rng.bytes(int(rng.integers(0, 60_000)))
    splices, parts, end = [], [], 0
    while (start := end + int(rng.choice([0, 1, 300, 9000]))) + 3000 < len(content):
        length = int(rng.integers(0, 3000))
        data = rng.bytes(length if seed % 2 else int(rng.integers(0, 3000)))
        splices.append(Splice(start, length, data))
        parts += [content[end:start], data]
        end = start + length
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    fill_copy(source, target, splices)
    assert target.read_bytes() == b"".join(parts) + content[end:]


def test_fill_copy__a_wrong_byte_is_found(tmp_path: Path) -> None:
    """The original changes under the copy: the comparison sees it, and nothing is left."""
    source = tmp_path / "source"
    source.write_bytes(bytes(200_000))

    def spoil(copy: Path) -> None:
        with copy.open("r+b") as file:
            file.seek(150_000)
            file.write(b"x")
        with source.open("rb") as original, copy.open("rb") as changed:
            whole = Span(0, 0, 200_000)
            compare_piece(original.fileno(), changed.fileno(), whole, [], copy)

    with (
        pytest.raises(VerificationError, match="another byte at 150,000"),
        atomic_paths([tmp_path / "target"], check=spoil) as (draft,),
    ):
        fill_copy(source, draft, [])
    assert os.listdir(tmp_path) == ["source"]
