"""`alphafix fix`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.fix.options import FixOptions

COMMAND = Command(
    name="fix",
    options=FixOptions,
    help="""Correct a model's rare classes: every stage in one line, for the common case.

Extracts features, finds neighbours, trains with the method that gains most under the limit,
holds the limit on test images, writes the patched copy, and the page that explains it. Stages
that are up to date are left out. What does not keep the limit is not written (exit code 3).
""",
    example="alphafix fix model.safetensors --backbone timm:resnet18 --data data --run fixed",
    folder=__name__,
    feeds=False,
)
