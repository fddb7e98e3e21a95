"""`alphafix extract`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.extract.options import ExtractOptions

COMMAND = Command(
    name="extract",
    options=ExtractOptions,
    help="Compute features of images with your model, and save its head.",
    example="alphafix extract --backbone timm:resnet18 --weights model.safetensors --data data",
    folder=__name__,
    begins=True,
)
