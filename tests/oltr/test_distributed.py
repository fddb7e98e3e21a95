"""Two processes against one: the same training, whatever the loss compares within a batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from alphafix.commands.train_oltr.options import TrainOltrOptions
from alphafix.errors import InputError
from alphafix.files import read_json, read_tensors
from alphafix.values.arrays import Array
from tests.oltr.drawings import write_folders, write_recipe
from tests.processes import run_ranks

pytestmark = pytest.mark.slow

# Its LayerNorm sees one sample at a time; BatchNorm is each process's own on CPUs.
RECIPE = """\
backbone: timm:test_convnext
size: 32
resize: 32
augmentation: small
stage1: {epochs: 1, lr: 0.05, batch: 16}
stage2: {epochs: 1, lr: 0.05, feature_lr: 0.01, batch: 16}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_folders(folder / "data")
    write_recipe(folder / "recipe.yaml", RECIPE)
    return folder


def options_of(work: Path, output: str, **more: object) -> TrainOltrOptions:
    return TrainOltrOptions.model_validate(
        {
            "data": str(work / "data"),
            "recipe": str(work / "recipe.yaml"),
            "output": work / output,
            "workers": 0,
            "device": "cpu",
            **more,
        }
    )


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# The centroid losses count the classes of a batch; lifted and range compare its samples.
@pytest.mark.parametrize(
    ("method", "more"),
    [("oltr", {}), ("oltr", {"preset": "paper"}), ("lifted", {}), ("range", {})],
)
def test_two_processes__train_the_model_of_one(
    work: Path, method: str, more: dict[str, object]
) -> None:
    name = f"{method}-{len(more)}"
    one, two = (options_of(work, f"{name}-{n}", method=method, **more) for n in (1, 2))
    assert run_ranks(one, 1) == [0]
    assert run_ranks(two, 2) == [0, 0]
    for single, shared in zip(records(one.output), records(two.output), strict=True):
        assert shared["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert shared["val"] == single["val"]
    single_file, shared_file = (
        read_tensors(folder / "model.safetensors")[0] for folder in (one.output, two.output)
    )
    assert single_file.keys() == shared_file.keys()
    for tensor, expected in single_file.items():
        np.testing.assert_allclose(shared_file[tensor], expected, rtol=1e-3, atol=5e-5)
    assert _difference(single_file, _first_stage(one.output)) > 2e-3  # it was a training


def _difference(exported: dict[str, Array], backbone: dict[str, Array]) -> float:
    """Largest difference between the backbone of an exported model and another one."""
    return max(
        float(np.abs(exported[f"body.{name}"] - tensor).max()) for name, tensor in backbone.items()
    )


def _first_stage(folder: Path) -> dict[str, Array]:
    state = torch.load(folder / "checkpoint/stage-1.pt", weights_only=True)["model"]
    return {n: t.numpy() for n, t in state.items() if n.startswith("network.backbone.")}


def test_two_processes__go_on_where_one_stopped(work: Path) -> None:
    """The number of processes is no part of what a checkpoint is of."""
    whole, stopped = (options_of(work, name, method="focal") for name in ("whole", "stopped"))
    assert run_ranks(whole, 2) == [0, 0]
    assert run_ranks(stopped, 1) == [0]
    for name in ("config.json", "model.safetensors", "checkpoint/stage-2.pt"):
        (stopped.output / name).unlink()
    assert run_ranks(stopped, 2) == [0, 0]
    found = [read_tensors(one.output / "model.safetensors")[0] for one in (whole, stopped)]
    for name, tensor in found[0].items():
        np.testing.assert_allclose(found[1][name], tensor, rtol=1e-3, atol=5e-5)


def test_two_processes__train_a_router(tmp_path: Path) -> None:
    write_folders(tmp_path / "data")
    write_recipe(tmp_path / "recipe.yaml")
    options = options_of(tmp_path, "routed", method="ride-routing", epochs="1")
    assert run_ranks(options, 2) == [0, 0]
    assert set(read_json(options.output / "evaluation.json")["experts"]) == {"val", "test"}


def test_a_batch_that_cannot_be_shared__is_an_error(work: Path) -> None:
    options = options_of(work, "odd", method="plain", batch_size=15)
    assert run_ranks(options, 2) == [1, 1]
    assert not (options.output / "model.safetensors").exists()


def test_gather__gives_gradients_to_the_part_of_each_process() -> None:
    from alphafix.distributed import gather

    part = torch.arange(4.0, requires_grad=True)
    assert gather(part) is part  # alone


def test_equal_parts__says_what_to_change() -> None:
    from alphafix.oltr.training.loop import require_equal_parts

    require_equal_parts(16, 4)
    with pytest.raises(InputError, match=r"a batch of 15, 2 processes[\s\S]*batch_size="):
        require_equal_parts(15, 2)
