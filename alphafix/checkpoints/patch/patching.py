"""Carrying out a plan: where its files go, that they are nobody else's, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from alphafix.checkpoints.formats.opening import find_file
from alphafix.checkpoints.patch.copies import copy_target, plan_copies, write_copies
from alphafix.checkpoints.patch.delta import delta_name, save_delta
from alphafix.checkpoints.patch.inplace import undo_path, write_in_place
from alphafix.checkpoints.patch.planning import PatchPlan
from alphafix.checkpoints.patch.writing import Verify
from alphafix.errors import InputError
from alphafix.progress import Progress, silent
from alphafix.reading.boundary import real

Action = Literal["copy", "in place", "delta"]


@dataclass(frozen=True)
class Way:
    """How a plan is carried out.

    Attributes:
        action: Into a copy, in place, or as the changed rows alone.
        output: The file or folder to write; None for the usual name beside the original.
        overwrite: Whether files may be replaced.
        verify: "full" to compare every byte, "rows" the changed ones; by default "full", and
            "rows" in place.
        dry_run: Whether to write nothing.
    """

    action: Action = "copy"
    output: Path | None = None
    overwrite: bool = False
    verify: Verify | None = None
    dry_run: bool = False

    def target(self, file: Path) -> Path:
        """The patched file, or the delta.

        Raises:
            InputError: If there is no such file, or a copy would be the original.
        """
        main = find_file(file)
        if self.action == "in place":
            return main
        if self.action == "delta":
            return self.output or delta_name(main)
        return copy_target(main, self.output)


def carry_out(
    plan: PatchPlan,
    way: Way,
    provenance: dict[str, Any] | None,
    *,
    read: Sequence[Path] = (),
    also: Sequence[Path] = (),
    made_by: str = "",
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Write the files of a patch, each whole and verified or not at all.

    Args:
        plan: What changes.
        way: Where and how.
        provenance: How the rows were made, for the files' metadata (which has no room to grow
            where it is); None to leave it alone.
        read: What else than the model is read for it.
        also: What else will be written with it, like a card.
        made_by: What tells the command apart, for the record of a patch in place.
        progress: Told of the copied bytes.

    Returns:
        All files that were, or would be, written; changed originals too.

    Raises:
        InputError: If a file would be read and written, or cannot be written.
        TargetExistsError: If a target is there already.
        VerificationError: If what was written is not what was to be written.
    """
    target = way.target(plan.checkpoint.path)
    write: Callable[[], object]
    changed: tuple[Path, ...] = ()
    if way.action == "delta":
        new = [target]
        write = partial(save_delta, target, plan, provenance, overwrite=way.overwrite)
    elif way.action == "in place":
        splices = plan.checkpoint.format.seal(plan.checkpoint, plan.splices(), None)
        changed, new = tuple(splices), [undo_path(file) for file in splices]
        write = partial(write_in_place, splices, verify=way.verify or "rows", made_by=made_by)
    else:
        copies = plan_copies(plan, target, provenance)
        new = [copy.target for copy in copies]
        write = partial(
            write_copies,
            plan,
            copies,
            overwrite=way.overwrite,
            verify=way.verify or "full",
            progress=progress,
        )
    _require_apart([*new, *also], [*plan.checkpoint.files, *read])
    if not way.dry_run:
        write()
    return (*changed, *new)


def _require_apart(targets: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check that no target is an input or another target, whoever may be overwritten."""
    taken = {real(path): "read for it" for path in inputs}
    for target in targets:
        place = real(target)
        if place in taken:
            raise InputError(
                f"{target} cannot be written by this patch",
                got=f"a file that is {taken[place]}",
                expected="a path of its own for everything that is written",
                todo="give another name",
            )
        taken[place] = "written by it too"
