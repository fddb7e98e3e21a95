"""The table of a sweep: both sides of the trade-off, mean and deviation over the seeds."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean, stdev
from typing import Any

from alphafix.commands import console
from alphafix.values.correction import Correction

COLUMNS = ("few", "medium", "many", "overall")


def summary(correction: Correction) -> dict[str, Any]:
    """What was trained, measured on validation and chosen, as JSON data."""
    settings: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for record in correction.trials.settings if correction.trials else ():
        settings.setdefault((record["rho"], record["k"]), []).append(record)
    return {
        "method": correction.method,
        "chosen": correction.chosen,
        "settings": [
            {"rho": rho, "k": k, "trials": len(records), "val": _over_seeds(records)}
            for (rho, k), records in settings.items()
        ],
    }


def _over_seeds(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Mean and standard deviation (ddof = 1) of each accuracy over the seeds."""
    if records[0]["val"] is None:
        return None
    found: dict[str, Any] = {}
    for name in COLUMNS:
        values = [record["val"][name] for record in records]
        if None in values:
            found[name] = None
            continue
        found[name] = {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}
    return found


def show(data: dict[str, Any]) -> None:
    """Print the table and the choice to stderr."""
    if not data["settings"]:
        _show_other(data)
        return
    chosen, base = data["chosen"], data["chosen"]["val_base"]
    if base is None:
        console.note("No validation features: the last epoch was kept and nothing was measured.")
    else:
        rows = [["base model", *(_number(base[name]) for name in COLUMNS), "", ""]]
        rows += [_row(setting, base) for setting in data["settings"]]
        rows.append(
            [
                "chosen",
                *(_number(chosen["val"][name]) for name in COLUMNS),
                *_deltas(chosen["val"], base),
            ]
        )
        header = ["", *COLUMNS, "Δ few", "Δ overall"]
        console.stderr.print(console.table("validation accuracy (%)", header, rows))
    if chosen["curve"] is not None:
        points = [
            [f"{point['offset']:+.3g}", *(_number(point[name]) for name in COLUMNS)]
            for point in chosen["curve"]
        ]
        title = "what an offset on the few-split logits buys (%)"
        console.stderr.print(console.table(title, ["offset", *COLUMNS], points))
    seeds = len(chosen["seeds"])
    how = f"mean of {seeds} seeds" if chosen["ensemble"] == "mean" else f"seed {chosen['seeds'][0]}"
    text = f"chosen: rho {chosen['rho']:g}, k {chosen['k']}, {how} ({chosen['why']})"
    if chosen["offset"]:
        text += f"; few-split logits shifted by {chosen['offset']:+.3g}"
    console.note(text)


def _show_other(data: dict[str, Any]) -> None:
    """What another method than AlphaNet chose on validation."""
    chosen = data["chosen"]
    if "auto" in chosen:
        auto = chosen["auto"]
        rows = [
            [one["method"], f"{one['few_gain']:+.1f}", f"{-one['overall_drop']:+.1f}"]
            for one in sorted(auto["tried"], key=lambda one: -one["few_gain"])
        ]
        header = ["", "Δ few", "Δ overall"]
        console.stderr.print(console.table("validation accuracy (points)", header, rows))
        console.note(f"chosen: {auto['text']}")
        return
    settings = ", ".join(f"{name} {value}" for name, value in chosen.items())
    console.note(f"{data['method']}: {settings}")


def _row(setting: dict[str, Any], base: dict[str, float | None]) -> list[str]:
    val = setting["val"]
    means = {name: None if val[name] is None else val[name]["mean"] for name in COLUMNS}
    cells = [_mean_and_sd(val[name]) for name in COLUMNS]
    name = f"rho {setting['rho']:g} k {setting['k']}"
    return [name, *cells, *_deltas(means, base)]


def _deltas(after: dict[str, float | None], before: dict[str, float | None]) -> Iterable[str]:
    for name in ("few", "overall"):
        a, b = after[name], before[name]
        yield "n/a" if a is None or b is None else f"{a - b:+.1f}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"


def _mean_and_sd(value: dict[str, float | None] | None) -> str:
    if value is None:
        return "n/a"
    return _number(value["mean"]) + ("" if value["sd"] is None else f" ± {value['sd']:.1f}")
