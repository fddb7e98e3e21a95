"""Heads in the manner of CLIP: no module, but a matrix and a factor of the model's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from alphafix.commands.extract.options import ExtractOptions
from alphafix.commands.patch.options import PatchOptions
from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.run.directory import CORRECTION, Run
from alphafix.values.correction import Correction
from tests.extract import models
from tests.extract.photos import Photos
from tests.stages import extract, patch

HEADS = {
    "zero_shot": ("classes", "linear"),
    "zero_shot_turned": ("classes", "linear"),
    "zero_shot_cosine": ("classes", "cosine"),
    "wise_net": ("fc.weight", "linear"),
}


@pytest.mark.slow
@pytest.mark.parametrize("function", HEADS)
def test_head__is_found_and_patched(
    function: str, tmp_path: Path, photos: Photos, data_spec: Callable[[str], str]
) -> None:
    torch.manual_seed(1)
    net, weights = getattr(models, function)().eval(), tmp_path / "model.safetensors"
    save_file(net.state_dict(), weights)
    options = ExtractOptions(
        run=tmp_path / "run",
        backbone=f"python:tests.extract.models:{function}",
        weights=weights,
        data=data_spec("folders"),
        workers=0,
    )

    head = extract(options).head

    images = torch.stack([models.Small()(image) for image, _ in photos["val"]])
    features = FeatureStore.open(options.run / "features/val").array()
    with torch.inference_mode():
        expected = net(images).numpy()
    np.testing.assert_allclose(head.logits(features), expected, atol=1e-4)
    assert head.source is not None
    assert (head.source.weights[0], head.source.kind) == HEADS[function]

    # Longer rows, which a head that divides by lengths could not hold.
    longer = 1.0 if head.source.normalised else 1.7
    row = head.weight[[1]] + head.weight[[0]]
    row *= longer * np.linalg.norm(head.weight[2]) / np.linalg.norm(row)
    correction = Correction(np.array([2]), row, None)
    run = Run(options.run)
    correction.save(run.path(CORRECTION))
    target = patch(PatchOptions(run=run.folder, file=weights, measure=False)).target
    net.load_state_dict(load_file(target))
    with torch.inference_mode():
        changed = net(images).numpy()
    np.testing.assert_allclose(changed, correction.apply(head).logits(features), atol=1e-4)
    assert np.abs(changed - expected).max() > 0.1


def test_head__that_is_computed_is_refused(tmp_path: Path, data_spec: Callable[[str], str]) -> None:
    weights = tmp_path / "model.safetensors"
    save_file(models.zero_shot().state_dict(), weights)
    options = ExtractOptions(
        run=tmp_path / "run",
        backbone="python:tests.extract.models:zero_shot",
        weights=weights,
        data=data_spec("folders"),
        workers=0,
        head="logit_scale",
    )
    with pytest.raises(InputError, match="not stored in it"):
        extract(options)
