"""Job arrays: parts that know nothing of one another, and the one store that they become."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.command import Watch
from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.extract.part import part_state, part_work
from alphafix.commands.features.merge import merge_state, merge_work
from alphafix.commands.features.options import MergeOptions
from alphafix.errors import AlphafixError, InputError, TargetExistsError
from alphafix.features.store import FeatureStore
from alphafix.run.artifact import State
from tests.extract.photos import WRITERS
from tests.extract.test_resume import many_photos
from tests.extract.zoo import Animal
from tests.processes import contents, run_ranks
from tests.shell import bash
from tests.stages import extract

Make = Callable[..., ExtractOptions]
COUNT = 3


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, animal: Callable[[str], Animal]) -> Make:
    """Options of an extraction of 103 images in shards of eight, from archives or folders."""
    folder = tmp_path_factory.mktemp("parts")
    forms = {form: WRITERS[form](folder / form, many_photos()) for form in ("folders", "archives")}
    weights = animal("python").options["weights"]

    def options(run: Path, form: str = "folders", **changes: Any) -> ExtractOptions:
        given: dict[str, Any] = {
            "run": run,
            "backbone": "python:tests.extract.models:small_net",
            "weights": weights,
            "data": forms[form],
            "workers": 0,
            "batch_size": 4,
            "shard_samples": 8,
            "few_below": 5,
        }
        return ExtractOptions(**{**given, **changes})

    return options


@pytest.fixture(scope="module")
def whole(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one extraction leaves."""
    run = tmp_path_factory.mktemp("whole") / "run"
    extract(make(run))
    return run


@pytest.fixture(scope="module")
def made(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the three jobs of an array leave."""
    run = tmp_path_factory.mktemp("array") / "run"
    for index in range(COUNT):
        part_work(make(run, shard_index=index, shard_count=COUNT), Watch())
    return run


@pytest.fixture
def array(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def merged(run: Path) -> dict[str, bytes]:
    """All files of a run but for the parts."""
    return {name: data for name, data in contents(run).items() if not name.startswith("parts/")}


def merge(run: Path, **options: Any) -> Any:
    return merge_work(MergeOptions(run=run, **options), Watch())


def part_of(run: Path, index: int) -> Path:
    return run / f"parts/{index:05d}-of-{COUNT:05d}"


def test_merge__gives_the_bytes_of_one_extraction(array: Path, whole: Path, make: Make) -> None:
    found = merge(array)
    assert merged(array) == contents(whole)
    assert found.to_dict()["samples"] == {"train": 102, "val": 1}
    before = {path: path.stat().st_mtime_ns for path in array.rglob("*")}
    assert merge_state(MergeOptions(run=array)) is State.CURRENT
    merge(array)
    assert {path: path.stat().st_mtime_ns for path in array.rglob("*")} == before
    # To `extract` it is what itself would have made.
    extract(make(array))
    assert merged(array) == contents(whole)


def test_merge__of_archives(make: Make, tmp_path: Path) -> None:
    extract(make(tmp_path / "whole", "archives"))
    run = tmp_path / "run"
    for index in reversed(range(COUNT)):
        part_work(make(run, "archives", shard_index=index, shard_count=COUNT), Watch())
    merge(run)
    assert merged(run) == contents(tmp_path / "whole")


def test_merge__of_another_run_directory(array: Path, whole: Path, tmp_path: Path) -> None:
    merge(tmp_path / "new", parts=(array,))
    assert contents(tmp_path / "new") == contents(whole)


@pytest.mark.slow
def test_merge__of_jobs_of_several_processes(make: Make, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_ranks(make(run, shard_index=0, shard_count=2), 2) == [0, 0]
    part_work(make(run, shard_index=1, shard_count=2), Watch())
    merge(run)
    assert merged(run) == contents(whole)


def test_merge__of_folders_that_lie_apart(array: Path, whole: Path, tmp_path: Path) -> None:
    places = [tmp_path / f"machine {index}" for index in range(COUNT)]
    for index, place in enumerate(places):
        part_of(array, index).rename(place)
    merge(tmp_path / "new", parts=tuple(reversed(places)))
    assert contents(tmp_path / "new") == contents(whole)


def test_merge__goes_on_after_a_stop(
    array: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alphafix.features import merging

    taken: list[str] = []
    real = merging._take

    def counted(note: Any, *rest: Any) -> None:
        taken.append(note.name)
        real(note, *rest)

    def stops(note: Any, *rest: Any) -> None:
        if len(taken) == 5:
            raise KeyboardInterrupt
        counted(note, *rest)

    monkeypatch.setattr(merging, "_take", stops)
    with pytest.raises(KeyboardInterrupt):
        merge(array)
    assert not (array / "features/train/manifest.json").exists()
    taken.clear()
    monkeypatch.setattr(merging, "_take", counted)
    merge(array)
    assert len(taken) == 13 + 1 - 5
    assert merged(array) == contents(whole)


def remove(run: Path) -> None:
    shutil.rmtree(part_of(run, 1))


def unfinish(run: Path) -> None:
    (part_of(run, 2) / "features/train/part.json").unlink()


def double(run: Path) -> None:
    shutil.copytree(part_of(run, 0), run / "parts/copy-of-it")


def edit(run: Path, change: Callable[[dict[str, Any]], None], split: str = "train") -> None:
    path = part_of(run, 1) / "features" / split / "part.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a part is missing": (remove, "no part 1"),
    "a part is unfinished": (unfinish, "have no finished features of train"),
    "a part is there twice": (double, "part 0 twice"),
    "a shard is missing": (
        lambda run: (part_of(run, 0) / "features/train/000003.safetensors").unlink(),
        "is missing",
    ),
    "a shard is not listed": (lambda run: edit(run, lambda d: d["shards"].pop(0)), "other shards"),
    "the last shard is not listed": (
        lambda run: edit(run, lambda d: d["shards"].pop()),
        "no shard 10",
    ),
    "another model": (
        lambda run: edit(run, lambda d: d["provenance"]["options"].update(weights_sha256="0")),
        "weights_sha256",
    ),
    "another type": (lambda run: edit(run, lambda d: d.update(dtype="float16")), "shape"),
    "other classes": (
        lambda run: (part_of(run, 1) / "classes.json").write_text("{}"),
        "different classes.json",
    ),
    "another head": (
        lambda run: (part_of(run, 1) / "head.safetensors").write_bytes(b"x"),
        "different head.safetensors",
    ),
    "no part at all": (lambda run: shutil.rmtree(run / "parts"), "there are no parts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_merge__is_refused_with_one_error_before_anything_is_written(
    fault: str, array: Path
) -> None:
    harm, message = FAULTS[fault]
    harm(array)
    before = contents(array)
    with pytest.raises(InputError) as raised:
        merge(array)
    assert message in str(raised.value)
    left = contents(array)
    left.pop("head.safetensors", None)  # nothing that says that there are features
    assert {name: data for name, data in left.items() if name in before} == before
    assert not (array / "features/train/manifest.json").exists()


def run_printed(told: str, folder: Path) -> None:
    """Run the command of alphafix extract that an error names, as printed."""
    (line,) = re.findall("`(alphafix extract [^`]+)`", " ".join(told.split()))
    done = bash(["-c", f"{line} --workers 0"], folder, PYTHONPATH=str(Path.cwd()))
    assert done.returncode == 0, done.stderr


def test_merge__names_the_command_that_makes_what_is_missing(
    make: Make, whole: Path, tmp_path: Path
) -> None:
    """Of a part that is not there, and of one that is not finished, with all its options."""
    weights = make(tmp_path).weights
    assert weights is not None
    shutil.copy(weights, tmp_path)
    part_work(make(tmp_path / "run", shard_index=0, shard_count=COUNT), Watch())
    part_work(make(tmp_path / "run", shard_index=2, shard_count=COUNT), Watch())
    unfinish(tmp_path / "run")
    words = ["features", "merge", "--run", str(tmp_path / "run")]
    for index in (2, 1):
        told = CliRunner().invoke(app, words).stderr
        assert f"--run {tmp_path}/run" in " ".join(told.split())
        assert f"--shard-index {index} --shard-count {COUNT}" in " ".join(told.split())
        assert "SPEC" not in told
        run_printed(told, tmp_path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    # The head says where its file lies.
    assert merged(tmp_path / "run").keys() == contents(whole).keys()
    for name in ("features/train/manifest.json", "features/val/manifest.json", "classes.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_merge__of_several_missing_parts_names_the_first_command(make: Make, array: Path) -> None:
    for index in (0, 2):
        shutil.rmtree(part_of(array, index))
    with pytest.raises(InputError, match=r"and the same for part 2$"):
        merge(array)


@pytest.mark.parametrize("named", [True, False])
def test_merge__of_a_whole_extraction_says_that_there_is_nothing_to_merge(
    named: bool, whole: Path, tmp_path: Path
) -> None:
    before = contents(whole)
    run = tmp_path / "run" if named else whole
    words = ["features", "merge", "--run", str(run), *([str(whole)] if named else [])]
    done = CliRunner().invoke(app, words)
    told = " ".join(done.stderr.split())
    assert done.exit_code == 1
    assert f"{whole} holds whole features: there is nothing to merge" in told
    assert f"to do: use it as it stands: `alphafix neighbors --run {whole}`" in told
    assert contents(whole) == before
    assert not (tmp_path / "run").exists()


def test_merge__of_parts_and_a_whole_extraction_says_which_it_is(array: Path, whole: Path) -> None:
    with pytest.raises(InputError, match=f"{whole} holds whole features(.|\n)*leave it out here"):
        merge(array, parts=(part_of(array, 0), whole, part_of(array, 2)))


def test_merge__shard_that_has_changed_is_refused(array: Path) -> None:
    shard = part_of(array, 1) / "features/train/000004.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="has changed since it was extracted"):
        merge(array)
    assert not (array / "features/train/manifest.json").exists()


def test_merge__over_other_features_needs_overwrite(array: Path, whole: Path) -> None:
    shutil.copytree(whole / "features", array / "features")
    manifest = array / "features/train/manifest.json"
    data = json.loads(manifest.read_text())
    data["provenance"]["options"]["store_dtype"] = "float16"
    manifest.write_text(json.dumps(data))
    with pytest.raises(TargetExistsError, match="store_dtype"):
        merge(array)
    merge(array, overwrite=True)
    assert merged(array) == contents(whole)


def test_merge__over_the_head_of_another_model_needs_overwrite(array: Path, whole: Path) -> None:
    (array / "head.safetensors").write_bytes(b"another")
    with pytest.raises(TargetExistsError, match="another head"):
        merge(array)
    assert (array / "head.safetensors").read_bytes() == b"another"
    merge(array, overwrite=True)
    assert merged(array) == contents(whole)


def test_part__again_is_up_to_date_and_a_damaged_one_is_made_anew(
    array: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    options = make(array, shard_index=1, shard_count=COUNT)
    before = contents(array)
    assert part_state(options) is State.CURRENT
    with caplog.at_level("INFO", "alphafix"):
        part_work(options, Watch())
    assert "up to date" in caplog.text
    shard = part_of(array, 1) / "features/train/000004.safetensors"
    shard.write_bytes(b"half of it")
    part_work(options.model_copy(update={"overwrite": True}), Watch())
    assert contents(array) == before


def test_part__of_more_jobs_than_shards_is_empty(make: Make, whole: Path, tmp_path: Path) -> None:
    run, few = tmp_path / "run", {"shard_samples": 56, "split": "train", "shard_count": 3}
    found = [part_work(make(run, shard_index=index, **few), Watch()) for index in range(3)]
    assert [one.shards["train"] for one in found] == [1, 1, 0]
    merge(run)
    stores = [FeatureStore.open(place / "features/train") for place in (run, whole)]
    assert stores[0].ids == stores[1].ids
    assert (stores[0].array() == stores[1].array()).all()


def test_command__extracts_a_part_and_says_what_comes_next(
    make: Make, tmp_path: Path, array: Path
) -> None:
    options = make(tmp_path / "new")
    words = ["extract", "--run", str(options.run), "--data", options.data]
    words += ["--backbone", options.backbone, "--weights", str(options.weights), "--workers", "0"]
    done = CliRunner().invoke(app, [*words, "--shard-index", "0", "--shard-count", "2", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["shard_index"], found["shard_count"]) == (0, 2)
    done = CliRunner().invoke(app, [*words, "--shard-index", "1", "--shard-count", "2"])
    assert done.stdout == f"{options.run}/parts/00001-of-00002\n"
    assert "next: alphafix features merge --run" in done.stderr
    done = CliRunner().invoke(app, ["features", "merge", "--run", str(options.run), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["parts"]) == (0, 2)
    assert len(FeatureStore.open(options.run / "features/train")) == 102


# What the schedulers set in job 1 of an array of two, beside the number that the page names.
SCHEDULERS = {
    "SLURM_ARRAY_TASK_ID": {
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_JOB_ID": "79",
        "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_NNODES": "1",
    },
    "AWS_BATCH_JOB_ARRAY_INDEX": {
        "AWS_BATCH_JOB_ID": "77:1",
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_JQ_NAME": "q",
    },
    "JOB_COMPLETION_INDEX": {"HOSTNAME": "extract-1-abcde", "KUBERNETES_SERVICE_PORT": "443"},
}
PAGE = Path(__file__).parents[2] / "examples/docs/pages/many-machines.md"


def test_page__names_the_variable_of_each_scheduler() -> None:
    named = re.findall(r'--shard-index "\$(\w+)"', PAGE.read_text(encoding="utf-8"))
    assert set(named) == set(SCHEDULERS)


@pytest.mark.slow
@pytest.mark.parametrize("variable", SCHEDULERS)
def test_jobs__of_a_scheduler_take_their_number_from_its_variable(
    variable: str, make: Make, whole: Path, tmp_path: Path
) -> None:
    given = make(tmp_path / "run")
    words = ["alphafix", "extract", "--run", str(given.run), "--data", str(given.data)]
    words += ["--backbone", given.backbone, "--weights", str(given.weights), "--workers", "0"]
    words += ["--batch-size", "4", "--shard-samples", "8", "--few-below", "5"]
    line = f'{shlex.join(words)} --shard-index "${variable}" --shard-count 2'
    folder = Path(__file__).parents[2]
    for number in ("1", "0"):  # in any order
        done = bash(["-c", line], folder, **SCHEDULERS[variable], **{variable: number})
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{given.run}/parts/0000{number}-of-00002\n"
    # Outside of the array, and in one that counts from 1 to 2.
    for number in ("", "2"):
        done = bash(["-c", line], folder, **{variable: number})
        assert (done.returncode, done.stdout) == (2, "")
        assert "--shard-index" in done.stderr
    done = bash(
        ["-c", shlex.join(["alphafix", "features", "merge", "--run", str(given.run)])], folder
    )
    assert done.returncode == 0, done.stderr
    assert merged(given.run) == contents(whole)


@pytest.mark.parametrize(("index", "count"), [("2", "2"), ("0", None), (None, "2")])
def test_command__half_a_division_is_a_usage_error(index: str | None, count: str | None) -> None:
    words = ["extract", "--backbone", "timm:resnet18", "--data", "data"]
    words += [] if index is None else ["--shard-index", index]
    words += [] if count is None else ["--shard-count", count]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--shard-" in done.stderr


def test_extract_function__refuses_a_part(make: Make, tmp_path: Path) -> None:
    with pytest.raises(AlphafixError, match="command line"):
        extract(make(tmp_path / "run", shard_index=0, shard_count=2))
