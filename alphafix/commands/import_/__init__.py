"""`alphafix import`."""

from __future__ import annotations

from alphafix.commands.command import Command
from alphafix.commands.import_.options import ForeignOptions

COMMAND = Command(
    name="import",
    options=ForeignOptions,
    help="""Take features, heads and checkpoints of other projects.

Features and a head become a run directory, from which `alphafix neighbors` goes on; a
checkpoint becomes a plain model file (for oltr a folder), for `alphafix extract` and
`alphafix patch`. Of torch files only tensors are read; nothing in them can run.
""",
    example="alphafix import alphanet-official ImageNetLT --allow-pickle --run imagenet",
    folder=__name__,
    begins=True,
)
