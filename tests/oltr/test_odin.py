from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from alphafix.openset.odin import odin_images, odin_scores, softmax_scores

WEIGHT = torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]])


def linear(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1) @ WEIGHT.T


def test_softmax_scores__hand_computed() -> None:
    logits = np.array([[0.0, np.log(3.0)], [2.0, 2.0]], dtype=np.float32)
    assert softmax_scores(logits) == pytest.approx([0.25, 0.5])


def test_softmax_scores__temperature_keeps_the_digits() -> None:
    logits = np.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.001]], dtype=np.float32)
    found = softmax_scores(logits, temperature=1000)
    expected = 1 - softmax(logits.astype(np.float64) / 1000, axis=1).max(axis=1)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[1] > found[0]


def test_softmax_scores__large_logits_do_not_overflow() -> None:
    found = softmax_scores(np.array([[1e4, 0.0], [-1e4, -1e4]], dtype=np.float32))
    assert found == pytest.approx([0.0, 0.5])


def test_odin_images__hand_computed_step() -> None:
    image = torch.tensor([[2.0, 0.0, 0.5]])
    # Logits are (2, 1): class 0; its log probability rises along (w_0 - w_1), which is
    # (1, 1.5, -2), so that the step is (+, +, -).
    found = odin_images(linear, image, temperature=2.0, step=0.1)
    assert found[0].tolist() == pytest.approx([2.1, 0.1, 0.4])


def test_odin_images__step_in_pixels_of_normalised_channels() -> None:
    images = torch.tensor([2.0, 0.0, 0.5]).view(1, 3, 1, 1)
    found = odin_images(linear, images, step=0.1, std=(0.5, 0.25, 0.2))
    moved = (found - images).flatten().tolist()
    assert moved == pytest.approx([0.2, 0.4, -0.5])


def test_odin_scores__are_those_of_the_moved_images() -> None:
    image = torch.tensor([[2.0, 0.0, 0.5]])
    found = odin_scores(linear, image, temperature=2.0, step=0.1)
    logits = np.array([2.1 + 0.05, -0.1 + 0.8]) / 2
    assert found == pytest.approx([1 - softmax(logits).max()], rel=1e-6)


def test_odin_scores__without_a_step_are_those_of_the_logits() -> None:
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    found = odin_scores(linear, images, step=0.0)
    assert found == pytest.approx(softmax_scores(linear(images).numpy(), temperature=1000))


def test_odin_images__leave_the_model_and_its_input_as_they_were() -> None:
    model = torch.nn.Linear(3, 4)
    images = torch.zeros(2, 3)
    with torch.no_grad():
        moved = odin_images(model, images)
    assert model.weight.grad is None
    assert not moved.requires_grad
    assert images.abs().sum() == 0
