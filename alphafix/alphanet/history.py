"""The history of a sweep for the loggers that are wanted."""

from __future__ import annotations

from alphafix.loggers import Destinations
from alphafix.values.correction import Trials

FIGURES = ("loss", "val_overall")


def log_history(trials: Trials, destinations: Destinations) -> None:
    """Log loss and validation accuracy of each trial by epoch, one log a trial."""
    if not destinations:
        return
    for record in trials.settings:
        setting = {name: record[name] for name in ("rho", "k", "seed")}
        name = f"rho-{record['rho']:g}-k-{record['k']}-seed-{record['seed']}"
        with destinations.open(name, setting) as log:
            for epoch in record["history"]:
                log.add({name: epoch[name] for name in FIGURES if name in epoch}, epoch["epoch"])
