"""`alphafix features import` and `alphafix features export`."""

from __future__ import annotations

import typer

from alphafix.commands import console
from alphafix.commands.features.options import ExportOptions, ImportOptions
from alphafix.commands.flags import takes

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Take features from other tools, or give features to them.",
    epilog="Example: alphafix features export train.npz",
)


@app.command("import", epilog="Example: alphafix features import --split val val.npz")
@takes(ImportOptions)
def import_(options: ImportOptions) -> None:
    """Make the features of a split from a file; the run has a head already."""
    from alphafix.commands.features.work import import_features

    console.show_log()
    store = import_features(options, progress=console.bar)
    console.note(f"{len(store):,} samples of {store.width} features, {store.dtype}")
    console.print_result(str(store.folder))


@app.command("export", epilog="Example: alphafix features export --split val val.parquet")
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write the features of a split to a file."""
    from alphafix.commands.features.work import export_features

    console.show_log()
    store = export_features(options, progress=console.bar)
    console.note(f"{len(store):,} samples of {store.width} features, {store.dtype}")
    console.print_result(str(options.file))
