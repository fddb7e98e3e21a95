"""Pictures of the report's page: the slider, and who pays.

For the README, of the demo, and for the evidence page, of Emoji-LT:

    alphafix demo && alphafix compare --run alphafix-demo && alphafix report --run alphafix-demo
    python -m examples.docs.screens alphafix-demo/report/index.html
    python examples/evidence/page.py
    python -m examples.docs.screens evidence-data/emoji-page/run/report/index.html --name emoji

Needs Chromium and its driver (apt-get install chromium chromium-driver), and selenium.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

PICTURES = Path(__file__).with_name("pictures")

# A point that is worth a look, and the class that is looked at there: the first that gains.
STEER = """
const slider = document.getElementById("shift");
slider.value = 1.8;
slider.dispatchEvent(new Event("input"));
"""
LOOK = STEER + 'document.querySelector("#gaining .name").click(); document.activeElement.blur();'


@dataclass(frozen=True)
class Shot:
    """A picture of the page.

    Attributes:
        script: What is done there before.
        width: Of the page; a telephone shows a narrow one so that it can be read.
        parts: From the top of one element to the top of another, below each other.
        scale: Pixels of the picture for one of the page.
    """

    script: str
    width: int
    parts: tuple[tuple[str, str], ...]
    scale: int = 1


SHOTS = {
    "slider": Shot(
        STEER,
        800,
        (
            ("#steer > h2", "#steer .beside > .js"),
            ("#pays > h2", "#pairs tbody tr:nth-child(9)"),
        ),
        2,
    ),
    "who-pays": Shot(LOOK, 1200, (("#pays > h2", "#every-class"),)),
}


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path, help="the page of a report")
    parser.add_argument("--name", default="page", help="what names of pictures begin with")
    given = parser.parse_args()
    address = given.page.resolve().as_uri()
    browser = _browser()
    try:
        for name, shot in SHOTS.items():
            metrics = {"width": shot.width, "height": 1000, "deviceScaleFactor": shot.scale}
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": False}
            )
            browser.get(address)
            browser.execute_script(shot.script)
            _write(
                PICTURES / f"{given.name}-{name}.png",
                [_between(browser, *part) for part in shot.parts],
            )
    finally:
        browser.quit()


def _browser() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    # A bar beside the page would take width that it has again while the picture is taken.
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    for flag in (*flags, "--hide-scrollbars"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def _between(browser: Any, first: str, last: str) -> bytes:
    """The page from one element to another, as PNG."""
    script = (
        "return [...arguments].map(s => document.querySelector(s).getBoundingClientRect().top"
        " + scrollY)"
    )
    top, bottom = browser.execute_script(script, first, last)
    width = browser.execute_script("return document.documentElement.clientWidth")
    clip = {"x": 0, "y": top - 12, "width": width, "height": bottom - top, "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
    )
    return base64.b64decode(shot["data"])


def _write(path: Path, parts: Sequence[bytes]) -> None:
    """Below each other, with a palette, which text and flat colours lose nothing by."""
    path.parent.mkdir(exist_ok=True)
    images = [Image.open(io.BytesIO(part)).convert("RGB") for part in parts]
    whole = Image.new("RGB", (images[0].width, sum(image.height for image in images)))
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    whole.quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
