"""Numbers that are not what they seem: refused, or taken for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from torch import Tensor
from typer.testing import CliRunner

import alphafix
from alphafix.alphanet.neighbors import nearest_neighbours
from alphafix.checkpoints.sklearn_models import head_of
from alphafix.commands.app import app
from alphafix.errors import FileFormatError, InputError
from alphafix.features.exchange import read_features
from alphafix.features.features import Features
from alphafix.foreign.arrays import read_head
from alphafix.metrics.gates import Gates, check_gates
from alphafix.oltr.models.heads import Output
from alphafix.oltr.training.running import _in_float32
from alphafix.values.classes import ClassTable
from tests.common import make_problem, write_run


def brute_force(means: np.ndarray, classes: ClassTable, k: int) -> np.ndarray:
    gaps = means[classes.few][:, None] - means[classes.base][None]
    order = np.argsort((gaps / np.abs(means).max()) ** 2 @ np.ones(means.shape[1]), axis=1)
    return classes.base[order[:, :k]]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_neighbours__of_features_of_any_size_are_those_of_brute_force(
    size: float, metric: str
) -> None:
    problem = make_problem(num_classes=40, width=6)
    means = size * np.random.default_rng(0).normal(size=(40, 6))
    found = nearest_neighbours(means, problem.classes, k=5, metric=metric)
    points = means if metric == "euclidean" else means / np.linalg.norm(means, axis=1)[:, None]
    np.testing.assert_array_equal(found.ids, brute_force(points, problem.classes, 5))
    few, first = problem.classes.few, found.ids[:, 0]
    if metric == "euclidean":
        expected = np.linalg.norm(means[few] - means[first], axis=1)
        np.testing.assert_allclose(found.distances[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "random"])
def test_neighbours__too_far_for_float32_are_refused(metric: str) -> None:
    problem = make_problem()
    means = 1e300 * np.random.default_rng(0).normal(size=(12, 4))
    with pytest.raises(InputError, match="not finite"), np.errstate(over="ignore"):
        nearest_neighbours(means, problem.classes, k=3, metric=metric)


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    points, labels = make_blobs([60, 50, 10], n_features=5, random_state=0)[:2]
    return points, labels


def test_estimator__with_a_row_a_pair_is_refused_for_three_classes_too(
    blobs: tuple[np.ndarray, np.ndarray],
) -> None:
    for shape in ("ovr", "ovo"):
        machine = SVC(kernel="linear", decision_function_shape=shape).fit(*blobs)
        assert machine.coef_.shape == (3, 5)
        with pytest.raises(InputError, match="does not decide by one row a class"):
            head_of(machine)
        classifier = alphafix.AlphaNetClassifier(machine.__class__(kernel="linear"), n_neighbors=1)
        with pytest.raises(InputError, match="does not decide by one row a class"):
            classifier.fit(*blobs)


def test_estimator__whose_rows_decide_is_taken(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    for linear in (LinearSVC(), LogisticRegression(C=1e6, max_iter=9999)):
        fitted = linear.fit(*blobs)
        np.testing.assert_allclose(head_of(fitted).weight, fitted.coef_, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_head__with_a_misspelt_bias_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"head{suffix}"
    arrays = {"weight": np.ones((3, 2), np.float32), "bais": np.ones(3, np.float32)}
    (save_file if suffix == ".safetensors" else lambda a, p: np.savez(p, **a))(arrays, path)
    with pytest.raises(FileFormatError, match=r"holds more than a head\n +got: +bais"):
        read_head(path)
    arrays["bias"] = arrays.pop("bais")
    arrays["train_features"] = np.ones((1, 2), np.float32)  # features may lie beside the head
    (save_file if suffix == ".safetensors" else lambda a, p: np.savez(p, **a))(arrays, path)
    assert read_head(path).bias is not None


def test_features__with_an_id_twice_are_refused(tmp_path: Path) -> None:
    rows, labels = np.ones((3, 2), np.float32), np.zeros(3, np.int64)
    np.savez(tmp_path / "a.npz", features=rows, labels=labels, ids=np.array(["a", "b", "a"]))
    with pytest.raises(InputError, match=r"1 sample id is in .* more than once\n +got: +a\n"):
        read_features(tmp_path / "a.npz", split="val")
    with pytest.raises(InputError, match="more than once"):
        Features.of(rows, labels, ids=["a", "b", "a"])


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_export__has_the_class_names_and_import_compares_them(suffix: str, tmp_path: Path) -> None:
    problem = make_problem()
    run, other, file = tmp_path / "run", tmp_path / "other", tmp_path / f"features{suffix}"
    write_run(run, problem)
    words = ["features", "export", "--split", "train", str(file), "--run", str(run)]
    assert CliRunner().invoke(app, words).exit_code == 0
    if suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(file)
        assert table.column("class").to_pylist() == [
            problem.classes.names[label] for label in problem.labels["train"]
        ]
    names = tuple(reversed(problem.classes.names))
    turned = ClassTable(names, problem.classes.counts)
    write_run(other, problem, splits=("val",)).path("classes.json").unlink()
    turned.save(other / "classes.json")
    words = ["features", "import", "--split", "train", str(file), "--run", str(other)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert "class 0 is 'class 0'" in refused.stderr
    assert not (other / "features/train").exists()
    problem.classes.save(other / "classes.json", overwrite=True)
    assert CliRunner().invoke(app, words).exit_code == 0


def test_start__takes_the_class_names_of_the_features(tmp_path: Path) -> None:
    problem = make_problem()
    write_run(tmp_path / "run", problem).path("classes.json").unlink()
    names = tuple(f"bird {i}" for i in range(12))
    ClassTable(names, problem.classes.counts).save(tmp_path / "run/classes.json")
    file, head = str(tmp_path / "f.npz"), tmp_path / "h.npz"
    words = ["features", "export", file, "--run", str(tmp_path / "run")]
    assert CliRunner().invoke(app, words).exit_code == 0
    np.savez(head, weight=problem.head.weight, bias=problem.head.bias_or_zeros)
    words = ["neighbors", "--features", file, "--head", str(head), "--run", str(tmp_path / "new")]
    assert CliRunner().invoke(app, [*words, "-k", "3"]).exit_code == 0
    assert ClassTable.load(tmp_path / "new/classes.json").names == names


def test_output__in_float32_leaves_integers_as_they_are() -> None:
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    output = Output(half, half, half, experts=torch.tensor([1, 3]))
    found = _in_float32(output)
    assert (found.logits.dtype, found.meta) == (torch.float32, None)
    assert isinstance(found.experts, Tensor)
    assert found.experts.dtype == torch.int64


def test_train__another_method_shows_a_table_and_what_it_chose(tmp_path: Path) -> None:
    write_run(tmp_path, make_problem())
    assert CliRunner().invoke(app, ["neighbors", "-k", "3", "--run", str(tmp_path)]).exit_code == 0
    words = ["train", "--method", "mean-directions-few", "--allow-worse", "--run", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "{" not in done.stderr
    lines = done.stderr.splitlines()
    assert any(line.split()[:2] == ["base", "model"] for line in lines)
    assert any(line.startswith("chosen: mean-directions-few, ") for line in lines)


def test_gate__a_gain_is_not_called_a_negative_drop(tmp_path: Path) -> None:
    problem = make_problem()
    better = problem.head.with_rows(np.arange(3), problem.head.weight[:3] * 0, None)
    correction = alphafix.Correction(np.arange(3), problem.head.weight[:3], None)
    found = alphafix.evaluate(
        (problem.features["test"], problem.labels["test"]),
        head=better,
        correction=correction,
        classes=problem.classes,
    )
    gates = check_gates(found, Gates(max_overall_drop=2, min_few_gain=5))
    drop = next(one for one in gates if one.gate == "max_overall_drop")
    assert drop.value is not None
    assert drop.value < 0
    assert drop.line == f"overall drop none (a gain of {-drop.value:.2f} points), at most 2"
    assert all("-" not in one.line.replace("few-split", "") for one in gates)


ROWS = [[float(10 * row + column) for column in range(3)] for row in range(7)]
LISTS = ("list_", "large_list", "fixed", "list_view", "large_list_view")


def list_type(kind: str, width: int) -> Any:
    """One of pyarrow's types of lists of float32."""
    import pyarrow

    if kind == "fixed":
        return pyarrow.list_(pyarrow.float32(), width)
    return getattr(pyarrow, kind)(pyarrow.float32())


def write_parquet(path: Path, kind: str, rows: list[Any], labels: list[Any]) -> Any:
    """A file of groups of two rows; its features as pyarrow gives them back."""
    import pyarrow
    import pyarrow.parquet

    features = pyarrow.array(rows, list_type(kind, 3))
    table = pyarrow.table({"features": features, "label": labels})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return pyarrow.parquet.read_table(path).column("features").to_pylist()


@pytest.mark.parametrize("kind", LISTS)
def test_parquet__every_kind_of_list_is_read_as_pyarrow_reads_it(kind: str, tmp_path: Path) -> None:
    expected = write_parquet(tmp_path / "f.parquet", kind, ROWS, [0, 1, 0, 1, 2, 2, 0])
    found = read_features(tmp_path / "f.parquet", split="train")
    np.testing.assert_array_equal(found.array(), np.array(expected, np.float32))
    assert found.labels.tolist() == [0, 1, 0, 1, 2, 2, 0]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("several lengths", {3: [1.0, 2.0], 4: [1.0, 2.0, 3.0, 4.0]}),  # 21 numbers, as expected
        ("empty cells", {3: None}),
        ("empty cells", {3: [1.0, None, 2.0]}),
        ("a label is empty", {}),
    ],
)
def test_parquet__of_lists_of_unequal_length_or_with_nulls_is_refused(
    kind: str, case: str, changed: dict[int, Any], tmp_path: Path
) -> None:
    if kind == "fixed" and case == "several lengths":
        return  # they cannot be made
    rows = [changed.get(number, row) for number, row in enumerate(ROWS)]
    labels = [0, None, 0, 1, 2, 2, 0] if not changed else [0] * 7
    write_parquet(tmp_path / "f.parquet", kind, rows, labels)
    with pytest.raises(FileFormatError, match=r"empty cells|several lengths"):
        read_features(tmp_path / "f.parquet", split="train")
