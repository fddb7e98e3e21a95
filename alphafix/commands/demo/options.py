"""Options of `alphafix demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alphafix.commands.options import StageOptions, flag


class DemoOptions(StageOptions):
    """Options of `alphafix demo`."""

    run: Path = flag(
        Path("alphafix-demo"), help="Where the images, the model and the results go.", metavar="DIR"
    )
    base: Literal["crt", "ce"] = flag(
        "crt",
        help="The base model's head: retrained with class-balanced samples (cRT, "
        "as in the paper), or plain cross-entropy.",
    )
    rho: float = flag(0.5, help="As in `alphafix train`.", ge=0)
    seeds: int = flag(10, help="As in `alphafix train`.", ge=1)
