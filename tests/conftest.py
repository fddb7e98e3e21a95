"""What holds for all tests: one thread a process, shapes checked, and costly things made once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.shapes import begin, watch

# The tests run in as many processes as there are processors (pyproject.toml), so more threads
# would only wait for each other. The commands that the tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

watch()

Make = Callable[[Path], None]


def pytest_runtest_setup() -> None:
    begin()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes, start the modules with most slow tests: what comes last is quick.

    A module's tests are done by one process, so one of them must not be left with a long module
    when the others have nothing to do.
    """
    if hasattr(config, "workerinput"):
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        every = Counter(item.path for item in items)
        items.sort(key=lambda item: (-slow[item.path], -every[item.path], item.path))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """A folder that is made by the first that asks for its name, in whichever test process."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # where all processes of this run have theirs

    def made(name: str, make: Make) -> Path:
        target = folder / f"shared-{name}"
        with FileLock(folder / f"shared-{name}.lock"):
            if not target.is_dir():
                unfinished = folder / f"shared-{name}.unfinished"
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(target)
        return target

    return made
