"""The history of a sweep: as lines of JSON, and for the loggers that are wanted."""

from __future__ import annotations

import json

from alphafix.loggers import Destinations
from alphafix.values.trials import TrialRecord, Trials

FIGURES = ("loss", "val_overall")


def history_lines(trials: Trials) -> str:
    """One line of JSON an epoch of each trial."""
    lines = [
        json.dumps(_setting(record) | epoch.to_dict())
        for record in trials.records
        for epoch in record.history
    ]
    return "".join(line + "\n" for line in lines)


def log_history(trials: Trials, destinations: Destinations) -> None:
    """Log loss and validation accuracy of each trial by epoch, one log a trial."""
    if not destinations:
        return
    for record in trials.records:
        name = f"rho-{record.rho:g}-k-{record.k}-seed-{record.seed}"
        with destinations.open(name, _setting(record)) as log:
            for epoch in record.history:
                figures = epoch.to_dict()
                log.add({name: figures[name] for name in FIGURES if name in figures}, epoch.epoch)


def _setting(record: TrialRecord) -> dict[str, float]:
    return {"rho": record.rho, "k": record.k, "seed": record.seed}
