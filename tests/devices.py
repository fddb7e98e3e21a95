"""Devices that tests run on: ``pytest -m gpu`` takes a GPU's, which are skipped without one."""

from __future__ import annotations

import pytest
import torch

DEVICES = (
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
        ],
    ),
)

on_each_device = pytest.mark.parametrize("device", DEVICES)
