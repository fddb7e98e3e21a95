"""The stage `alphafix report`: the run's results -> a page to look at, and its figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import Evaluated, measure
from alphafix.commands.report.options import ReportOptions
from alphafix.files import write_text
from alphafix.metrics.comparison import Comparison
from alphafix.oltr.embedding import EMBEDDING, Embedding
from alphafix.progress import Progress, silent
from alphafix.report.collect import Evidence
from alphafix.report.content import page_of
from alphafix.report.page import Drawn, render
from alphafix.report.style import png_bytes, write_bytes
from alphafix.run.directory import COMPARISON, NEIGHBORS, REPORT, Run
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)


def report(options: ReportOptions, *, progress: Progress = silent) -> Path:
    """Write the page, each of its figures as SVG, PNG and CSV, and report.json.

    An earlier report is replaced: it follows from the run's other files. The comparison is in
    it if `alphafix compare` has made one from the files that are there now.

    Returns:
        Path of the page.

    Raises:
        MissingStageError: If there are no features of the split, or no correction.
        StaleInputError: If a result was made from something that has changed since.
        InputError: If a folder cannot be written, or the class groups do not fit.
    """
    run = Run(options.run)
    run.require_fresh(NEIGHBORS)
    found = measure(
        EvaluateOptions(
            run=options.run,
            on=options.on,
            groups=options.groups,
            wordnet_edges=options.wordnet_edges,
            open=options.open,
            open_threshold=options.open_threshold,
            bootstraps=options.bootstraps,
            seed=options.seed,
        ),
        progress=progress,
    )
    evidence = Evidence(
        found.evaluation,
        found.both,
        found.store,
        found.head,
        found.correction,
        Neighbours.load(run.path(NEIGHBORS)),
        found.groups,
        _comparison(run, options),
        _embedding(run, found),
    )
    page = page_of(evidence)
    folder = options.output or run.path("report")
    _write_figures(folder / "figures", page.drawn, progress)
    write_text(folder / "index.html", render(page), overwrite=True)
    found.evaluation.save(run.path(REPORT), overwrite=True)
    return folder / "index.html"


def _comparison(run: Run, options: ReportOptions) -> Comparison | None:
    """The comparison on the same samples, if there is one.

    Raises:
        StaleInputError: If it was made from something that has changed since.
    """
    if not run.has(COMPARISON):
        logger.info("no comparison with simpler methods yet: run `alphafix compare` for one")
        return None
    run.require_fresh(COMPARISON)
    comparison = Comparison.load(run.path(COMPARISON))
    if comparison.on != options.on:
        logger.warning(
            "the comparison is on %s and left out; run `alphafix compare --on %s`",
            comparison.on,
            options.on,
        )
        return None
    return comparison


def _embedding(run: Run, found: Evaluated) -> Embedding | None:
    """What the memory of the base model does, if train-oltr made that model and it has one."""
    if not run.has(EMBEDDING):
        return None
    embedding = Embedding.load(run.path(EMBEDDING))
    source = found.head.source
    if (
        source is None
        or embedding.info.get("model") != source.sha256
        or embedding.names != found.evaluation.classes.names
    ):
        logger.warning("%s is of another model and left out", run.path(EMBEDDING))
        return None
    return embedding


def _write_figures(folder: Path, drawn: Sequence[Drawn], progress: Progress) -> None:
    with progress("figures", len(drawn)) as advance:
        for one in drawn:
            picture = one.picture
            write_text(folder / f"{picture.name}.svg", one.svg, overwrite=True)
            write_bytes(folder / f"{picture.name}.png", png_bytes(picture.drawing))
            write_text(folder / f"{picture.name}.csv", picture.csv(), overwrite=True)
            advance(1)
