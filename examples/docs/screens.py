"""Pictures of the report's page for the README: the slider, and who pays.

    python examples/evidence/page.py
    python -m examples.docs.screens evidence-data/emoji-page/run/report/index.html

Needs Chromium and its driver (apt-get install chromium chromium-driver), and selenium.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

PICTURES = Path(__file__).with_name("pictures")
WIDTH = 1200

# A point that is worth a look, and the class that is looked at there: the first that gains.
STEER = """
const slider = document.getElementById("shift");
slider.value = 1.8;
slider.dispatchEvent(new Event("input"));
"""
LOOK = STEER + 'document.querySelector("#gaining .name").click(); document.activeElement.blur();'

# From the top of one element to the top of another.
SHOTS = {
    "page-slider.png": (STEER, "#steer > h2", "#steer > h3"),
    "page-who-pays.png": (LOOK, "#pays > h2", "#every-class"),
}


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="the page of Emoji-LT's report")
    browser = _browser()
    try:
        for name, (script, first, last) in SHOTS.items():
            browser.get(parser.parse_args().page.resolve().as_uri())
            browser.execute_script(script)
            _write(PICTURES / name, _between(browser, first, last))
    finally:
        browser.quit()


def _browser() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    metrics = {"width": WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    return browser


def _between(browser: Any, first: str, last: str) -> bytes:
    """The page from one element to another, as PNG."""
    script = (
        "return [...arguments].map(s => document.querySelector(s).getBoundingClientRect().top"
        " + scrollY)"
    )
    top, bottom = browser.execute_script(script, first, last)
    clip = {"x": 0, "y": top - 12, "width": WIDTH, "height": bottom - top, "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
    )
    return base64.b64decode(shot["data"])


def _write(path: Path, png: bytes) -> None:
    """With a palette, which text and flat colours lose nothing by."""
    path.parent.mkdir(exist_ok=True)
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
