"""One answer, for every result, to: is it there, made as asked, from what is there now?

A result says how it was made: in its manifest or metadata, or in a record beside it. Whoever
makes it first writes down how it *would* be made, its plan; equal plans mean that nothing has
to be done. A plan holds the hashes of all inputs as they are now, so that a result of changed
inputs is another one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from alphafix.errors import FileFormatError, TargetExistsError, option
from alphafix.files import (
    UnconfirmedError,
    atomic_paths,
    digest,
    fingerprint,
    read_metadata,
    read_object,
    remove_temporary,
    settle,
    together,
    write_json,
)
from alphafix.reading.boundary import reading, real
from alphafix.reading.schema import typed

PLAN = "plan.json"

Plan = Mapping[str, Any]
"""How something is made, as JSON data: options, hashes of inputs, versions."""


class State(Enum):
    """Whether a result is there as a command would make it."""

    CURRENT = "up to date"
    UNFINISHED = "to finish"  # up to date, but what goes with it is not there, or left over
    MISSING = "to do"
    OTHER = "made otherwise"


@dataclass(frozen=True)
class Artifact:
    """A result and the plan by which it would be made now.

    Attributes:
        path: The file that is written last and says how the result was made: JSON with the entry
            "provenance", or one of our safetensors files.
        plan: How it would be made now.
        unfinished: Folder of what an interrupted command leaves for the same command to go on
            with, or None where the work is one step.
        owned: What else belongs to the result, and goes with it; a folder with all in it.
        kept: Whether `unfinished` stays when the result is whole, and may hold other files: only
            the plan in it goes with the result.
        by_part: Options in which what is unfinished may differ, because each part of it tells by
            itself whether they still hold for it.
        of: What a user knows it by, where `path` is a record of other files, or a copy.
    """

    path: Path
    plan: Plan
    unfinished: Path | None = None
    owned: tuple[Path, ...] = ()
    kept: bool = False
    by_part: tuple[str, ...] = ()
    of: Path | str | None = None

    def recorded(self) -> dict[str, Any] | None:
        """The plan by which what is there was made; None without one, {} if unsaid.

        Raises:
            FileFormatError: If the file is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            return recorded_plan(self.path)
        except FileFormatError as error:
            raise FileFormatError(
                f"a result is damaged: {error.what}",
                got=error.got,
                todo=f"give {option('overwrite', True)} to make it anew",
            ) from error

    @property
    def state(self) -> State:
        """Whether the result is there, undamaged, and made exactly as planned."""
        earlier = self.recorded()
        if earlier is None:
            return State.MISSING
        if digest(earlier) != digest(self.plan):
            return State.OTHER
        return State.CURRENT if _as_recorded(self.path) else State.MISSING

    def check(self, *, overwrite: bool, where: str = "run", todo: str | None = None) -> bool:
        """Whether there is nothing to do; otherwise make sure that there may be.

        Args:
            overwrite: Whether what was made otherwise may be replaced.
            where: The option that names another place, for the message.
            todo: What to do where the result was made otherwise, if that is something else.

        Raises:
            TargetExistsError: If the result, or a part of it, was made otherwise and
                ``overwrite`` is false; what differs is named.
        """
        if overwrite:
            return False  # even a result that says it is right may be damaged
        if self.state is State.CURRENT:
            self.finish()  # a killed command may not have come to that
            for file in (*_recorded_files(self.path), self.path):
                settle(file)
            return True
        begun = self.begun()
        for earlier in (self.recorded(), None if self._goes_on(begun) else begun):
            if earlier is not None and digest(earlier) != digest(self.plan):
                raise TargetExistsError(
                    f"{self.of or self.path} exists already: it was made with other options or "
                    "from other inputs",
                    got=difference(earlier, self.plan),
                    expected="no result yet, or one that is up to date",
                    todo=todo
                    or f"give {option('overwrite', True)} to replace it, or {option(where)} for "
                    "another place",
                )
        return False

    def begin(self) -> bool:
        """Clear what is made otherwise, and write down what is begun.

        Returns:
            Whether this plan was begun before, so that what it left can be used.
        """
        begun = self.begun()
        again = self._goes_on(begun)
        if again:
            self.path.unlink(missing_ok=True)
            for folder in {self.path.parent, *filter(None, [self.unfinished]), *self.owned}:
                remove_temporary(folder)
        else:
            self.clear()
        same = begun is not None and again and digest(begun) == digest(self.plan)
        if self.unfinished is not None and not same:
            write_json(self.unfinished / PLAN, self.plan, overwrite=True)
        return again

    def _goes_on(self, begun: Plan | None) -> bool:
        """Whether what this earlier plan left can be used for the plan of now."""
        return begun is not None and digest(self._of_all(begun)) == digest(self._of_all(self.plan))

    def _of_all(self, plan: Plan) -> Plan:
        """What of a plan holds for all parts."""
        options = dict(plan.get("options") or {})
        return {**plan, "options": {k: v for k, v in options.items() if k not in self.by_part}}

    def finish(self) -> None:
        """Forget what an interruption would have needed: the result is whole."""
        if self.unfinished is not None and not self.kept:
            shutil.rmtree(self.unfinished, ignore_errors=True)

    def clear(self) -> None:
        """Remove the result: first what says that it is one, then the rest of it."""
        self.path.unlink(missing_ok=True)
        begun = self.unfinished
        if begun is not None and self.kept:
            begun = begun / PLAN
        for place in (*self.owned, *filter(None, [begun])):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def record(self, outputs: Iterable[Path]) -> None:
        """Write ``path`` as a record of files that cannot say themselves how they were made."""
        self._note({file: fingerprint(file) for file in outputs})

    def _note(self, outputs: Mapping[Path, str]) -> None:
        folder = real(self.path.parent)
        places = {os.path.relpath(real(file), folder): known for file, known in outputs.items()}
        record = {"value": "record", "outputs": places, "provenance": self.plan}
        write_json(self.path, record, overwrite=True)

    @contextlib.contextmanager
    def writing(self, files: Sequence[Path], *, overwrite: bool) -> Iterator[list[Path]]:
        """Yield paths to write to; they become ``files``, of which ``path`` is the record.

        It is written before any of them has its name (see `alphafix.files.atomic_paths`): so the
        same command knows what a kill has left of them, and makes them anew. One that somebody
        has changed since is not theirs, and stays.

        Args:
            files: The files, the one that matters last.
            overwrite: Whether they may be there already.

        Raises:
            TargetExistsError: If one is there already, and neither may be nor is left by a kill.
            InputError: If one cannot be written.
        """
        if not overwrite:
            self._take_back(files)
        noted = False
        try:
            with atomic_paths(files, overwrite=overwrite) as drafts:
                yield drafts
                outputs = zip(files, drafts, strict=True)
                self._note({file: fingerprint(draft) for file, draft in outputs})
                noted = True
        except UnconfirmedError:
            raise
        except BaseException:
            if noted and not overwrite:  # none of them is there
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)
            raise

    def _take_back(self, files: Sequence[Path]) -> None:
        """Remove what a killed command of the same plan has left of ``files``."""
        if not self.path.is_file() or digest(recorded_plan(self.path)) != digest(self.plan):
            return
        places = {real(file) for file in files}
        with together(files):
            for file, known in read_outputs(self.path).items():
                if real(file) in places and file.is_file() and fingerprint(file) == known:
                    file.unlink()

    def begun(self) -> dict[str, Any] | None:
        """The plan that was begun here, or None."""
        path = None if self.unfinished is None else self.unfinished / PLAN
        return None if path is None or not path.is_file() else read_object(path)


def recorded_plan(path: Path) -> dict[str, Any]:
    """How a result says that it was made; {} if it does not.

    Raises:
        FileFormatError: If the file is damaged.
    """
    data = read_object(path) if path.suffix == ".json" else read_metadata(path)
    with reading(path, "a result that says how it was made", todo="make it again"):
        return typed(dict[str, Any], data.get("provenance") or {}, "provenance")


def _as_recorded(path: Path) -> bool:
    """Whether the files that a record speaks of are there, unchanged (see `Artifact.record`)."""
    data = read_object(path) if path.suffix == ".json" else {}
    if data.get("value") != "record":
        return True
    return all(
        file.is_file() and fingerprint(file) == recorded
        for file, recorded in read_outputs(path).items()
    )


def _recorded_files(path: Path) -> tuple[Path, ...]:
    """The files that a result speaks of, if it is a record."""
    is_record = path.suffix == ".json" and read_object(path).get("value") == "record"
    return tuple(read_outputs(path)) if is_record else ()


def read_outputs(path: Path) -> dict[Path, str]:
    """The files that a record speaks of (see `Artifact.record`), and what told each apart.

    The record names them as seen from its own folder, so that it holds whoever names that, and
    from wherever.

    Raises:
        FileFormatError: If it is no record.
    """
    with reading(path, "a record of files", todo="make them again"):
        outputs = typed(dict[str, str], read_object(path)["outputs"], "outputs")
    folder = real(path.parent)
    named = os.path.normpath if path.is_absolute() else os.path.relpath
    return {Path(named(folder / place)): found for place, found in outputs.items()}


def difference(earlier: Plan, now: Plan, *, most: int = 6) -> str:
    """The entries that differ between two plans, in words."""
    old, new = _flat(earlier), _flat(now)
    found = [
        f"{name} {_short(old.get(name))}, now {_short(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    return "; ".join(found[:most]) + ("; ..." if len(found) > most else "") or "something else"


# As much of a hash as a person compares.
_HASH = re.compile("([0-9a-f]{12})[0-9a-f]{52}")


def _short(value: object) -> str:
    """A value of a plan as it is shown: of a hash its beginning."""
    return _HASH.sub(r"\1", repr(value))


def _flat(data: object, prefix: str = "") -> dict[str, Any]:
    """Nested entries by dotted name; the parts that every plan has ("options", ...) go unsaid."""
    if not isinstance(data, Mapping) or not data:
        return {prefix: list(data) if isinstance(data, tuple) else data}
    parts = [_flat(value, f"{prefix}.{name}".lstrip(".")) for name, value in data.items()]
    return {name: value for part in parts for name, value in part.items()}
