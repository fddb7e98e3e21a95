"""The store: round trips, statistics, and what it refuses."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from alphafix.errors import FileFormatError, InputError, MissingStageError
from alphafix.features.plan import plan_shards, shard_rows
from alphafix.features.store import FeatureStore
from alphafix.features.sums import ClassSums
from alphafix.features.writer import FeatureWriter
from alphafix.images.fingerprints import Fingerprint
from alphafix.images.source import ImageSource, Sample


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    shard=st.integers(8, 300),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_store__gives_back_what_was_written(
    sizes: list[int], dtype: str, shard: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("store")
    writer = FeatureWriter(folder, num_classes=3, dtype=dtype, shard_bytes=shard)
    features = [rng.normal(size=(n, 4)).astype(np.float32) for n in sizes]
    labels = [rng.integers(-1, 3, n) for n in sizes]
    ids = [[f"é {i}/{k}" for k in range(n)] for i, n in enumerate(sizes)]
    for part in zip(features, labels, ids, strict=True):
        writer.add(*part)
    store = writer.finish({"split": "train"})
    store.verify()
    exact, where = np.concatenate(features), np.concatenate(labels)
    assert np.abs(store.array() - exact).max() <= np.abs(exact).max() * 2.0**-8
    assert store.labels.tolist() == where.tolist()
    assert list(store.ids) == [name for part in ids for name in part]
    for share in (0.0, 0.2, 0.7, 1.0):
        wanted = np.flatnonzero(rng.random(len(exact)) < share)
        found = np.full((len(wanted), 4), np.nan, dtype=np.float32)
        for place, rows in store.selected(wanted):
            assert np.isnan(found[place]).all()
            found[place] = rows
        assert np.array_equal(found, store.array()[wanted])
    stored = store.array().astype(np.float64)
    for label in range(3):
        if (where == label).any():
            expected = stored[where == label].mean(axis=0)
            np.testing.assert_allclose(store.class_means()[label], expected, rtol=1e-12)
        else:
            assert np.isnan(store.class_means()[label]).all()


def test_store__of_rows_that_are_selected_the_others_are_not_read(tmp_path: Path) -> None:
    rows = np.arange(3000, dtype=np.float32).repeat(512).reshape(3000, 512)
    writer = FeatureWriter(tmp_path, num_classes=1, dtype="float32")
    writer.add(rows, np.zeros(3000, dtype=np.int64), [str(i) for i in range(3000)])
    store = writer.finish({"split": "train"})
    wanted = np.array([0, 7, 8, 9, 2999])
    list(store.selected(wanted[:1]))  # what reading itself loads
    tracemalloc.start()
    ((place, found),) = store.selected(wanted)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (place.start, place.stop) == (0, 5)
    assert np.array_equal(found, rows[wanted])
    assert peak < rows.nbytes // 10


WITHOUT_TORCH = """
import sys
import numpy as np
from pathlib import Path
from alphafix.features.store import FeatureStore

store = FeatureStore.open(Path(sys.argv[1]))
for share in (0.002, 0.2, 0.7):
    wanted = np.flatnonzero(np.random.default_rng(1).random(len(store)) < share)
    rows = np.concatenate([found for _, found in store.selected(wanted)])
    np.save(Path(sys.argv[1]) / f"{share}.npy", rows)
np.save(Path(sys.argv[1]) / "1.npy", store.array())
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_store__without_torch_it_reads_the_same(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = FeatureWriter(tmp_path, num_classes=1, dtype=dtype, shard_bytes=1 << 12)
    for start in range(0, 2000, 500):
        ids = [str(start + i) for i in range(500)]
        rows = rng.normal(size=(500, 8)).astype(np.float32)
        writer.add(rows, np.zeros(500, dtype=np.int64), ids)
    store = writer.finish({"split": "train"})
    assert len(store.shards) > 2
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], check=True)
    stored = np.concatenate(
        [load_file(tmp_path / shard.file)["features"] for shard in store.shards]
    ).astype(np.float32)
    for share in (0.002, 0.2, 0.7, 1):
        wanted = np.flatnonzero(np.random.default_rng(1).random(2000) < share)
        here = np.concatenate([found for _, found in store.selected(wanted)])
        assert np.array_equal(here, stored[wanted])
        assert np.array_equal(np.load(tmp_path / f"{share}.npy"), stored[wanted])


def test_store__what_is_done_to_rows_does_not_reach_the_file(tmp_path: Path) -> None:
    writer = FeatureWriter(tmp_path, num_classes=1, dtype="float32")
    writer.add(np.ones((5, 4), dtype=np.float32), np.zeros(5, dtype=np.int64), list("abcde"))
    store = writer.finish({"split": "train"})
    for _, rows in store.chunks():
        rows *= 2
    assert (store.array() == 1).all()
    store.verify()


@given(seed=st.integers(0, 99), rows=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_sums__are_those_of_a_plain_loop(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 3)).astype(np.float32)
    labels = rng.integers(-1, 5, rows)
    sums = ClassSums(5, 3)
    sums.add(features, labels)
    for label in range(5):
        expected = features[labels == label].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(sums.sums[label], expected, rtol=1e-12, atol=1e-12)
        assert sums.counts[label] == (labels == label).sum()


def test_sums__take_memory_for_the_classes_of_the_samples_alone() -> None:
    sums = ClassSums(200_000, 16)
    features = np.ones((10, 16), dtype=np.float32)
    labels = np.array([7, 7, 3, 199_999, 0, 7, 50_000, 50_001, 9, 3])
    sums.add(features, labels)  # what is loaded once
    tracemalloc.start()
    sums.add(features, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5e6  # counts of all classes are 1.6 MB, sums 25.6 MB
    assert sums.sums[[7, 3, 0, 1]].sum(axis=1).tolist() == [96, 64, 32, 0]


class Numbers(ImageSource):
    """A source of which only the sizes matter."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    @property
    def groups(self) -> int:
        return len(self.sizes)

    def size(self, group: int) -> int:
        return self.sizes[group]

    def sample(self, group: int, index: int) -> Sample:
        return Sample(f"{group}/{index}", 0, b"")

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(str(self.sizes))


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    wanted=st.integers(1, 12),
    batch=st.integers(1, 5),
    world=st.integers(1, 4),
)
@settings(max_examples=50, deadline=None)
def test_plan__covers_each_sample_once_whatever_the_processes(
    sizes: list[int], wanted: int, batch: int, world: int
) -> None:
    source = Numbers(sizes)
    rows = shard_rows(7, "float16", batch, wanted)
    alone = list(plan_shards(source, rows))
    shared = [p for r in range(world) for p in plan_shards(source, rows, rank=r, world=world)]
    assert sorted(shared, key=lambda plan: plan.name) == alone
    seen = [
        (key.group, i)
        for plan in alone
        for key in plan.batches(batch)
        for i in range(key.start, key.stop)
    ]
    assert seen == [(group, i) for group, size in enumerate(sizes) for i in range(size)]


def _writer(folder: Path, dtype: str = "float32") -> FeatureWriter:
    return FeatureWriter(folder, num_classes=2, dtype=dtype)


def test_writer__refuses_what_is_not_finite_out_of_range_or_too_large(tmp_path: Path) -> None:
    one, zero = np.ones((2, 3), np.float32), np.zeros(2, np.int64)
    with pytest.raises(InputError, match=r"1 sample with .* not finite[\s\S]*got: +id b\n"):
        _writer(tmp_path).add(np.array([[1.0], [np.nan]], np.float32), zero, ["a", "b"])
    with pytest.raises(InputError, match="label 2 of sample b"):
        _writer(tmp_path).add(one, np.array([0, 2]), ["a", "b"])
    with pytest.raises(InputError, match="differ in number"):
        _writer(tmp_path).add(one, zero, ["a"])
    with pytest.raises(InputError, match="too large for float16"):
        _writer(tmp_path, "float16").add(one * 70000, zero, ["a", "b"])
    writer = _writer(tmp_path)
    writer.add(one, zero, ["a", "b"])
    with pytest.raises(InputError, match="differ in width"):
        writer.add(np.ones((1, 4), np.float32), zero[:1], ["c"])
    with pytest.raises(InputError, match="nothing to store"):
        _writer(tmp_path).finish()
    assert list(tmp_path.iterdir()) == []


def test_store__without_manifest_damaged_or_with_a_missing_shard(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match=r"alphafix\.extract\(split='train'\)"):
        FeatureStore.open(tmp_path / "train")
    writer = _writer(tmp_path / "train")
    writer.add(np.ones((2, 3), np.float32), np.zeros(2, np.int64), ["a", "b"])
    store = writer.finish()
    shard = store.folder / store.shards[0].file
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(FileFormatError, match="has changed"):
        store.verify()
    shard.write_bytes(whole[:-4])
    with pytest.raises(FileFormatError, match="has changed"):
        store.array()
    with pytest.raises(FileFormatError, match="not a whole safetensors file"):
        FeatureStore.open(store.folder, verify=False).array()
    shard.unlink()
    with pytest.raises(FileFormatError, match="missing"):
        FeatureStore.open(store.folder)


def test_writer__full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on file sizes fails a write in the middle, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        writer = _writer(tmp_path)
        writer.add(np.ones((500, 3), np.float32), np.zeros(500, np.int64), ["a"] * 500)
        with pytest.raises(InputError, match="disk with room"):
            writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
