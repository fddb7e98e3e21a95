"""The stages as functions: on values, on a run directory, and without a word printed."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import alphafix
from alphafix.errors import InputError, MissingStageError, TargetExistsError
from alphafix.run.directory import CLASSES, COMPARISON, CORRECTION, HEAD, NEIGHBORS, REPORT
from tests.common import make_problem, write_run

PROBLEM = make_problem()
HEAD_VALUE, TABLE = PROBLEM.head, PROBLEM.classes
DATA: dict[str, Any] = {
    split: (PROBLEM.features[split], PROBLEM.labels[split]) for split in PROBLEM.features
}
QUICK: dict[str, Any] = {"seeds": 2, "epochs": 6}

# For calls that a type checker would refuse.
UNTYPED: Any = alphafix


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """No function of the API prints, whatever happens in a test here."""
    # A command that ran in this process before shows the log.
    monkeypatch.setattr(logging.getLogger("alphafix"), "handlers", [logging.NullHandler()])
    yield
    assert capfd.readouterr() == ("", "")


def chain() -> tuple[alphafix.Neighbours, alphafix.Correction, alphafix.Evaluation]:
    near = alphafix.find_neighbors(DATA["train"], HEAD_VALUE, TABLE, k=4)
    found = alphafix.train(DATA["train"], HEAD_VALUE, TABLE, near, val=DATA["val"], **QUICK)
    result = alphafix.evaluate(DATA["test"], HEAD_VALUE, TABLE, found, bootstraps=100)
    return near, found, result


def test_chain__on_values_is_the_chain_on_a_run_directory(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PROBLEM)
    near = alphafix.find_neighbors(k=4, run=run.folder)
    found = alphafix.train(run=run.folder, **QUICK)
    result = alphafix.evaluate(run=run.folder, bootstraps=100)
    assert {NEIGHBORS, CORRECTION, REPORT} <= {path.name for path in run.folder.iterdir()}
    near_values, found_values, result_values = chain()
    np.testing.assert_array_equal(near_values.ids, near.ids)
    np.testing.assert_allclose(near_values.means, near.means, rtol=1e-6)
    np.testing.assert_array_equal(found_values.rows, found.rows)
    assert found_values.chosen == found.chosen
    parts = ("splits", "summaries", "classes", "on", "method")
    assert [result_values.to_dict()[name] for name in parts] == [
        result.to_dict()[name] for name in parts
    ]


def test_values__nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    chain()
    assert list(tmp_path.iterdir()) == []


def test_values__stores_on_disk_and_arrays_give_the_same(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", PROBLEM)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    stores = {split: alphafix.FeatureStore.open(run.features(split)) for split in DATA}
    on_disk = alphafix.train(stores["train"], HEAD_VALUE, val=stores["val"], **QUICK)
    in_memory = alphafix.train(DATA["train"], HEAD_VALUE, val=DATA["val"], **QUICK)
    np.testing.assert_array_equal(on_disk.rows, in_memory.rows)
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before


def test_values__torch_tensors_are_arrays_too() -> None:
    features = torch.from_numpy(PROBLEM.features["train"]).requires_grad_()
    labels = torch.from_numpy(PROBLEM.labels["train"])
    bias = None if HEAD_VALUE.bias is None else torch.from_numpy(HEAD_VALUE.bias)
    head = alphafix.Head.of(torch.from_numpy(HEAD_VALUE.weight).bfloat16(), bias)
    near = alphafix.find_neighbors((features, labels), head)
    np.testing.assert_array_equal(near.ids, alphafix.find_neighbors(DATA["train"]).ids)
    assert head.weight.dtype == np.float32


def test_find_neighbors__thresholds_make_the_table() -> None:
    near = alphafix.find_neighbors(DATA["train"], few_below=60, k=3)
    counts = np.bincount(PROBLEM.labels["train"])
    np.testing.assert_array_equal(near.few, np.flatnonzero(counts < 60))


def test_train__another_method_and_several_settings() -> None:
    bias = alphafix.train(DATA["train"], HEAD_VALUE, val=DATA["val"], method="few-bias")
    assert bias.method == "few-bias"
    sweep = alphafix.train(
        DATA["train"], HEAD_VALUE, val=DATA["val"], rho=[0.1, 1], k=[2, 3], **QUICK
    )
    assert sweep.trials is not None
    assert {(r.rho, r.k) for r in sweep.trials.records} == {
        (rho, k) for rho in (0.1, 1.0) for k in (2, 3)
    }


@pytest.mark.slow
def test_compare__on_values_and_on_a_run_directory(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "methods": ["few-bias", "tau-norm"],
        "rho": 0.5,
        "seeds": 1,
        "k": 3,
        "on_top": False,
        "bootstraps": 100,
    }
    found = alphafix.compare(
        DATA["train"], HEAD_VALUE, val=DATA["val"], test=DATA["test"], **options
    )
    run = write_run(tmp_path / "run", PROBLEM)
    alphafix.find_neighbors(run=run.folder)
    same = alphafix.compare(run=run.folder, **options)
    assert run.has(COMPARISON)
    names = [row.method.name for row in found.rows]
    assert {"base head", "few-bias", "tau-norm", "alphanet rho 0.5"} <= set(names)
    assert [row.figures for row in found.rows] == [row.figures for row in same.rows]


def test_patch__a_correction_in_memory_into_a_model_file(tmp_path: Path) -> None:
    _, found, _ = chain()
    path = tmp_path / "model.safetensors"
    bias = torch.from_numpy(HEAD_VALUE.bias_or_zeros.copy())
    save_file({"fc.weight": torch.from_numpy(HEAD_VALUE.weight.copy()), "fc.bias": bias}, path)
    assert [item.candidate.name for item in alphafix.inspect(path).shown] == ["fc.weight"]
    result = alphafix.patch(path, found)
    patched = load_file(result.target)
    np.testing.assert_array_equal(patched["fc.weight"].numpy(), found.apply(HEAD_VALUE).weight)
    np.testing.assert_array_equal(patched["fc.bias"].numpy(), found.apply(HEAD_VALUE).bias)
    # What is there is what it would write; anything else is refused.
    assert alphafix.patch(path, found).target == result.target
    result.target.write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        alphafix.patch(path, found)
    assert result.target.read_bytes() == b"mine"
    again = alphafix.patch(path, found, of=HEAD_VALUE, overwrite=True)
    assert again.target == result.target


def test_patch__of_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", PROBLEM)
    monkeypatch.setenv("ALPHAFIX_RUN", str(run.folder))
    alphafix.find_neighbors()
    alphafix.train(**QUICK)
    path = tmp_path / "model.safetensors"
    bias = torch.from_numpy(HEAD_VALUE.bias_or_zeros.copy())
    save_file({"fc.weight": torch.from_numpy(HEAD_VALUE.weight.copy()), "fc.bias": bias}, path)
    result = alphafix.patch(path, dry_run=True)
    assert result.action == "dry run"
    assert result.effect is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "run"]


def test_extract__into_a_run_directory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "images.npz",
        train_images=rng.integers(0, 255, size=(12, 32, 32, 3), dtype=np.uint8),
        train_labels=np.arange(12) % 3,
    )
    found = alphafix.extract(
        "python:tests.api.models:small",
        tmp_path / "images.npz",
        run=tmp_path / "run",
        workers=0,
        device="cpu",
    )
    assert found.samples == {"train": 12}
    store = alphafix.FeatureStore.open(tmp_path / "run" / "features" / "train")
    assert (len(store), store.width) == (12, found.head.width)
    assert {CLASSES, HEAD} <= {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alphafix.train(DATA["train"]), "head is needed too"),
        (lambda: alphafix.train(DATA["train"], HEAD_VALUE, rho=-1), "rho: Input should be"),
        (lambda: alphafix.train(DATA["train"], HEAD_VALUE, select="constrained"), "go together"),
        (lambda: alphafix.train(DATA["train"], HEAD_VALUE, run="x"), "run does not go together"),
        (lambda: alphafix.train(head=HEAD_VALUE), "head is given without features"),
        (lambda: UNTYPED.train(DATA["train"], HEAD_VALUE, tables=1), "tables: Extra inputs"),
        (lambda: alphafix.find_neighbors(DATA["train"], k=9), "too many neighbours"),
        (lambda: UNTYPED.find_neighbors(PROBLEM.features["train"]), "these are no features"),
        (lambda: alphafix.find_neighbors((np.zeros((3, 2)), ["a", "b", "c"])), "no class ids"),
        (lambda: alphafix.find_neighbors((np.zeros(3), np.zeros(3, int))), "no matrix"),
        (lambda: alphafix.evaluate(DATA["test"], HEAD_VALUE, TABLE), "correction is needed too"),
        (lambda: alphafix.compare(DATA["train"], HEAD_VALUE, test=DATA["test"]), "val is needed"),
        (lambda: alphafix.patch("model.pt", of=HEAD_VALUE), "of is given without"),
        (lambda: alphafix.ClassTable.of(np.array([0.5, 1])), "no class ids"),
    ],
)
def test_wrong_input__is_one_clear_error(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_train__neighbors_of_another_table_are_refused() -> None:
    near = alphafix.find_neighbors(DATA["train"], few_below=60, k=3)
    with pytest.raises(InputError, match="not those of this class table"):
        alphafix.train(DATA["train"], HEAD_VALUE, TABLE, near)


def test_run_directory__missing_stage_is_an_error_not_an_exit(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError):
        alphafix.evaluate(run=tmp_path)


def test_warning__is_logged_and_not_printed() -> None:
    # In a process of its own: pytest's handlers of the log would hide what Python prints.
    code = (
        "import logging, numpy as np, alphafix\n"
        "ids = np.repeat(np.arange(6), [90, 80, 70, 60, 50, 5])\n"
        "features = np.random.default_rng(0).normal(size=(len(ids), 4))\n"
        "alphafix.find_neighbors((features, ids), k=2)\n"
        "records = []\n"
        "handler = logging.Handler()\n"
        "handler.emit = lambda record: records.append(record.getMessage())\n"
        "logging.getLogger('alphafix').addHandler(handler)\n"
        "alphafix.find_neighbors((features, ids), k=2)\n"
        "assert len(records) == 1 and 'unstable' in records[0], records\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
