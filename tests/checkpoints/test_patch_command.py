"""`alphafix patch` as a user sees it: bytes, exit codes, stdout, stderr, deltas and cards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from alphafix.checkpoints.formats.safetensors_header import read_header
from alphafix.checkpoints.formats.tensors import read_raw
from alphafix.commands.app import app
from alphafix.run.directory import CORRECTION, HEAD, Provenance
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.common import Problem, make_problem, write_run


def write_work(folder: Path, dtype: torch.dtype = torch.float32) -> Problem:
    """A model file and the run directory that leads to its correction."""
    problem = make_problem()
    tensors = {
        "a.weight": torch.randn(5, 3).to(dtype),
        "fc.weight": torch.from_numpy(problem.head.weight).to(dtype),
        "fc.bias": torch.from_numpy(problem.head.bias_or_zeros).to(dtype),
        "z.count": torch.tensor(3),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", "note": "über"})
    run = write_run(folder / "run", problem)
    few = problem.classes.few
    Correction(
        few,
        1.4 * problem.head.weight[few],
        problem.head.bias_or_zeros[few] + 1,
        provenance=Provenance("train", {"rho": 0.5}, run.hashes(HEAD)).to_dict(),
    ).save(run.path(CORRECTION))
    return problem


def call(folder: Path, *arguments: str) -> Result:
    words = ["patch", str(folder / "model.safetensors"), "--run", str(folder / "run"), *arguments]
    return CliRunner().invoke(app, words)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_patch__bytes(dtype: torch.dtype, tmp_path: Path) -> None:
    problem = write_work(tmp_path, dtype)
    original = (tmp_path / "model.safetensors").read_bytes()
    done = call(tmp_path)
    target = tmp_path / "model.alphafix.safetensors"
    assert (done.exit_code, done.stdout) == (0, f"{target}\n")
    assert "3 of 12" in done.stderr
    assert "written and verified" in done.stderr
    assert (tmp_path / "model.safetensors").read_bytes() == original
    before, after = read_header(tmp_path / "model.safetensors"), read_header(target)
    assert [t.name for t in before.tensors] == [t.name for t in after.tensors]
    assert {k: v for k, v in after.metadata.items() if k != "alphafix"} == before.metadata
    few = problem.classes.few
    for old, new in zip(before.tensors, after.tensors, strict=True):
        left, right = read_raw(old), read_raw(new)
        if old.name in ("fc.weight", "fc.bias"):
            step = len(left) // 12
            differing = {i // step for i in range(len(left)) if left[i] != right[i]}
            assert differing == set(few.tolist())
        else:
            assert left == right
    expected = torch.from_numpy(1.4 * problem.head.weight[few]).to(dtype)
    assert torch.equal(load_file(target)["fc.weight"][torch.from_numpy(few)], expected)


def test_patch__provenance_in_the_metadata(tmp_path: Path) -> None:
    write_work(tmp_path)
    call(tmp_path)
    with safe_open(tmp_path / "model.alphafix.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["note"]) == ("pt", "über")
    recorded = json.loads(metadata["alphafix"])
    assert recorded["versions"]["alphafix"]
    assert recorded["correction"]["options"] == {"rho": 0.5}
    assert len(recorded["inputs"][HEAD]) == 64
    few = recorded["effect"]["accuracy"]["few"]
    assert few["written"] > few["base"]


def test_patch__without_provenance_only_rows_differ(tmp_path: Path) -> None:
    write_work(tmp_path)
    call(tmp_path, "--no-provenance", "--no-measure")
    old = np.frombuffer((tmp_path / "model.safetensors").read_bytes(), np.uint8)
    new = np.frombuffer((tmp_path / "model.alphafix.safetensors").read_bytes(), np.uint8)
    assert old.shape == new.shape
    assert 0 < (old != new).sum() <= 3 * 4 * 9


def test_patch__effect_of_rounding_is_printed(tmp_path: Path) -> None:
    write_work(tmp_path, torch.bfloat16)
    done = call(tmp_path)
    assert "top-1 in percent on 120 validation samples" in done.stderr
    assert "after (as written)" in done.stderr
    assert "rounding to the file's element type changes" in done.stderr


def test_patch__dry_run_writes_nothing(tmp_path: Path) -> None:
    write_work(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    for extra in ([], ["--in-place"], ["--delta"], ["--card", str(tmp_path / "README.md")]):
        done = call(tmp_path, "--dry-run", *extra)
        assert done.exit_code == 0
        assert "fc.weight" in done.stdout  # the plan is the result; no path of what is not there
        assert str(tmp_path) not in done.stdout
        assert "nothing was written" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_patch__json(tmp_path: Path) -> None:
    write_work(tmp_path)
    found = json.loads(call(tmp_path, "--json").stdout)
    assert found["action"] == "copy"
    assert found["changes"][0] == {
        "tensor": "fc.weight",
        "dtype": "float32",
        "shape": [12, 8],
        "rows": 3,
        "bytes": 96,
    }
    assert found["effect"]["changed_by_rounding"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_delta__gives_the_same_file(dtype: torch.dtype, tmp_path: Path) -> None:
    write_work(tmp_path, dtype)
    call(tmp_path)
    done = call(tmp_path, "--delta")
    delta, other = tmp_path / "model.alphafix-delta.safetensors", tmp_path / "other.safetensors"
    assert done.stdout == f"{delta}\n"
    assert {name: list(t.shape) for name, t in load_file(delta).items()} == {
        "classes": [3],
        "fc.weight": [3, 8],
        "fc.bias": [3],
    }
    nowhere = ["--run", str(tmp_path / "nowhere"), "--apply", str(delta), "-o", str(other)]
    done = CliRunner().invoke(app, ["patch", str(tmp_path / "model.safetensors"), *nowhere])
    assert (done.exit_code, done.stdout) == (0, f"{other}\n")
    assert other.read_bytes() == (tmp_path / "model.alphafix.safetensors").read_bytes()


def test_delta__refuses_another_model(tmp_path: Path) -> None:
    write_work(tmp_path)
    call(tmp_path, "--delta")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["z.count"] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    delta = str(tmp_path / "model.alphafix-delta.safetensors")
    done = call(tmp_path, "--apply", delta)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "belongs to another model" in done.stderr
    assert not (tmp_path / "model.alphafix.safetensors").exists()
    done = call(tmp_path, "--apply", str(tmp_path / "model.safetensors"))
    assert "is no delta" in done.stderr


def test_delta__in_place(tmp_path: Path) -> None:
    write_work(tmp_path)
    original = (tmp_path / "model.safetensors").read_bytes()
    call(tmp_path, "--delta")
    done = call(
        tmp_path, "--apply", str(tmp_path / "model.alphafix-delta.safetensors"), "--in-place"
    )
    assert done.exit_code == 0
    assert (tmp_path / "model.safetensors").read_bytes() != original
    assert call(tmp_path, "--revert").exit_code == 0
    assert (tmp_path / "model.safetensors").read_bytes() == original


def test_card__says_how_and_what_it_costs(tmp_path: Path) -> None:
    write_work(tmp_path)
    done = call(tmp_path, "--card", str(tmp_path / "README.md"))
    assert done.exit_code == 0
    card = (tmp_path / "README.md").read_text()
    assert "alphafix patch model.safetensors --run run --card README.md" in card
    assert "| `fc.weight` | float32 | 3 of 12 |" in card
    assert "| overall |" in card
    assert '"rho": 0.5' in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--in-place", "--revert"], "--in-place and --revert do not go together"),
        (["--in-place", "-o", "x.safetensors"], "--output does not go together with --in-place"),
        (["--apply", "x", "--head", "fc"], "leave out --correction and --head"),
        (["--verify", "half"], "verify"),
    ],
)
def test_patch__usage(flags: list[str], message: str, tmp_path: Path) -> None:
    done = call(tmp_path, *flags)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_patch__missing_and_stale_stages(tmp_path: Path) -> None:
    problem = write_work(tmp_path)
    (tmp_path / "run" / CORRECTION).rename(tmp_path / "away")
    done = call(tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "alphafix train" in done.stderr
    (tmp_path / "away").rename(tmp_path / "run" / CORRECTION)
    head = problem.head.with_rows(problem.classes.few, 2 * problem.head.weight[:3], None)
    head.save(tmp_path / "run" / HEAD, overwrite=True)
    done = call(tmp_path)
    assert done.exit_code == 1
    assert "is stale" in done.stderr
    assert not (tmp_path / "model.alphafix.safetensors").exists()


def test_patch__value_too_large_for_the_file(tmp_path: Path) -> None:
    problem = write_work(tmp_path, torch.float16)
    few = problem.classes.few
    huge = 1e6 * problem.head.weight[few]
    Correction(few, huge, None).save(tmp_path / "huge.safetensors")
    done = call(tmp_path, "--correction", str(tmp_path / "huge.safetensors"))
    assert done.exit_code == 1
    assert "too large for float16" in done.stderr
    assert not (tmp_path / "model.alphafix.safetensors").exists()


def test_patch__truncated_file(tmp_path: Path) -> None:
    write_work(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    done = call(tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "truncated" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "run"]


def test_patch__correction_of_another_shape(tmp_path: Path) -> None:
    problem = write_work(tmp_path)
    rows = np.zeros((3, 16), dtype=np.float32)
    Correction(problem.classes.few, rows, None).save(tmp_path / "wide.safetensors")
    done = call(tmp_path, "--correction", str(tmp_path / "wide.safetensors"))
    assert done.exit_code == 1
    assert "head 12 x 8" in done.stderr
    assert "width 16" in done.stderr


def test_patch__correction_that_is_not_finite(tmp_path: Path) -> None:
    problem = write_work(tmp_path)
    tensors = {
        "classes": torch.from_numpy(problem.classes.few),
        "rows": torch.full((3, 8), float("nan")),
    }
    metadata = {"alphafix": json.dumps({"value": "correction", "method": "x", "chosen": {}})}
    save_file(tensors, tmp_path / "nan.safetensors", metadata=metadata)
    done = call(tmp_path, "--correction", str(tmp_path / "nan.safetensors"))
    assert done.exit_code == 1
    assert "24 values of NaN or inf" in done.stderr
    assert not (tmp_path / "model.alphafix.safetensors").exists()


def test_patch__direction_only(tmp_path: Path) -> None:
    """A cosine head cannot hold longer rows: refused, or written with the effect shown."""
    problem = make_problem(bias=False)
    weight = problem.head.weight
    unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    head = Head(16 * unit)
    save_file({"fc.weight": torch.from_numpy(weight)}, tmp_path / "model.safetensors")
    run = write_run(tmp_path / "run", replace(problem, head=head))
    few = problem.classes.few
    Correction(few, 1.3 * head.weight[few] + head.weight[few[::-1]], None).save(
        run.path(CORRECTION)
    )
    done = call(tmp_path)
    assert done.exit_code == 1
    assert "divides each row by its norm" in done.stderr
    assert not (tmp_path / "model.alphafix.safetensors").exists()
    done = call(tmp_path, "--direction-only", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["effect"]["changed_by_rounding"] > 0
    written = load_file(tmp_path / "model.alphafix.safetensors")["fc.weight"].numpy()
    cosine = (written[few] * (1.3 * unit[few] + unit[few[::-1]])).sum(1)
    lengths = np.linalg.norm(1.3 * unit[few] + unit[few[::-1]], axis=1)
    np.testing.assert_allclose(cosine, lengths * np.linalg.norm(written[few], axis=1), rtol=1e-5)
