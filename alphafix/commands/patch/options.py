"""Options of `alphafix patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from alphafix.commands.options import StageOptions, flag
from alphafix.errors import option


class PatchOptions(StageOptions):
    """Options of `alphafix patch`."""

    ALTERNATIVES = frozenset({"output", "in_place", "revert", "delta", "apply"})

    file: Path = flag(
        help="Model file, index of a sharded model, or folder that holds one.",
        argument=True,
        metavar="FILE",
    )
    output: Path | None = flag(
        None,
        help="File to write, or another folder to write into  "
        "[model.alphafix.safetensors beside the original].",
        flags=("-o", "--output"),
        metavar="FILE",
        writes=True,
    )
    correction: Path | None = flag(
        None, help="Correction to apply  [the run's alphanet.safetensors].", metavar="FILE"
    )
    head: str | None = flag(
        None,
        help="Name of the head's layer, if it is not found (see alphafix inspect).",
        metavar="NAME",
    )
    in_place: bool = flag(
        False, help="Change FILE itself; a record beside it (FILE.alphafix-undo) restores it."
    )
    revert: bool = flag(False, help="Restore FILE, which was patched --in-place, byte by byte.")
    delta: bool = flag(
        False,
        help="Write only the changed rows, to ship instead of a model  "
        "[model.alphafix-delta.safetensors].",
    )
    apply: Path | None = flag(
        None, help="Apply rows that --delta wrote; needs no run directory.", metavar="DELTA"
    )
    card: Path | None = flag(
        None,
        help="Write a model card for Hugging Face: what changed, how, the accuracy both ways, and "
        "the classes that pay, on test images if `alphafix evaluate` came before.",
        metavar="README.md",
        writes=True,
    )
    base_model: str | None = flag(
        None,
        help="The original model's name on Hugging Face, for the card  [what the backbone names, "
        "or the file's name].",
        metavar="ORG/NAME",
    )
    dry_run: bool = flag(False, help="Show what would change; write nothing.")
    direction_only: bool = flag(
        False,
        help="For heads whose rows the model normalises: write the directions of the "
        "corrected rows, although their lengths are lost.",
    )
    verify: Literal["full", "rows"] | None = flag(
        None,
        help="After writing, compare every byte with the original (but those in blocks of the disk "
        "that both share), or only the changed rows  [full; rows with --in-place].",
    )
    measure: bool = flag(
        True, help="Measure accuracy and rounding on the run's validation features."
    )
    provenance: bool = flag(True, help="Record in the file's metadata how it was made.")

    @model_validator(mode="after")
    def _one_action(self) -> PatchOptions:
        given = {
            option("in_place"): self.in_place,
            option("revert"): self.revert,
            option("delta"): self.delta,
            option("apply"): self.apply is not None,
        }
        actions = [name for name, there in given.items() if there]
        if len(actions) > 1 and actions != [option("in_place"), option("apply")]:
            raise ValueError(f"{' and '.join(actions)} do not go together")
        if self.output is not None and (self.in_place or self.revert):
            raise ValueError(f"{option('output')} does not go together with {actions[0]}")
        if self.apply is not None and (self.correction is not None or self.head is not None):
            raise ValueError(
                f"{option('apply')} brings its own rows: leave out {option('correction')} and "
                f"{option('head')}"
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """The options that decide the result, as JSON data for its provenance."""
        return self.model_dump(mode="json", include={"head", "direction_only"})
