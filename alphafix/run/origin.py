"""How the features of a run came, and so what gives those that it lacks."""

from __future__ import annotations

from alphafix.errors import call

# The command that reads images; all other features came in files.
_EXTRACTED = "extract"


def how_to_get(split: str, stage: str | None) -> str:
    """What gives the features of a split, as the words of an error go on after "to do:".

    Args:
        split: The split.
        stage: The stage that made the features that are there; None where there are none.
    """
    if stage not in (None, _EXTRACTED):
        how = call("features import", split=split)
        return f"take them from a file, as the other features were: {how}"
    extract = f"run {call('extract', split=split)}"
    if split != "val":
        return extract
    carved = call("extract", val_fraction=0.2, overwrite=True)
    return f"{extract}, or make validation of training images: {carved}"
