from __future__ import annotations

import pytest
import torch

from alphafix.errors import InputError
from alphafix.models.preprocess import Normalization, resize_crop

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
