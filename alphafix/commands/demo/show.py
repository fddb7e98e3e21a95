"""What a person sees of the demo: both sides of the trade-off."""

from __future__ import annotations

from alphafix.commands.command import Shown
from alphafix.commands.demo.options import DemoOptions
from alphafix.commands.demo.work import COLUMNS, DemoResult


def show(found: DemoResult, options: DemoOptions) -> Shown:
    """The table before and after, and where the model is."""
    return Shown(_text(found, options))


def _text(found: DemoResult, options: DemoOptions) -> str:
    """The before/after table, both sides of the trade-off, and where the model is."""
    data = found.to_dict()
    sizes = {name: len(found.classes.tier(name)) for name in COLUMNS}
    over = f"{options.seeds} seeds, mean ± sd"
    lines = [
        "",
        f"{'test accuracy (%)':42}" + "".join(f"{name:>13}" for name in COLUMNS),
        f"{'classes':42}" + "".join(f"{sizes[name]:>13}" for name in COLUMNS),
        _row("base model", [f"{data['base'][name]:.1f}" for name in COLUMNS]),
        _row(f"AlphaNet, nearest ({over})", _cells(data["nearest"])),
        _row(f"AlphaNet, random  ({over})", _cells(data["random"])),
        _row("patched model (mean of the seeds' rows)", _plain(data["corrected"])),
        _row("  its gain", _gains(data["corrected"], data["base"])),
        "",
        "Random neighbours are the control: what they gain too is not owed to likeness.",
        f"few: fewer than {found.classes.thresholds.few} training images; many: more than "
        f"{found.classes.thresholds.many}.",
        f"patched model: {found.patched}",
    ]
    return "\n".join(lines)


def _row(name: str, cells: list[str]) -> str:
    return f"{name:42}" + "".join(f"{cell:>13}" for cell in cells)


def _cells(over_seeds: dict[str, dict[str, float]]) -> list[str]:
    return [f"{value['mean']:.1f} ± {value['sd']:.1f}" for value in over_seeds.values()]


def _plain(accuracy: dict[str, float]) -> list[str]:
    return [f"{value:.1f}" for value in accuracy.values()]


def _gains(after: dict[str, float], before: dict[str, float]) -> list[str]:
    return [f"{after[name] - before[name]:+.1f}" for name in after]
