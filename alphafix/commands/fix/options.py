"""Options of `alphafix fix`."""

from __future__ import annotations

from pathlib import Path

from alphafix.commands.options import StageOptions, flag


class FixOptions(StageOptions):
    """Options of `alphafix fix`; all others of a stage are set with ``--set``."""

    file: Path = flag(
        help="Model file, index of a sharded model, or folder that holds one.",
        argument=True,
        metavar="FILE",
    )
    backbone: str = flag(
        help="The model, as `alphafix extract` takes it.", metavar="SPEC", complete="backbones"
    )
    data: str = flag(help="The images, as `alphafix extract` takes them.", metavar="SPEC")
    max_overall_drop: float = flag(
        1.0, help="Points of overall accuracy that may be lost for the few split.", ge=0
    )
    output: Path | None = flag(
        None,
        help="File to write  [model.alphafix.safetensors beside the original].",
        flags=("-o", "--output"),
        metavar="FILE",
        writes=True,
    )
    settings: tuple[str, ...] = flag(
        (),
        help="Another option of a stage, like extract.mean=0.5,0.5,0.5 or train.method=lda (repeat "
        "the flag).",
        flags=("--set",),
        metavar="STAGE.OPTION=VALUE",
    )

    @property
    def place(self) -> Path | None:
        """None: each stage works alone in the run directory."""
        return None
