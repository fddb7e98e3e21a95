"""Interrupted, repeated and changed extractions."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alphafix.commands.extract.options import ExtractOptions
from alphafix.errors import InputError, TargetExistsError
from alphafix.features.store import SCATTER, FeatureStore, store_artifact
from alphafix.images.spec import open_data
from alphafix.images.splits import open_splits
from alphafix.run.directory import Run
from alphafix.values.classes import ClassTable
from tests.extract.photos import WRITERS, Photos, write_folders
from tests.extract.zoo import Animal
from tests.processes import contents, run_ranks, start
from tests.stages import extract

Make = Callable[..., ExtractOptions]


def many_photos(seed: int = 1) -> Photos:
    rng = np.random.default_rng(seed)

    def image() -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))

    return {"train": [(image(), n // 34) for n in range(102)], "val": [(image(), 2)]}


@pytest.fixture
def make(tmp_path: Path, animal: Callable[[str], Animal]) -> Make:
    """Options of an extraction of 103 images in shards of four."""
    data = write_folders(tmp_path / "data", many_photos())
    weights = animal("python").options["weights"]

    def options(run: str, **changes: Any) -> ExtractOptions:
        given: dict[str, Any] = {
            "run": tmp_path / run,
            "backbone": "python:tests.extract.models:slow_net",
            "weights": weights,
            "data": data,
            "workers": 0,
            "batch_size": 2,
            "shard_samples": 4,
        }
        return ExtractOptions(**{**given, **changes})

    return options


@pytest.mark.slow
def test_extract__killed_at_any_moment_continues_to_the_same_bytes(make: Make) -> None:
    whole = make("whole")
    extract(whole)
    broken = make("broken")
    draw = random.Random(0)
    notes = Run(broken.run).features("train") / "partial"
    for seen in (0, 1, 2, 5, 9, 14, 20, 25):
        process = start(broken)
        # Killed at some moment after so many of the 26 shards are noted, however long that takes.
        while len(list(notes.glob("0*.json"))) < seen:
            assert process.exitcode is None
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for split in ("train", "val"):  # what is there is never taken for finished too early
            manifest = Run(broken.run).path(f"features/{split}/manifest.json")
            if manifest.is_file():
                assert len(FeatureStore.open(manifest.parent)) == {"train": 102, "val": 1}[split]
    extract(broken)
    assert contents(broken.run) == contents(whole.run)
    store = FeatureStore.open(Run(broken.run).features("train"))
    assert len(set(store.ids)) == len(store) == 102


@pytest.mark.slow
def test_extract__damaged_shard_of_an_interrupted_run_is_made_again(make: Make) -> None:
    whole = make("whole")
    extract(whole)
    broken = make("broken")
    process = start(broken)
    partial = Run(broken.run).features("train")
    while len(list((partial / "partial").glob("0*.json"))) < 3:
        time.sleep(0.005)
    process.kill()
    process.join()
    shard = partial / "000001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-7])
    extract(broken)
    assert contents(broken.run) == contents(whole.run)


def test_extract__again_is_up_to_date_and_changes_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    options = make("run")
    first = extract(options)
    before = {p: p.stat().st_mtime_ns for p in options.run.rglob("*")}
    with caplog.at_level("INFO", "alphafix"):
        second = extract(options)
    assert "up to date" in caplog.text
    assert {p: p.stat().st_mtime_ns for p in options.run.rglob("*")} == before
    assert second.to_dict() == first.to_dict()


def test_extract__of_the_same_folder_named_otherwise_is_up_to_date(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make("run")
    extract(options)
    before = contents(options.run)
    data = Path(options.data)
    monkeypatch.chdir(data.parent)
    (options.run.parent / "alias").symlink_to(data)
    for other in (data.name, f"./{data.name}/", str(options.run.parent / "alias")):
        caplog.clear()
        with caplog.at_level("INFO", "alphafix"):
            extract(make("run", data=other))
        assert "up to date" in caplog.text
    assert contents(options.run) == before


@pytest.mark.parametrize("finished", [True, False])
def test_extract__changed_options_name_overwrite(make: Make, finished: bool) -> None:
    options = make("run")
    extract(options)
    if not finished:
        manifest = options.run / "features/train/manifest.json"
        plan = FeatureStore.open(manifest.parent).info["provenance"]
        manifest.unlink()
        store_artifact(manifest.parent, plan).begin()
    changed = make("run", store_dtype="float16")
    before = contents(options.run)
    with pytest.raises(TargetExistsError) as raised:
        extract(changed)
    assert "store_dtype 'float32', now 'float16'" in str(raised.value)
    assert "overwrite=True" in str(raised.value)
    assert contents(options.run) == before
    extract(make("run", store_dtype="float16", overwrite=True))
    assert FeatureStore.open(options.run / "features/train").dtype == "float16"
    assert not list(options.run.rglob("partial"))


def test_extract__changed_images_are_noticed(make: Make) -> None:
    options = make("run")
    extract(options)
    first = next((Path(options.data) / "train").glob("*/*.png"))
    first.rename(first.with_name("renamed.png"))
    with pytest.raises(TargetExistsError, match="data_sha256"):
        extract(options)


def test_extract__another_model_for_another_split_is_refused(make: Make) -> None:
    extract(make("run", split="train"))
    other = make("run", split="val", backbone="python:tests.extract.models:small_net")
    with pytest.raises(TargetExistsError, match="another model"):
        extract(other)
    extract(make("run", split="val"))


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("form", ["folders", "archives"])
def test_extract__several_processes_give_the_same_samples_and_features(
    world: int, form: str, make: Make, tmp_path: Path
) -> None:
    data = WRITERS[form](tmp_path / form, many_photos())
    single, several = make("single", data=data), make("several", data=data)
    extract(single)
    assert run_ranks(several, world) == [0] * world
    for split in ("train", "val"):
        a, b = (FeatureStore.open(o.run / "features" / split) for o in (single, several))
        b.verify()
        assert a.ids == b.ids
        assert a.labels.tolist() == b.labels.tolist()
        assert (a.array() == b.array()).all()
        assert a.info["provenance"] == b.info["provenance"]
    base = ClassTable.load(single.run / "classes.json").base
    scatter = several.run / "features/train" / SCATTER
    measured_by_all = scatter.read_bytes()
    alone, together = (
        FeatureStore.open(o.run / "features/train").within_class(base) for o in (single, several)
    )
    assert together.covariance == pytest.approx(alone.covariance, rel=1e-5, abs=1e-9)
    assert together.shrinkage == pytest.approx(alone.shrinkage, rel=1e-5)
    assert scatter.read_bytes() == measured_by_all  # it was read, not measured again
    rows = several.run / "features/train"
    shards = len(FeatureStore.open(rows).shards)
    assert shards >= world  # so that each process had a part
    one, other = contents(single.run), contents(several.run)
    assert one.keys() == other.keys()
    # Sums that are added up in another order differ in the last bit, and nothing else does.
    sums = ("statistics", "manifest", SCATTER)
    same = [name for name in one if not any(part in name for part in sums)]
    assert all(one[name] == other[name] for name in same)


@pytest.mark.parametrize("changes", [{}, {"limit": 60}, {"val_fraction": 0.2, "split": "train"}])
def test_extract__stopped_at_a_bad_image_goes_on_when_it_is_mended(
    make: Make, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Shards whose images are as they were stay; one with another image is made anew."""
    options = make("broken", **changes)
    if "val_fraction" in changes:
        shutil.rmtree(Path(options.data) / "val")
    images = sorted((Path(options.data) / "train").glob("*/*.png"))
    if "limit" in changes:
        images = [images[i * len(images) // 60] for i in range(60)]
    bad, whole = images[-1], images[-1].read_bytes()
    bad.write_bytes(whole[:40])
    with pytest.raises(InputError, match="cannot be used"):
        extract(options)
    folder = Run(options.run).features("train")
    before = {path: path.stat().st_ino for path in sorted(folder.glob("0*.safetensors"))}
    assert len(before) > 8
    bad.write_bytes(whole)
    images[0].write_bytes(images[1].read_bytes())  # in the first shard
    extract(options)
    kept = [path.stat().st_ino == inode for path, inode in before.items()]
    assert kept == [False, *[True] * (len(kept) - 1)]
    extract(make("whole", **changes))
    assert contents(options.run) == contents(options.run.with_name("whole"))
    caplog.clear()
    with caplog.at_level("INFO", "alphafix"):
        extract(options)
    assert "up to date" in caplog.text


def test_extract__stopped_goes_on_where_images_are_fewer(make: Make) -> None:
    options = make("broken")
    images = sorted((Path(options.data) / "train").glob("*/*.png"))
    images[70].write_bytes(b"")
    with pytest.raises(InputError, match="cannot be used"):
        extract(options)
    for image in images[30:]:
        if image.parent.name != "cow" or image == images[70]:
            image.unlink()
    (images[30].parent / "other.png").write_bytes(images[0].read_bytes())
    images[40].parent.mkdir(exist_ok=True)
    (images[40].parent / "one.png").write_bytes(images[0].read_bytes())
    extract(options)
    extract(make("whole"))
    assert contents(options.run) == contents(options.run.with_name("whole"))


@pytest.mark.parametrize("form", ["archives", "hub", "arrays"])
def test_source__part_fingerprint_follows_its_samples(form: str, tmp_path: Path) -> None:
    def parts(folder: str, seed: int) -> list[str]:
        photos = many_photos()
        photos["train"][50] = many_photos(seed)["train"][50]
        data = open_data(WRITERS[form](tmp_path / folder, photos))
        source = open_splits(data, ["train"]).sources["train"]
        starts = [(g, i) for g in range(source.groups) for i in range(0, source.size(g), 6)]
        return [source.part_fingerprint(g, range(i, i + 3)).sha256 for g, i in starts]

    first = parts("a", 1)
    other = parts("b" if form != "archives" else "a", 2)
    assert len(set(first)) == len(first)
    if form == "archives":  # as far as they are written anew
        assert not set(first) & set(other)
    else:
        assert [a == b for a, b in zip(first, other, strict=True)].count(False) == 1


@pytest.mark.slow
def test_extract__failing_process_leaves_no_manifest_and_a_repeat_finishes(
    make: Make, tmp_path: Path
) -> None:
    options = make("run")
    bad = sorted((Path(options.data) / "train" / "cow").iterdir())[-1]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40])
    process = start(options)
    process.join(60)
    assert process.exitcode == 1
    assert not (options.run / "features/train/manifest.json").exists()
    bad.write_bytes(whole)
    assert run_ranks(options, 2) == [0, 0]
    assert len(FeatureStore.open(options.run / "features/train")) == 102


@pytest.mark.parametrize(
    "name",
    [
        "classes.json",
        "head.safetensors",
        "features/train/manifest.json",
        "features/train/statistics.safetensors",
        "features/train/000001.safetensors",
    ],
)
@pytest.mark.parametrize("harm", ["a bit", "half of it"])
def test_overwrite__makes_anew_what_is_damaged(
    name: str, harm: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Refusals of damaged results say `--overwrite`, which must do it though options are equal."""
    options = make("run")
    extract(options)
    whole = contents(options.run)
    path = options.run / name
    data = bytearray(path.read_bytes())
    if harm == "a bit":
        data[-3 if name.endswith("safetensors") else 0] ^= 4
    path.write_bytes(bytes(data if harm == "a bit" else data[: len(data) // 2]))
    extract(options.model_copy(update={"overwrite": True}))
    if (name, harm) != ("head.safetensors", "a bit"):  # whose own numbers nothing tells
        assert "is damaged, and made anew" in caplog.text
        assert contents(options.run) == whole
