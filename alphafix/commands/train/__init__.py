"""`alphafix train`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.train.options import TrainOptions

COMMAND = Command(
    name="train",
    options=TrainOptions,
    help="Train AlphaNet: corrected rows for the few-split classes.",
    example="alphafix train --rho 0.25,0.5,1,2 --seeds 10",
    folder=__name__,
)
