"""Neighbours: a case by hand, scikit-learn, and the stage with its stale and bad inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from alphafix.alphanet import neighbors
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import (
    FileFormatError,
    InputError,
    MissingStageError,
    StaleInputError,
    TargetExistsError,
)
from alphafix.features.store import FeatureStore
from alphafix.features.writer import FeatureWriter
from alphafix.run.directory import CLASSES, FEATURES, HEAD, NEIGHBORS, Run
from alphafix.values.classes import ClassTable
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours
from tests.common import Problem, make_problem, write_run
from tests.stages import find_neighbors, train


def table(counts: list[int]) -> ClassTable:
    return ClassTable(tuple(f"c{i}" for i in range(len(counts))), np.array(counts))


def test_nearest_neighbours__by_hand() -> None:
    # Class 1 is few-split. Distances from (0, 0): c0 5 (3, 4), c2 1, c3 2, c4 13 (5, 12).
    means = np.array([[3.0, 4.0], [0, 0], [1, 0], [0, -2], [5, 12]])
    found = nearest_neighbours(means, table([50, 5, 60, 70, 80]), k=3)
    assert found.few.tolist() == [1]
    assert found.ids.tolist() == [[2, 3, 0]]
    np.testing.assert_allclose(found.distances, [[1, 2, 5]])


def test_nearest_neighbours__cosine_normalises_the_means() -> None:
    means = np.array([[10.0, 0], [1, 1], [0, 0.1], [3, 3.1]])
    found = nearest_neighbours(means, table([50, 5, 60, 70]), k=2, metric="cosine")
    assert found.ids[0, 0] == 3  # nearest in direction, not in place
    np.testing.assert_allclose(found.distances[0, 1], 1 - np.sqrt(0.5), rtol=1e-6)


def test_nearest_neighbours__ties_go_to_the_lower_class() -> None:
    means = np.array([[1.0, 0], [0, 0], [0, 1], [-1, 0], [0, -1]])
    found = nearest_neighbours(means, table([50, 5, 60, 70, 80]), k=3)
    assert found.ids.tolist() == [[0, 2, 3]]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_nearest_neighbours__agree_with_scikit_learn(metric: str) -> None:
    rng = np.random.default_rng(0)
    # Far from the origin, where float32 alone would confuse neighbours.
    means = rng.normal(size=(300, 24)) + (1000.0 if metric == "euclidean" else 0.0)
    counts = rng.integers(1, 200, 300)
    classes = table(counts.tolist())
    found = nearest_neighbours(means, classes, k=7, metric=metric)
    theirs = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
    distances, ids = theirs.fit(means[classes.base]).kneighbors(means[classes.few])
    np.testing.assert_array_equal(found.ids, classes.base[ids])
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4, atol=1e-7)


def test_nearest_neighbours__say_what_a_large_search_costs_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    means = np.random.default_rng(0).normal(size=(300, 4))
    classes = table([5] * 30 + [50] * 270)
    with caplog.at_level("INFO", "alphafix"):
        plain = nearest_neighbours(means, classes, k=3)
        assert "exact search" not in caplog.text
        monkeypatch.setattr(neighbors, "TOLD_FROM", 1)
        monkeypatch.setattr(neighbors, "ADDED_ROWS", 7)
        told = nearest_neighbours(means, classes, k=3)
    assert "exact search: 30 classes among 270 others, 3.2e+04" in caplog.text
    assert (told.ids == plain.ids).all()


def test_nearest_neighbours__random_ones_are_base_classes_and_seeded() -> None:
    problem = make_problem(num_classes=40)
    means = np.random.default_rng(0).normal(size=(40, 3))
    first, again, other = (
        nearest_neighbours(means, problem.classes, metric="random", seed=seed).ids
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.isin(first, problem.classes.base).all()
    assert all(len(set(row)) == 5 for row in first.tolist())


def test_nearest_neighbours__k_must_be_under_the_number_of_base_classes() -> None:
    means = np.eye(4)
    with pytest.raises(InputError, match=r"k = 3 of 3 other classes(.|\n)*k in 1\.\.2"):
        nearest_neighbours(means, table([50, 5, 60, 70]), k=3)


def options(run: Run, **more: object) -> NeighborsOptions:
    return NeighborsOptions.model_validate({"run": run.folder, **more})


@pytest.fixture
def problem() -> Problem:
    return make_problem(num_classes=20)


@pytest.fixture
def run(tmp_path: Path, problem: Problem) -> Run:
    return write_run(tmp_path / "run", problem)


def test_class_means__are_those_of_the_training_features(run: Run, problem: Problem) -> None:
    means = FeatureStore.open(run.features("train")).class_means()
    features, labels = problem.features["train"].astype(np.float64), problem.labels["train"]
    expected = np.stack([features[labels == c].mean(0) for c in range(20)])
    np.testing.assert_allclose(means, expected, rtol=1e-12)


def test_find_neighbors__saves_what_it_returns(run: Run) -> None:
    _, found = find_neighbors(options(run))
    loaded = Neighbours.load(run.path(NEIGHBORS))
    np.testing.assert_array_equal(loaded.ids, found.ids)
    assert loaded.provenance["options"] == {"k": 5, "metric": "euclidean", "seed": 0}
    assert set(loaded.provenance["inputs"]) == {CLASSES, HEAD, run.manifest("train")}


def test_find_neighbors__again_with_the_same_options_is_up_to_date(run: Run) -> None:
    find_neighbors(options(run))
    before = run.path(NEIGHBORS).stat().st_mtime_ns
    find_neighbors(options(run))
    assert run.path(NEIGHBORS).stat().st_mtime_ns == before


def test_find_neighbors__with_other_options_needs_overwrite(run: Run) -> None:
    find_neighbors(options(run))
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        find_neighbors(options(run, k=3))
    assert find_neighbors(options(run, k=3, overwrite=True))[1].k == 3


def test_find_neighbors__thresholds_are_kept_in_the_class_table(run: Run) -> None:
    find_neighbors(options(run, few_below=40))
    assert ClassTable.load(run.path(CLASSES)).thresholds.few == 40


def test_find_neighbors__writes_csv(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    classes, found = find_neighbors(options(run, csv=path))
    lines = path.read_text().splitlines()
    assert lines[0] == "class,name,train,rank,neighbor,neighbor_name,distance"
    assert len(lines) == 1 + len(classes.few) * 5
    first = lines[1].split(",")
    assert first[:5] == ["15", "class 15", "5", "1", str(found.ids[0, 0])]


def test_find_neighbors__without_features_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match=r"alphafix\.extract\(split='train'\)"):
        find_neighbors(NeighborsOptions(run=tmp_path / "none"))


def test_find_neighbors__a_head_of_other_width_names_both_shapes(run: Run) -> None:
    Head(np.ones((20, 9), np.float32)).save(run.path(HEAD), overwrite=True)
    with pytest.raises(InputError, match="head 20 x 9, features N x 8"):
        find_neighbors(options(run))


def test_find_neighbors__a_class_without_images_is_named(run: Run, problem: Problem) -> None:
    counts = problem.classes.counts.copy()
    counts[3] = 0
    replace(problem.classes, counts=counts).save(run.path(CLASSES), overwrite=True)
    with pytest.raises(InputError, match=r"1 of 20 classes have no training samples\n.*class 3"):
        find_neighbors(options(run))


def test_require_fresh__stale_neighbours_name_the_command(run: Run) -> None:
    find_neighbors(options(run))
    run.require_fresh(NEIGHBORS)
    head = Head.load(run.path(HEAD))
    Head(head.weight + 1, head.bias).save(run.path(HEAD), overwrite=True)
    with pytest.raises(
        StaleInputError, match=r"head\.safetensors has changed(.|\n)*find_neighbors"
    ):
        run.require_fresh(NEIGHBORS)


def save_arrays(folder: Path, problem: Problem) -> tuple[Path, Path]:
    features, head = folder / "features.npz", folder / "head.npz"
    arrays = {f"{s}_features": x for s, x in problem.features.items()}
    np.savez(features, **arrays, **{f"{s}_labels": y for s, y in problem.labels.items()})  # type: ignore[arg-type]
    np.savez(head, weight=problem.head.weight, bias=problem.head.bias_or_zeros)
    return features, head


def test_start__from_arrays_gives_the_same_neighbours(
    run: Run, problem: Problem, tmp_path: Path
) -> None:
    features, head = save_arrays(tmp_path, problem)
    other = Run(tmp_path / "other")
    given = {"features": (str(features),), "head": head}
    _, found = find_neighbors(options(other, **given))
    _, expected = find_neighbors(options(run))
    np.testing.assert_array_equal(found.ids, expected.ids)
    for split in ("train", "val", "test"):
        store = FeatureStore.open(other.features(split))
        np.testing.assert_array_equal(store.array(), problem.features[split])
        np.testing.assert_array_equal(store.labels, problem.labels[split])
    find_neighbors(options(other, **given))  # again: up to date


def test_start__a_head_near_chance_is_told(
    problem: Problem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turned = Head(np.roll(problem.head.weight, 1, axis=0), np.roll(problem.head.bias_or_zeros, 1))
    features, head = save_arrays(tmp_path, replace(problem, head=turned))
    right = (turned.predict(problem.features["train"]) == problem.labels["train"]).mean()
    for _ in range(2):  # the second time it is up to date
        caplog.clear()
        find_neighbors(options(Run(tmp_path / "other"), features=(str(features),), head=head))
        assert f"the base head is right on {100 * right:.1f}% of train" in caplog.text
    for _ in range(2):
        caplog.clear()
        train(TrainOptions(run=tmp_path / "other", method="few-bias", allow_worse=True))
        assert f"the base head is right on {100 * right:.1f}% of train" in caplog.text


def test_start__other_splits_that_do_not_fit_are_told(
    problem: Problem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_features"] = problem.features[split]
        arrays[f"{split}_labels"] = problem.labels[split]
    arrays["test_labels"] = (arrays["test_labels"] + 1) % problem.head.num_classes
    arrays["valid_features"] = arrays.pop("val_features")
    arrays["val_features"], arrays["val_labels"] = (
        arrays["train_features"],
        arrays["train_labels"],
    )
    np.savez(tmp_path / "f.npz", **arrays)
    np.savez(tmp_path / "h.npz", weight=problem.head.weight, bias=problem.head.bias_or_zeros)
    given, head = (str(tmp_path / "f.npz"),), tmp_path / "h.npz"
    find_neighbors(NeighborsOptions(run=tmp_path / "run", k=3, features=given, head=head))
    assert "% of test, which is about chance" in caplog.text
    assert "% of val, which" not in caplog.text
    assert "train and val hold the same samples" in caplog.text
    assert "f.npz: valid_features not read; the splits are train, val, test" in caplog.text


def test_start__one_file_a_split(problem: Problem, tmp_path: Path) -> None:
    _, head = save_arrays(tmp_path, problem)
    files = []
    for split in ("train", "val"):
        np.savez(
            tmp_path / f"{split}.npz",
            features=problem.features[split],
            labels=problem.labels[split],
        )
        files.append(f"{split}={tmp_path / split}.npz")
    other = Run(tmp_path / "other")
    find_neighbors(options(other, features=tuple(files), head=head))
    assert len(FeatureStore.open(other.features("val"))) == len(problem.labels["val"])


def test_start__other_files_into_the_same_run_need_overwrite(
    run: Run, problem: Problem, tmp_path: Path
) -> None:
    features, head = save_arrays(tmp_path, problem)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        find_neighbors(options(run, features=(str(features),), head=head))


def test_start__features_with_nan_are_counted_and_named(problem: Problem, tmp_path: Path) -> None:
    bad = problem.features["train"].copy()
    bad[[3, 8], 0] = np.nan
    broken = replace(problem, features={**problem.features, "train": bad})
    features, head = save_arrays(tmp_path, broken)
    with pytest.raises(InputError, match=r"2 samples of the split train with(.|\n)*3, 8"):
        find_neighbors(options(Run(tmp_path / "other"), features=(str(features),), head=head))
    assert not (tmp_path / "other").exists()


def test_start__bad_features_with_overwrite_leave_the_run_as_it_was(
    run: Run, problem: Problem, tmp_path: Path
) -> None:
    bad = problem.features["val"].copy()
    bad[0, 0] = np.inf
    broken = replace(problem, features={**problem.features, "val": bad})
    features, head = save_arrays(tmp_path, broken)
    with pytest.raises(InputError, match="1 sample of the split val"):
        find_neighbors(options(run, features=(str(features),), head=head, overwrite=True))
    store = FeatureStore.open(run.features("train"))
    store.verify()
    np.testing.assert_array_equal(store.array(), problem.features["train"])


def test_start__what_an_interrupted_start_left_is_no_obstacle(
    problem: Problem, tmp_path: Path
) -> None:
    features, head = save_arrays(tmp_path, problem)
    other = Run(tmp_path / "other")
    given = {"features": (str(features),), "head": head}
    find_neighbors(options(other, **given))
    # As a kill before the head was written leaves it.
    for name in (HEAD, CLASSES, NEIGHBORS, other.manifest("val")):
        other.path(name).unlink()
    find_neighbors(options(other, **given))
    FeatureStore.open(other.features("val")).verify()


@pytest.mark.parametrize("moment", ["a shard", "the second split", "the classes", "the head"])
def test_start__that_is_stopped_leaves_nothing(
    moment: str, problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that other files, or another command, find nothing that is in their way."""
    features, head = save_arrays(tmp_path, problem)
    place, name = {
        "a shard": (FeatureWriter, "finish"),
        "the second split": (FeatureWriter, "finish"),
        "the classes": (ClassTable, "save"),
        "the head": (Head, "save"),
    }[moment]
    whole, calls = getattr(place, name), iter([moment != "the second split", True])

    def stops(*arguments: Any, **more: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return whole(*arguments, **more)

    monkeypatch.setattr(place, name, stops)
    given = {"features": (str(features),), "head": head}
    with pytest.raises(KeyboardInterrupt):
        find_neighbors(options(Run(tmp_path / "other"), **given))
    assert list((tmp_path / "other").rglob("*")) == []


def test_start__after_a_kill_takes_other_files_without_a_word(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill cleans nothing up; what it leaves of a store is nobody's."""
    features, head = save_arrays(tmp_path, problem)
    other = Run(tmp_path / "other")
    find_neighbors(options(other, features=(str(features),), head=head))
    for path in (HEAD, CLASSES, NEIGHBORS, *map(other.manifest, ("train", "val", "test"))):
        other.path(path).unlink()
    assert not list(other.path(FEATURES).rglob("plan.json"))
    changed = replace(problem, features={s: 2 * f for s, f in problem.features.items()})
    (tmp_path / "changed").mkdir()
    features, head = save_arrays(tmp_path / "changed", changed)
    find_neighbors(options(other, features=(str(features),), head=head))
    store = FeatureStore.open(other.features("train"))
    np.testing.assert_array_equal(store.array(), changed.features["train"])


def test_find_neighbors__a_damaged_result_names_the_command_and_can_be_replaced(run: Run) -> None:
    find_neighbors(options(run))
    whole = run.path(NEIGHBORS).read_bytes()
    run.path(NEIGHBORS).write_bytes(whole[:100])
    with pytest.raises(FileFormatError, match="overwrite=True"):
        find_neighbors(options(run))
    find_neighbors(options(run, overwrite=True))
    assert run.path(NEIGHBORS).read_bytes() == whole


def test_find_neighbors__the_same_csv_again_is_up_to_date(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    find_neighbors(options(run, csv=path))
    find_neighbors(options(run, csv=path))
    path.write_text("something else")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        find_neighbors(options(run, csv=path))


def test_start__features_without_head_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="features= and head= go together"):
        find_neighbors(options(Run(tmp_path / "r"), features=("a.npz",)))


def test_start__a_torch_file_as_head_says_how_to_convert(problem: Problem, tmp_path: Path) -> None:
    features, _ = save_arrays(tmp_path, problem)
    (tmp_path / "head.pth").write_bytes(b"anything")
    given = {"features": (str(features),), "head": tmp_path / "head.pth"}
    with pytest.raises(InputError, match=r"got: +\.pth(.|\n)*save_file"):
        find_neighbors(options(Run(tmp_path / "r"), **given))
    assert not (tmp_path / "r").exists()


def test_start__labels_beyond_the_head_are_refused(problem: Problem, tmp_path: Path) -> None:
    features, _ = save_arrays(tmp_path, problem)
    small = tmp_path / "small.npz"
    np.savez(small, weight=problem.head.weight[:18])
    with pytest.raises(InputError, match="head 18 x 8, data with 20 classes"):
        find_neighbors(options(Run(tmp_path / "r"), features=(str(features),), head=small))
