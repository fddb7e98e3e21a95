"""`alphafix demo`."""

from __future__ import annotations

import logging

from alphafix.commands.command import Command
from alphafix.commands.demo.options import DemoOptions

COMMAND = Command(
    name="demo",
    options=DemoOptions,
    help="Run the whole chain on embedded images: a first look, offline, in a minute.",
    example="alphafix demo --run alphafix-demo",
    folder=__name__,
    begins=True,
    feeds=False,
    log=logging.WARNING,
)
