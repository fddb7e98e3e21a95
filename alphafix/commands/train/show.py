"""What a person sees of a training: both sides of the trade-off, over the seeds."""

from __future__ import annotations

import json
from typing import Any

from alphafix.commands.command import Shown
from alphafix.commands.repeating import in_words
from alphafix.commands.train.options import TrainOptions
from alphafix.commands.train.work import TrainResult
from alphafix.metrics.accuracy import COLUMNS
from alphafix.report.cells import change, number, over_seeds
from alphafix.run.directory import Run
from alphafix.values.display import Table


def show(found: TrainResult, options: TrainOptions) -> Shown:
    """The table of the sweep, what was chosen, and the file; or the plan."""
    if found.correction is None:
        return Shown(json.dumps(found.to_dict(), indent=2))
    data = found.to_dict()
    chooses = options.select != "none"
    how = Run(options.run).how_to_get("val")
    told = (
        _sweep(data, in_words(how, options), chooses=chooses) if data["settings"] else _other(data)
    )
    if (held_out := data["chosen"].get("held_out")) is not None:
        told.append(f"{held_out[:1].upper()}{held_out[1:]}.")
    return Shown(str(found.file), told)


def _sweep(data: dict[str, Any], validation: str, *, chooses: bool) -> list[Table | str]:
    chosen, base = data["chosen"], data["chosen"]["val_base"]
    told: list[Table | str] = []
    if base is None and not chooses:
        told.append(
            f"Nothing was chosen: of each trial of {len(data['settings'])} settings the last epoch "
            "was kept, and the first setting is the correction."
        )
    elif base is None:
        told.append(
            "No validation features: the last epoch was kept and nothing was measured. Hold "
            f"training features out with --holdout 0.2, or {validation}."
        )
    else:
        told.append(_table(chosen, [_row(setting, base) for setting in data["settings"]]))
    if chosen.get("curve") is not None:
        points = [
            [f"{point['offset']:+.3g}", *(number(point[name]) for name in COLUMNS)]
            for point in chosen["curve"]
        ]
        title = "what an offset on the few-split logits buys (%)"
        told.append(Table(title, ["offset", *COLUMNS], points))
    if (why := _kept_base(chosen)) is not None:
        return [*told, why]
    if "at" in chosen:
        return [*told, _picked(chosen)]
    seeds = len(chosen["seeds"])
    how = f"mean of {seeds} seeds" if chosen["ensemble"] == "mean" else f"seed {chosen['seeds'][0]}"
    text = f"chosen: rho {chosen['rho']:g}, k {chosen['k']}, {how} ({chosen['why']})"
    if chosen["offset"]:
        text += f"; few-split logits shifted by {chosen['offset']:+.3g}"
    if "promise" in chosen:
        text += f". {chosen['promise']['text']}"
    return [*told, text]


def _kept_base(chosen: dict[str, Any]) -> str | None:
    """That no correction is better than the base model, where it is so."""
    if "base" not in chosen:
        return None
    more = f" {chosen['promise']['text']}" if "promise" in chosen else ""
    return (
        f"the base model is kept: {chosen['base']}.{more} --allow-worse gives a correction all "
        "the same."
    )


def _picked(chosen: dict[str, Any]) -> str:
    """The point of the trade-off that was asked for."""
    val, base = chosen["val"], chosen["val_base"]
    few, overall = _deltas(val, base)
    return (
        f"picked: {chosen['at']}, with {chosen['offset']:+.3g} on few-split logits: few "
        f"{number(val['few'])} ({few}), overall {number(val['overall'])} ({overall}) on "
        "validation"
    ) + ("" if chosen.get("promise") is None else f". {chosen['promise']['text']}")


def _table(chosen: dict[str, Any], between: list[list[str]]) -> Table:
    """The base model, other rows, and what was chosen."""
    base, val = chosen["val_base"], chosen["val"]
    rows = [
        ["base model", *(number(base[name]) for name in COLUMNS), "", ""],
        *between,
        ["chosen", *(number(val[name]) for name in COLUMNS), *_deltas(val, base)],
    ]
    return Table("validation accuracy (%)", ["", *COLUMNS, "Δ few", "Δ overall"], rows)


def _other(data: dict[str, Any]) -> list[Table | str]:
    """What another method than AlphaNet chose on validation."""
    chosen = data["chosen"]
    if "at" in chosen:
        return [_picked(chosen)]
    if "auto" not in chosen:
        if (why := _kept_base(chosen)) is not None:
            return [_table(chosen, []), why]
        beside = ("method", "val", "val_base", "promise", "held_out")
        settings = [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in chosen.items()
            if name not in beside
        ]
        told = f"chosen: {', '.join([data['method'], *settings])}"
        return [_table(chosen, []), told, chosen["promise"]["text"]]
    auto = chosen["auto"]
    rows = [
        [
            one["method"],
            *(
                ["nothing within the limits", "", ""]
                if one["few_gain"] is None
                else [
                    f"{number:+.1f}"
                    for number in (one["few_gain"], -one["overall_drop"], one["worth"])
                ]
            ),
        ]
        for one in sorted(auto["tried"], key=lambda one: -(one["worth"] or 0.0))
    ]
    header = ["", "Δ few", "Δ overall", "worth"]
    why = "worth: Δ few with limits a little tighter and looser, on average, by which one is chosen"
    table = Table("validation accuracy (points)", header, rows, [why])
    return [table, f"chosen: {auto['text']}"]


def _row(setting: dict[str, Any], base: dict[str, float | None]) -> list[str]:
    val = setting["val"]
    means = {name: None if val[name] is None else val[name]["mean"] for name in COLUMNS}
    cells = [over_seeds(val[name]) for name in COLUMNS]
    name = f"rho {setting['rho']:g} k {setting['k']}"
    return [name, *cells, *_deltas(means, base)]


def _deltas(after: dict[str, float | None], before: dict[str, float | None]) -> list[str]:
    return [change(before[name], after[name]) for name in ("few", "overall")]
