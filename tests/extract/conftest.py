"""Images and models that are made once for all tests of extraction."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.elsewhere import bucket, line
from tests.extract.photos import WRITERS, Photos, make_photos
from tests.extract.zoo import MAKERS, Animal

__all__ = ["bucket", "line"]


@pytest.fixture(scope="session")
def photos() -> Photos:
    return make_photos()


@pytest.fixture(scope="session")
def data_spec(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Callable[[str], str]:
    """The images in one form: the --data of it."""

    @cache
    def make(form: str) -> str:
        return WRITERS[form](tmp_path_factory.mktemp(form), photos)

    return make


@pytest.fixture(scope="session")
def animal(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Animal]:
    """One of the tiny models."""

    @cache
    def make(kind: str) -> Animal:
        torch.manual_seed(0)
        folder: Path = tmp_path_factory.mktemp(kind.replace(" ", "-"))
        return MAKERS[kind](folder)

    return make
