"""`alphafix demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from alphafix.commands import console
from alphafix.commands.demo.options import DemoOptions
from alphafix.commands.flags import takes

if TYPE_CHECKING:
    from alphafix.commands.demo.work import DemoResult

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: alphafix demo --run alphafix-demo")
@takes(DemoOptions)
def demo(
    options: DemoOptions,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run the whole chain on embedded images: a first look, offline, in a minute."""
    import logging

    from alphafix.commands.demo.work import demo as run_stage

    console.show_log(logging.WARNING)
    found = run_stage(options, progress=console.bar, say=console.note)
    if json:
        console.print_json(found.to_dict())
        return
    console.print_result(_text(found, options))


def _text(found: DemoResult, options: DemoOptions) -> str:
    """The before/after table, both sides of the trade-off, and where the model is."""
    data = found.to_dict()
    columns = ("few", "medium", "many", "overall")
    sizes = {name: len(found.classes.tier(name)) for name in columns}
    over = f"{options.seeds} seeds, mean ± sd"
    lines = [
        "",
        f"{'test accuracy (%)':42}" + "".join(f"{name:>13}" for name in columns),
        f"{'classes':42}" + "".join(f"{sizes[name]:>13}" for name in columns),
        _row("base model", [f"{data['base'][name]:.1f}" for name in columns]),
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
