"""`alphafix train-oltr`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.train_oltr.options import TrainOltrOptions

COMMAND = Command(
    name="train-oltr",
    options=TrainOltrOptions,
    help="""Train a base model on long-tailed images: OLTR, or one of its competitors.

The result is a backbone: `alphafix extract --backbone oltr:DIR`.
""",
    example="alphafix train-oltr --data photos-lt --root photos --recipe cifar100-lt --epochs 10",
    folder=__name__,
    begins=True,
)
