"""A run directory made of values that were read, as `alphafix extract` would leave it."""

from __future__ import annotations

import shutil

from alphafix.features.store import store_artifact
from alphafix.features.writer import write_store
from alphafix.foreign.arrays import Given
from alphafix.progress import Progress
from alphafix.run.artifact import State
from alphafix.run.directory import CLASSES, FEATURES, HEAD, Provenance, Run


def is_given(run: Run, plan: Provenance, *, overwrite: bool) -> bool:
    """Whether the run was made so already; otherwise make sure that it may be.

    Raises:
        TargetExistsError: If the run holds features of another origin, and ``overwrite`` is false.
    """
    stores = [store_artifact(f, plan.to_dict()) for f in sorted(run.path(FEATURES).glob("*"))]
    if not overwrite and given_state(run, plan) is State.CURRENT:
        for store in stores:
            if store.state is State.CURRENT:
                store.finish()  # which may have failed
        return True
    for store in stores:
        store.check(overwrite=overwrite)
    return False


def given_state(run: Run, plan: Provenance) -> State:
    """Whether the run is there as `write_given` would make it."""
    if not run.has(CLASSES):
        return State.MISSING
    return run.artifact(HEAD, plan).state  # it is written last


def write_given(run: Run, given: Given, plan: Provenance, progress: Progress) -> None:
    """Write classes, head and features of a run directory; of what stops halfway nothing stays."""
    known = run.has(CLASSES)
    # Only now, with everything read and checked, what was there may go.
    shutil.rmtree(run.path(FEATURES), ignore_errors=True)
    try:
        for split, features in given.splits.items():
            write_store(
                store_artifact(run.features(split), plan.to_dict()),
                features,
                split=split,
                head=given.head,
                progress=progress,
            )
        given.classes.save(run.path(CLASSES), overwrite=True)
        given.head.save(run.path(HEAD), provenance=plan.to_dict(), overwrite=True)
    except BaseException:
        shutil.rmtree(run.path(FEATURES), ignore_errors=True)
        if not known:
            run.path(CLASSES).unlink(missing_ok=True)
        raise
