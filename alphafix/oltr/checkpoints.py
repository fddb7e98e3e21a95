"""What of a training is done, so that it can go on after any interruption.

``checkpoint/`` in the output folder holds ``plan.json`` (what is trained, on what and how) and
``stage-1.pt`` and ``stage-2.pt``: the state at the end of the last epoch of each stage, in
tensors and plain values that `torch.load` reads without running any code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from alphafix.errors import FileFormatError, TargetExistsError
from alphafix.files import atomic_path, read_json, refuse_existing, write_json
from alphafix.oltr.training import State

PLAN = "plan.json"
STAGES = (1, 2)

Plan = Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def plan(self) -> dict[str, Any] | None:
        """What is being trained here, or None."""
        path = self.folder / PLAN
        return dict(read_json(path)) if path.is_file() else None

    def is_of(self, plan: Plan) -> bool:
        """Whether exactly ``plan`` was begun here."""
        return self.plan() == _plain(plan)

    def check(self, plan: Plan, *, overwrite: bool) -> None:
        """Refuse to go on with a training that was begun otherwise.

        Raises:
            TargetExistsError: If one is there, with other options, data or versions, and
                ``overwrite`` is false.
        """
        earlier = self.plan()
        if overwrite or earlier == _plain(plan):
            return
        if earlier is None:
            for stage in STAGES:  # files of that name that are not known to be ours
                refuse_existing(self.path(stage), overwrite=False)
            return
        raise TargetExistsError(
            f"{self.folder.parent} holds another training",
            got=_difference(earlier, plan),
            expected="the same options, data and versions as before",
            todo="give --overwrite to begin again, or choose another --output",
        )

    def begin(self, plan: Plan) -> None:
        """Go on if ``plan`` was begun; otherwise remove the states and write it down."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()  # of a process that was killed
        if self.is_of(plan):
            return
        # The plan last: without states it is a training that has just begun.
        for stage in STAGES:
            self.path(stage).unlink(missing_ok=True)
        write_json(self.folder / PLAN, _plain(plan), overwrite=True)

    def path(self, stage: int) -> Path:
        """File of a stage's state."""
        return self.folder / f"stage-{stage}.pt"

    def save(self, state: State) -> None:
        """Write a state, whole or not at all."""
        with atomic_path(self.path(state["stage"]), overwrite=True) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # torch's own writer, for a full disk
                raise OSError(str(error)) from error

    def states(self) -> dict[int, State]:
        """The last state of each stage that was begun."""
        return {n: read_state(self.path(n)) for n in STAGES if self.path(n).is_file()}


def read_state(path: Path) -> State:
    """Read a state that `Checkpoints.save` wrote.

    Raises:
        FileFormatError: If it is damaged.
    """
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        return state
    # torch.load raises many types for damaged files.
    except Exception as error:
        raise FileFormatError(
            f"the checkpoint {path} is damaged",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="a file that train-oltr wrote",
            todo="give --overwrite to begin again",
        ) from error


def _plain(plan: Plan) -> dict[str, Any]:
    """A plan as it comes back from JSON."""
    import json

    return dict(json.loads(json.dumps(plan)))


def _difference(earlier: Mapping[str, Any], now: Plan) -> str:
    """The entries that differ, in words."""
    old, new = _flat(earlier), _flat(_plain(now))
    found = [
        f"{name} {old.get(name)!r}, now {new.get(name)!r}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    return "; ".join(found[:6]) + ("; ..." if len(found) > 6 else "")


def _flat(data: object, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, Mapping):
        parts = [
            _flat(value, f"{prefix}.{name}" if prefix else name) for name, value in data.items()
        ]
        return {name: value for part in parts for name, value in part.items()}
    return {prefix: data}
