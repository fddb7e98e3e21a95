"""The page of a run: where it is, and whether it shows what is there now."""

from __future__ import annotations

from pathlib import Path

from alphafix.commands.records import is_stale
from alphafix.commands.repeating import records
from alphafix.run.artifact import read_outputs, recorded_plan
from alphafix.run.directory import COMPARISON, CORRECTION, PAGE, Run


def page_of(run: Run) -> Path:
    """The page that was made last, wherever it is, or where it is usually made."""
    made = (file for record in records(run, "report")[-1:] for file in read_outputs(record))
    return next((file for file in made if file.suffix == ".html"), run.path(PAGE) / "index.html")


def is_page_stale(run: Run) -> bool:
    """Whether the page was made from what has changed since.

    Raises:
        FileFormatError: If the record of it is damaged.
    """
    record = _record(run)
    return record.is_file() and is_stale(run, record, CORRECTION, COMPARISON)


def page_shows(run: Run, on: str) -> bool:
    """Whether the page is known to show what is there now, of the samples of a split.

    Raises:
        FileFormatError: If the record of it is damaged.
    """
    record = _record(run)
    if not record.is_file() or is_page_stale(run):
        return False
    return bool(dict(recorded_plan(record).get("options") or {}).get("on") == on)


def _record(run: Run) -> Path:
    return run.record("report", run.place_of(page_of(run)))
