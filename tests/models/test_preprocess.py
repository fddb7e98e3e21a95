from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from alphafix.errors import InputError, in_python, spelt
from alphafix.models.libraries import torchvision_preprocess
from alphafix.models.model import Wanted
from alphafix.models.preprocess import Normalization, Overrides, described, resize_crop
from alphafix.models.timm_config import from_timm_config

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 3, 1, 1), (3, 1, 4, 4)])
def test_normalization__is_that_of_training_in_any_layout(
    shape: tuple[int, int, int, int], layout: torch.memory_format
) -> None:
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    images = pixels.to(torch.uint8).contiguous(memory_format=layout)
    channels = shape[1]
    found = Normalization(MEAN[:channels], STD[:channels])(images)
    mean = torch.tensor(MEAN[:channels]).view(1, -1, 1, 1)
    std = torch.tensor(STD[:channels]).view(1, -1, 1, 1)
    torch.testing.assert_close(found, (pixels / 255 - mean) / std)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(("channels", "form"), [(3, "mean='0.5,0.5,0.5'"), (1, "mean=0.5")])
def test_resize_crop__shows_the_form_of_mean_and_deviation(channels: int, form: str) -> None:
    with pytest.raises(InputError) as error:
        resize_crop(
            resize=8,
            size=(8, 8),
            interpolation="bilinear",
            mean=(0.5, 0.5),
            std=(0.5, 0.5),
            origin="flags",
            channels=channels,
        )
    assert f"{channels} of each, as in {form}" in str(error.value)


CONFIG = {"input_size": (3, 176, 176), "crop_pct": 0.875, "mean": MEAN, "std": STD}


@pytest.mark.parametrize(
    ("given", "resize", "said"),
    [
        ({"image_size": 32}, 36, ("scaled to 36 pixels", "32 x 32", "176 x 176", "crop_pct=1 ")),
        ({"image_size": 32, "crop_pct": 0.5}, 64, ("scaled to 64 pixels", "176 x 176")),
        ({"image_size": 32, "crop_pct": 1.0}, 32, ("scaled to 32 pixels",)),
        ({"image_size": 176}, 201, None),
        ({}, 201, None),
    ],
)
def test_image_size__that_the_backbone_was_not_made_for_says_what_is_cut(
    given: dict[str, float], resize: int, said: tuple[str, ...] | None
) -> None:
    overrides = Overrides(**given)  # type: ignore[arg-type]
    found = from_timm_config(CONFIG, overrides, origin="test")
    assert found.record["resize"] == resize
    columns = np.tile(np.arange(resize, dtype=np.uint8), (resize, 1))  # which is not scaled
    shown = found.transform(Image.fromarray(columns).convert("RGB"))
    side = int(given.get("image_size", 176))
    first = round((resize - side) / 2)
    assert np.asarray(shown)[0, 0].tolist() == [*range(first, first + side)]
    text = found.what_is_cut(overrides)
    assert (text is None) == (said is None)
    assert all(part in spelt(text or "", in_python) for part in said or ())


def test_image_size__of_torchvision_says_what_is_cut() -> None:
    overrides = Overrides(image_size=28)
    found = torchvision_preprocess(Wanted("torchvision", "resnet18", overrides=overrides))
    assert found.record["resize"] == 32
    assert "scaled to 32 pixels" in str(found.what_is_cut(overrides))
    assert "224 x 224" in str(found.what_is_cut(overrides))


@pytest.mark.parametrize("side", [None, 32])  # the flag's, or the model's own
def test_described__says_what_is_cut_where_no_flag_says_the_crop(side: int | None) -> None:
    given = Overrides(image_size=None if side else 32, mean=(0.5,) * 3, std=(0.5,) * 3)
    text = spelt(described("net", given, side=side).what_is_cut(given) or "", in_python)
    assert "scaled to 36 pixels" in text
    assert "crop_pct=1 scales to 32" in text
    whole = Overrides(**(given.given | {"crop_pct": 1.0}))
    found = described("net", whole, side=side)
    assert found.record["resize"] == 32
    assert found.what_is_cut(whole) is None
