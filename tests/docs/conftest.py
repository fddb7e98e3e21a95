"""The folder in which the documentation's commands run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Make
from tests.docs.world import make_demo, make_fixed, make_world

# Who runs commands on what the demo and `alphafix fix` leave, and the demo's folder.
WITH_DEMO = ("README", "help")
DEMO = "alphafix-demo"


@pytest.fixture(scope="session")
def world(
    made_once: Callable[[str, Make], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Make a folder, of a name, with all that a reader has."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(made_once("world", make_world), folder, dirs_exist_ok=True)
        if name in WITH_DEMO:
            (folder / DEMO).symlink_to(made_once("demo", make_demo) / DEMO)
            fixed = made_once("fixed", partial(make_fixed, made_once("world", make_world))) / "work"
            shutil.copytree(fixed / "fixed", folder / "fixed")
            shutil.copy2(fixed / "fixed.safetensors", folder)
        return folder

    return make
