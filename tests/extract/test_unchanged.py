"""What decides a model's features besides its weights: changed, it is another model."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_for_hf

from alphafix.commands.extract.options import ExtractOptions
from alphafix.errors import TargetExistsError
from alphafix.features.store import FeatureStore
from alphafix.values.arrays import FloatArray
from tests.extract.models import NUM_CLASSES, small_net
from tests.extract.zoo import Animal
from tests.processes import contents
from tests.stages import extract

Changed = tuple[dict[str, Any], Callable[[], None]]


def rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def transformers_settings(folder: Path, animal: Callable[[str], Animal]) -> Changed:
    shutil.copytree(animal("transformers").options["backbone"].partition(":")[2], folder / "hf")
    change = {"image_mean": [0.1, 0.2, 0.3]}
    return {"backbone": f"hf:{folder / 'hf'}"}, lambda: rewrite(
        folder / "hf" / "preprocessor_config.json", **change
    )


def timm_folder(folder: Path, animal: Callable[[str], Animal]) -> Changed:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=NUM_CLASSES)
    save_for_hf(model, str(folder / "hub"), safe_serialization=True)
    path = folder / "hub" / "config.json"
    given = {"backbone": f"timm:local-dir:{folder / 'hub'}", "image_size": 64}
    return given, lambda: rewrite(path, model_args={"global_pool": "max"}, global_pool="max")


CODE = """
from tests.extract.models import Small, SmallNet


def net():
    made = SmallNet()
    prepare = Small()
    made.transform = lambda image: {factor} * prepare(image)
    return made
"""


def own_code(folder: Path, animal: Callable[[str], Animal]) -> Changed:
    torch.manual_seed(0)
    save_file(small_net().state_dict(), folder / "model.safetensors")
    path = folder / "nets_of_mine.py"
    path.write_text(CODE.format(factor=1))

    def change() -> None:
        path.write_text(CODE.format(factor=0.5))
        del sys.modules["nets_of_mine"]  # as another process would load it
        importlib.invalidate_caches()

    given = {"backbone": "python:nets_of_mine:net", "weights": folder / "model.safetensors"}
    return given, change


CASES = {
    "transformers' processor": transformers_settings,
    "timm's folder": timm_folder,
    "code of the user's own": own_code,
}


@pytest.mark.parametrize("case", CASES)
def test_extract__settings_and_code_beside_the_weights_are_part_of_the_model(
    case: str,
    tmp_path: Path,
    animal: Callable[[str], Animal],
    data_spec: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    given, change = CASES[case](tmp_path, animal)

    def options(run: str, **more: Any) -> ExtractOptions:
        data = data_spec("folders")
        return ExtractOptions(run=tmp_path / run, data=data, workers=0, **given, **more)

    def features(run: str) -> FloatArray:
        return FeatureStore.open(tmp_path / run / "features/train").array()

    extract(options("run"))
    extract(options("run"))  # up to date
    before = features("run")
    change()
    with pytest.raises(TargetExistsError, match="config_sha256"):
        extract(options("run"))
    extract(options("run", overwrite=True))
    extract(options("anew"))
    assert not np.allclose(features("run"), before)
    assert contents(tmp_path / "run") == contents(tmp_path / "anew")
