"""What the tests of the report are about, and how they look at a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.common import Problem, make_problem

EVIL = "<script>alert(1)</script>"


def evil_problem() -> Problem:
    """Sixty classes, one of them with a name that wants to be a script."""
    problem = make_problem(num_classes=60, spread=1.5)
    names = list(problem.classes.names)
    names[59], names[58] = EVIL, "$x_1$ & </td> \u2028 'quoted' \"twice\""
    return replace(problem, classes=replace(problem.classes, names=tuple(names)))


def set_width(browser: Any, width: int) -> None:
    """Set the page's width itself; a window cannot be as narrow as a phone."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def set_media(browser: Any, scheme: str = "", media: str = "") -> None:
    """Light or dark, screen or print."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def open_page(browser: Any, path: Path, width: int = 1440) -> None:
    set_width(browser, width)
    browser.get("about:blank")  # so that nothing is asked of a page that is being left
    browser.get(path.as_uri())
