"""Job arrays whose jobs share nothing but an object store: moto's, over a line that breaks."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alphafix import remote
from alphafix.commands.app import app
from alphafix.commands.command import Watch, alone
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.part import part_work
from alphafix.commands.features.merge import merge_work
from alphafix.commands.features.options import MergeOptions
from alphafix.errors import FileFormatError, InputError, TargetExistsError
from alphafix.features import elsewhere
from alphafix.locks import locked
from tests.elsewhere import Line
from tests.extract.photos import WRITERS
from tests.extract.test_resume import many_photos
from tests.extract.zoo import Animal
from tests.processes import contents, start_alphafix
from tests.stages import extract

Make = Callable[..., ExtractOptions]
RUN = "s3://data/run"
COUNT = 2


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, animal: Callable[[str], Animal]) -> Make:
    """Options of an extraction of 103 images."""
    folder = tmp_path_factory.mktemp("photos")
    data = WRITERS["folders"](folder, many_photos())
    weights = animal("python").options["weights"]

    def options(run: Path | str, **changes: Any) -> ExtractOptions:
        given: dict[str, Any] = {
            "run": Path(run),
            "backbone": "python:tests.extract.models:small_net",
            "weights": weights,
            "data": data,
            "workers": 0,
            "batch_size": 16,
            "shard_samples": 16,
            "few_below": 5,
        }
        return ExtractOptions(**{**given, **changes})

    return options


@pytest.fixture(scope="module")
def whole(make: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one extraction leaves."""
    run = tmp_path_factory.mktemp("whole") / "run"
    extract(make(run))
    return contents(run)


@pytest.fixture
def job(make: Make, bucket: Any) -> Callable[..., Any]:
    """One job of two, as the command does it."""

    def run(index: int, **changes: Any) -> Any:
        options = make(RUN, shard_index=index, shard_count=COUNT, **changes)
        return alone(part_work, options, begins=True)

    return run


def merge(run: Path, *places: str, **options: Any) -> dict[str, bytes]:
    """What the run holds then, but for the parts."""
    merge_work(MergeOptions(run=run, parts=tuple(map(Path, places)), **options), Watch())
    return {name: data for name, data in contents(run).items() if not name.startswith("parts/")}


def address(index: int) -> str:
    return f"{RUN}/parts/{index:05d}-of-{COUNT:05d}"


def work_left() -> list[Path]:
    return list(remote.cache_folder().glob("*"))


@pytest.mark.slow
def test_jobs__at_an_address_give_the_bytes_of_one_extraction(
    job: Callable[..., Any], whole: dict[str, bytes], line: Line, tmp_path: Path
) -> None:
    """Over a line that breaks in both directions; from the run's address, or from each part's."""
    line.cuts_up += [700, 1500]
    line.cuts += [200]
    found = job(1)
    assert found.to_dict()["folder"] == address(1)
    job(0)
    assert (line.cuts_up, line.cuts) == ([], [])
    assert work_left() == []
    line.cuts += [500, 900]
    assert merge(tmp_path / "run", RUN) == whole
    assert line.cuts == []
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run/features/*/*")}
    assert merge(tmp_path / "run", RUN) == whole
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run/features/*/*")} == before
    assert merge(tmp_path / "other", address(1), address(0)) == whole


def test_job__again_is_up_to_date_and_otherwise_needs_overwrite(
    job: Callable[..., Any], bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job(0)
    before = {name: info["ETag"] for name, info in bucket.find("data", detail=True).items()}
    with caplog.at_level("INFO", "alphafix"):
        job(0)
    assert "up to date" in caplog.text
    read = re.findall(r"GET /data/run/parts/00000-of-00002/files/(\w+)", caplog.text)
    assert read
    manifest = json.loads(bucket.cat_file("data/run/parts/00000-of-00002/manifest.json"))
    assert {name for name, file in manifest["files"].items() if file["sha256"] in read} == {
        name for name in manifest["files"] if not re.search(r"/\d+\.safetensors$", name)
    }
    with pytest.raises(TargetExistsError, match=f"^{address(0)} exists already") as refused:
        job(0, store_dtype="float16")
    assert "store_dtype 'float32', now 'float16'" in str(refused.value)
    assert work_left() == []
    bucket.invalidate_cache()
    assert {n: info["ETag"] for n, info in bucket.find("data", detail=True).items()} == before
    job(0, store_dtype="float16", overwrite=True)
    with pytest.raises(TargetExistsError, match="store_dtype"):
        job(0)
    assert objects(bucket, 0) == named(bucket, 0)  # nothing of the earlier part is left


def named(bucket: Any, index: int) -> set[str]:
    """The files that the part at the address has."""
    manifest = json.loads(bucket.cat_file(f"data/run/parts/0000{index}-of-00002/manifest.json"))
    return {file["sha256"] for file in manifest["files"].values()}


def objects(bucket: Any, index: int) -> set[str]:
    """The files that are there."""
    bucket.invalidate_cache()
    return {Path(name).name for name in bucket.find(f"data/run/parts/0000{index}-of-00002/files")}


def test_job__where_nothing_can_be_written_says_so_before_any_work(
    make: Make, bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = make("s3://nowhere/run", shard_index=0, shard_count=1, backbone="python:no:model")
    with pytest.raises(InputError, match="s3://nowhere/run/parts/00000-of-00001 cannot be writ"):
        alone(part_work, options, begins=True)
    assert "another try" not in caplog.text
    assert work_left() == []


def test_job__trusts_no_file_that_nothing_vouches_for(
    job: Callable[..., Any], bucket: Any, whole: dict[str, bytes], tmp_path: Path, caplog: Any
) -> None:
    """Wrong bytes of the right size, without a manifest; what the store knows is not sent again."""
    job(0)
    job(1)
    damage_file(bucket)
    bucket.rm("data/run/parts/00001-of-00002/manifest.json")
    wrong = max(bucket.find("data/run/parts/00001-of-00002/files"), key=bucket.size)
    caplog.clear()
    with caplog.at_level("INFO"):
        job(1)
    sent = re.findall(r"PUT /data/run/parts/00001-of-00002/files/(\w+)", caplog.text)
    assert sent == [Path(wrong).name]
    assert merge(tmp_path / "run", RUN) == whole
    assert work_left() == []


def test_job__leaves_no_files_of_another_try_at_the_address(
    job: Callable[..., Any], bucket: Any
) -> None:
    bucket.pipe_file("data/run/parts/00000-of-00002/files/" + "0" * 64, b"left")
    bucket.pipe_file("data/run/parts/00001-of-00002/files/" + "0" * 64, b"of another part")
    job(0)
    assert objects(bucket, 0) == named(bucket, 0)
    assert objects(bucket, 1) == {"0" * 64}
    assert not bucket.exists(f"data/run/parts/00000-of-00002/{remote._PROBE}")


def test_job__other_than_one_that_was_stopped_here_names_both_places(
    make: Make, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make(RUN, shard_index=0, shard_count=COUNT)

    def stopped(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alphafix.commands.extract.part.publish", stopped)
    with pytest.raises(KeyboardInterrupt):
        alone(part_work, options, begins=True)
    assert work_left() == [options.here]
    other = options.model_copy(update={"store_dtype": "float16"})
    with pytest.raises(TargetExistsError) as refused:
        alone(part_work, other, begins=True)
    said = str(refused.value)
    assert said.startswith(f"an unfinished part of {address(0)} in {options.here} exists already")


KILLED = """
import os, signal, sys
from pathlib import Path
from alphafix import remote
from alphafix.commands.command import alone
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.part import part_work

left = int(sys.argv[2])
real = remote.put


def put(path, address):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(path, address)


remote.put = put
alone(part_work, ExtractOptions.model_validate_json(sys.argv[1]), begins=True)
"""


@pytest.mark.slow
def test_job__killed_while_it_writes_leaves_nothing_that_merge_takes(
    make: Make, job: Callable[..., Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    job(0)
    options = make(RUN, shard_index=1, shard_count=COUNT)
    command = [sys.executable, "-c", KILLED, json.dumps(options.model_dump(mode="json")), "3"]
    assert subprocess.run(command, env=os.environ, check=False).returncode == -signal.SIGKILL
    assert len(remote.entries(f"{address(1)}/files")) == 3
    with pytest.raises(InputError, match="no part 1"):
        merge(tmp_path / "run", RUN)
    assert not (tmp_path / "run/features").exists()
    job(1)
    assert merge(tmp_path / "run", RUN) == whole


@pytest.mark.slow
def test_jobs__two_of_one_number_leave_one_whole_part(
    job: Callable[..., Any], whole: dict[str, bytes], tmp_path: Path, monkeypatch: Any
) -> None:
    """The second one writes its part just before the first one would; on another machine."""
    real = elsewhere.publish

    def race(**changes: Any) -> None:
        def publish(*rest: Any, **more: Any) -> None:
            monkeypatch.setattr("alphafix.commands.extract.part.publish", real)
            with monkeypatch.context() as other:
                other.setenv("ALPHAFIX_CACHE", str(tmp_path / "another machine"))
                job(0, **changes)
            real(*rest, **more)

        monkeypatch.setattr("alphafix.commands.extract.part.publish", publish)

    race()
    job(0)  # the same bytes: nothing to do
    job(1)
    assert merge(tmp_path / "run", RUN) == whole
    for entry in remote.entries(address(0)):
        remote._open(RUN)[0].rm(entry.address)
    race(store_dtype="float16")
    with pytest.raises(TargetExistsError, match="another job has written"):
        job(0)
    assert work_left() == []
    with pytest.raises(InputError, match="store_dtype"):  # the part of the other job, whole
        merge(tmp_path / "new", RUN)


@pytest.mark.slow
def test_jobs__two_of_one_number_at_once_on_one_machine(
    make: Make, bucket: Any, job: Callable[..., Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """The second waits for the first, which removes its folder, and finds the part written."""
    options = make(RUN)
    words = ["extract", "--run", RUN, "--data", options.data, "--backbone", options.backbone]
    words += ["--weights", str(options.weights), "--workers", "0", "--batch-size", "16"]
    words += ["--shard-samples", "16", "--few-below", "5", "--shard-index", "0"]
    words += ["--shard-count", str(COUNT)]
    place = make(RUN, shard_index=0, shard_count=COUNT).here
    told = [tmp_path / "first told", tmp_path / "second told"]
    with locked(place, begins=True):
        both = [start_alphafix(words, tmp_path, one) for one in told]
        deadline = time.monotonic() + 120
        while not all("waiting for" in (one / "stderr").read_text() for one in told):
            assert all(one.is_alive() for one in both)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        place.rmdir()
    for process in both:
        process.join(300)
    said = [tuple((one / name).read_text() for name in ("stdout", "stderr")) for one in told]
    assert [one.exitcode for one in both] == [0, 0], said
    assert {out for out, _ in said} == {f"{address(0)}\n"}
    assert work_left() == []
    bucket.invalidate_cache()
    job(1)
    assert merge(tmp_path / "run", RUN) == whole


def damage_file(bucket: Any) -> None:
    name = max(bucket.find("data/run/parts/00001-of-00002/files"), key=bucket.size)
    bucket.pipe_file(name, bucket.cat_file(name)[:-1] + b"?")


def edit(bucket: Any, change: Callable[[dict[str, Any]], object]) -> None:
    name = "data/run/parts/00001-of-00002/manifest.json"
    data = json.loads(bucket.cat_file(name))
    change(data["files"])
    bucket.pipe_file(name, json.dumps(data).encode())


FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "a byte is another": (damage_file, "has changed since it was written"),
    "a file is gone": (
        lambda b: b.rm(max(b.find("data/run/parts/00001-of-00002/files"), key=b.size)),
        "cannot be found",
    ),
    "half a manifest": (
        lambda b: b.pipe_file("data/run/parts/00001-of-00002/manifest.json", b'{"files": {'),
        "^s3://data/run/parts/00001-of-00002/manifest.json is damaged, or is not the manifest of",
    ),
    "no manifest": (lambda b: b.rm("data/run/parts/00001-of-00002/manifest.json"), "no part 1"),
    "a name that leads out": (
        lambda b: edit(b, lambda f: f.update({"../../x": f["classes.json"]})),
        "outside of its part",
    ),
    "a hash that leads out": (
        lambda b: edit(b, lambda f: f["classes.json"].update(sha256="../../x")),
        "outside of its part",
    ),
    "a split is not listed": (
        lambda b: edit(b, lambda f: f.pop("features/train/part.json")),
        "no finished features of train",
    ),
}


@pytest.mark.slow
def test_merge__of_damaged_parts_is_one_error_and_nothing_is_made(
    job: Callable[..., Any], bucket: Any, tmp_path: Path
) -> None:
    for index in range(COUNT):
        job(index)
    kept = {name: bucket.cat_file(name) for name in bucket.find("data")}
    for number, (harm, message) in enumerate(FAULTS.values()):
        harm(bucket)
        bucket.invalidate_cache()
        with pytest.raises((InputError, FileFormatError), match=message):
            merge(tmp_path / f"run {number}", RUN)
        assert not (tmp_path / f"run {number}/features").exists()
        assert list(tmp_path.glob("x")) == []
        for name, data in kept.items():
            bucket.pipe_file(name, data)


@pytest.mark.slow
def test_job__makes_a_damaged_part_anew_if_it_may_be_replaced(
    job: Callable[..., Any], bucket: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    for index in range(COUNT):
        job(index)
    for number, (harm, _) in enumerate(FAULTS.values()):
        harm(bucket)
        bucket.invalidate_cache()
        job(1, overwrite=True)
        assert merge(tmp_path / f"run {number}", RUN) == whole


@pytest.mark.parametrize("run", ["memory://data/run", "file://data/run", "file:///data/run"])
def test_job__of_this_machine_or_process_alone_is_refused_before_any_work(
    make: Make, bucket: Any, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nothing can be written"):
        alone(part_work, make(run, shard_index=0, shard_count=1))
    assert work_left() == []
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_merge__takes_what_is_there_now(
    job: Callable[..., Any], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A part that came or was made anew since the last try, in the same process."""
    job(0, store_dtype="float16")
    with pytest.raises(InputError, match="no part 1"):
        merge(tmp_path / "run", RUN)
    job(1)
    with pytest.raises(InputError, match="store_dtype"):
        merge(tmp_path / "run", RUN)
    job(0, overwrite=True)
    assert merge(tmp_path / "run", RUN) == whole


def test_merge__keeps_parts_that_were_made_here(
    job: Callable[..., Any], make: Make, tmp_path: Path
) -> None:
    job(0)
    job(1)
    part_work(make(tmp_path / "run", shard_index=0, shard_count=COUNT), Watch())
    before = contents(tmp_path / "run")
    with pytest.raises(TargetExistsError, match="from elsewhere"):
        merge(tmp_path / "run", RUN)
    assert contents(tmp_path / "run") == before


def test_merge__without_all_parts_of_one_division_fetches_none(
    job: Callable[..., Any], bucket: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job(0)
    with caplog.at_level("INFO", "alphafix"):
        with pytest.raises(InputError, match=r"2 parts of the run(.|\n)*no part 1") as raised:
            merge(tmp_path / "run", RUN)
        again = str(raised.value)
        assert "backbone='python:tests.extract.models:small_net'" in again
        assert "shard_index=1, shard_count=2, run='s3://data/run'" in again
        with pytest.raises(InputError, match="part 0 twice: s3://data/run/parts/00000-of"):
            merge(tmp_path / "run", RUN, address(0))
        other = address(1).removeprefix("s3://").replace("of-00002", "of-00003")
        bucket.pipe_file(f"{other}/manifest.json", b"{}")
        bucket.invalidate_cache()
        with pytest.raises(InputError, match=r"several divisions(.|\n)*2 parts and 3 parts"):
            merge(tmp_path / "run", RUN)
    assert "fetching" not in caplog.text
    assert not (tmp_path / "run").exists()


def test_merge__of_a_part_that_cannot_be_fetched_leaves_no_note(
    job: Callable[..., Any], bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless some of it has come, which is not fetched again."""
    monkeypatch.chdir(tmp_path)
    job(0)
    job(1)
    files = "data/run/parts/00000-of-00002/files"
    kept = {name: bucket.cat_file(name) for name in bucket.find(files)}
    bucket.rm(list(kept))
    words = ["features", "merge", RUN, "--run", str(tmp_path / "run")]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert not (tmp_path / "run").exists()
    largest = max(kept, key=lambda name: len(kept[name]))
    for name, data in kept.items():
        bucket.pipe_file(name, data[:-1] if name == largest else data)
    assert CliRunner().invoke(app, words).exit_code == 1
    assert list((tmp_path / "run").rglob(".address.json"))
    bucket.pipe_file(largest, kept[largest])
    assert CliRunner().invoke(app, words).exit_code == 0


def test_merge__errors_name_the_addresses_that_were_given(
    job: Callable[..., Any], bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is found in the copies; the run directory's own path is no part of an error."""
    monkeypatch.chdir(tmp_path)
    job(0)
    job(1)
    edit(bucket, lambda files: files.pop("features/train/part.json"))
    for place in ("here", str(tmp_path / "there")):
        done = CliRunner().invoke(app, ["features", "merge", RUN, "--run", place])
        assert f"got:      {address(1)}\n" in done.stderr
        assert f"{place}/" not in done.stderr
    job(1, overwrite=True, store_dtype="float16")
    done = CliRunner().invoke(app, ["features", "merge", RUN, "--run", "here"])
    said = f"error: {address(1)}/features/train was made otherwise than {address(0)}/features/train"
    assert said in " ".join(done.stderr.split())


def test_job__that_was_stopped_before_it_wrote_names_the_address(
    make: Make, bucket: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = make(RUN, shard_index=0, shard_count=COUNT)

    def stopped(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alphafix.commands.extract.part.publish", stopped)
        with pytest.raises(KeyboardInterrupt):
            alone(part_work, options, begins=True)
    with caplog.at_level("INFO", "alphafix"):
        alone(part_work, options, begins=True)
    assert f"{address(0)} is up to date" in caplog.messages
    assert str(remote.cache_folder()) not in caplog.text


def test_recipe__of_parts_elsewhere_and_their_merging(
    make: Make, bucket: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    options = make(RUN)
    words: dict[str, Any] = {"backbone": options.backbone, "data": options.data}
    words |= {"weights": str(options.weights)}
    words |= {"workers": 0, "batch_size": 16, "shard_samples": 16, "few_below": 5}
    parts = [{"extract": {**words, "shard_index": i, "shard_count": COUNT}} for i in range(COUNT)]
    jobs, last = tmp_path / "jobs.yaml", tmp_path / "merge.yaml"
    jobs.write_text(json.dumps({"run": RUN, "stages": parts}), encoding="utf-8")
    merging = [{"features merge": {"parts": [RUN]}}]
    last.write_text(json.dumps({"run": "run", "stages": merging}), encoding="utf-8")

    def run(*more: str) -> Any:
        return CliRunner().invoke(app, ["run", *more])

    def states(recipe: Path) -> list[str]:
        done = run(str(recipe), "--dry-run", "--json")
        return [stage["state"] for stage in json.loads(done.stdout)["stages"]]

    assert states(last) == ["to do"]
    done = run(str(jobs))
    assert (done.exit_code, done.stdout) == (0, f"{RUN}\n"), done.stderr
    assert f"next: alphafix features merge {RUN}\n" in done.stderr
    assert json.loads(run(str(jobs), "--json").stdout)["run"] == RUN
    assert states(jobs) == ["up to date"] * COUNT
    assert states(last) == ["to do"]
    assert not (tmp_path / "run").exists()  # nothing is fetched into it to tell
    assert run(str(last)).exit_code == 0
    assert states(last) == ["up to date"]
    assert work_left() == []
    found = contents(tmp_path / "run")
    assert {name: data for name, data in found.items() if "parts/" not in name} == whole


def test_merge__of_an_address_without_parts(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished part at s3://data/nothing"):
        merge(tmp_path / "run", "s3://data/nothing")
    for more in ("parts", "manifest.json"):
        with pytest.raises(InputError, match=r"or give s3://data/nothing$"):
            merge(tmp_path / "run", f"s3://data/nothing/{more}")
        words = ["features", "merge", f"s3://data/nothing/{more}", "--run", str(tmp_path / "run")]
        told = CliRunner().invoke(app, words).stderr
        assert "--shard-index I --shard-count N" in told
        # Where the parts are to be, not their result.
        assert "--run s3://data/nothing --shard-index" in told


def test_merge__of_a_whole_run_at_an_address_says_what_it_is(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file("data/run/features/train/manifest.json", b"{}")
    with pytest.raises(InputError, match=r"s3://data/run holds whole features") as raised:
        merge(tmp_path / "run", RUN)
    assert "copy the folder here and use it as it stands" in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_command__says_what_comes_next(
    make: Make, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = make(RUN)
    words = ["extract", "--run", RUN, "--data", options.data, "--workers", "0"]
    words += ["--backbone", options.backbone, "--weights", str(options.weights)]
    done = CliRunner().invoke(app, [*words, "--shard-index", "0", "--shard-count", "1"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{RUN}/parts/00000-of-00001\n"
    assert f"next: alphafix features merge {RUN}" in done.stderr
    assert list(tmp_path.glob("s3*")) == []
    done = CliRunner().invoke(app, ["features", "merge", RUN, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["parts"]) == (0, 1)
    assert list(tmp_path.glob("s3*")) == []
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--shard-index 0 --shard-count 1" in " ".join(done.stderr.split())
    done = CliRunner().invoke(
        app, [*words, "--run", "https://host/run", "--shard-index", "0", "--shard-count", "1"]
    )
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nothing can be written to https://host/run" in " ".join(done.stderr.split())
    assert list(tmp_path.glob("http*")) == []


def test_job__again_says_what_is_no_longer_there(job: Callable[..., Any], bucket: Any) -> None:
    job(1)
    name = max(bucket.find("data/run/parts/00001-of-00002/files"), key=bucket.size)
    bucket.pipe_file(name, bucket.cat_file(name)[:-1])
    with pytest.raises(FileFormatError, match="is not what was written"):
        job(1)
    bucket.rm(name)
    with pytest.raises(FileFormatError, match="is not what was written"):
        job(1)


TORCHRUN = "import sys; from torch.distributed.run import main; main(sys.argv[1:])"


@pytest.mark.slow
def test_torchrun__on_machines_that_share_nothing_but_the_address(
    make: Make, bucket: Any, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Two of two processes each, which have folders of their own for what they make."""
    options = make(RUN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    words += ["--rdzv-endpoint", f"127.0.0.1:{port}", "-m", "--", "alphafix", "extract"]
    words += ["--run", RUN, "--data", options.data, "--backbone", options.backbone]
    words += ["--weights", str(options.weights), "--workers", "0", "--batch-size", "16"]
    words += ["--shard-samples", "16", "--few-below", "5"]

    def torchrun(machine: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", TORCHRUN, *words],
            env={**os.environ, "ALPHAFIX_CACHE": str(tmp_path / f"machine {machine}")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    machines = [torchrun(machine) for machine in range(2)]
    said = [machine.communicate(timeout=300) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    bucket.invalidate_cache()
    assert bucket.exists(f"{address(0)}/manifest.json")
    assert bucket.exists(f"{address(1)}/manifest.json")
    assert any(f"next: alphafix features merge {RUN}" in told for _, told in said)
    assert merge(tmp_path / "run", RUN) == whole


@pytest.mark.slow
@pytest.mark.parametrize("lacking", ["bucket", "images"])
def test_torchrun__what_is_missing_is_one_error_before_the_processes_join(
    make: Make, bucket: Any, lacking: str, tmp_path: Path
) -> None:
    options = make(RUN)
    run = "s3://no-such-bucket/run" if lacking == "bucket" else str(tmp_path / "run")
    data = options.data if lacking == "bucket" else str(tmp_path / "none")
    words = ["--standalone", "--nproc-per-node", "2", "-m", "--", "alphafix", "extract"]
    words += ["--run", run, "--data", data, "--backbone", options.backbone]
    words += ["--weights", str(options.weights), "--workers", "0"]
    done = subprocess.run(
        [sys.executable, "-c", TORCHRUN, *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    told = done.stderr.partition("torch/distributed/elastic")[0]
    assert told.count("error: ") == 1, done.stderr
    assert ("no-such-bucket" if lacking == "bucket" else str(tmp_path / "none")) in told
    assert "gloo" not in done.stderr.lower()
    assert "Connection" not in told
    assert "another of the processes has ended" not in done.stderr


def test_job__of_processes_on_several_machines_is_refused(
    job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="on several machines"):
        job(0)
