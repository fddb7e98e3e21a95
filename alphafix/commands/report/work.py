"""`alphafix report`: the run's results -> a page to look at, and its figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphafix.commands.command import Watch
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.commands.evaluate.work import measure
from alphafix.commands.evaluate.work import state as evaluation_state
from alphafix.commands.records import record_of
from alphafix.commands.repeating import in_words
from alphafix.commands.report.options import ReportOptions
from alphafix.errors import call
from alphafix.files import refuse_existing, remove_temporary
from alphafix.metrics.comparison import Comparison
from alphafix.metrics.margins import Steered, load_steered
from alphafix.oltr.training.embedding import EMBEDDING, Embedding
from alphafix.openset.evaluating import Evaluated
from alphafix.progress import Progress
from alphafix.report.collect import Evidence
from alphafix.report.content import Settings, page_of
from alphafix.report.page import Drawn, render
from alphafix.report.style import png_bytes
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import (
    CLASSES,
    COMPARISON,
    CORRECTION,
    FEATURES,
    HEAD,
    NEIGHBORS,
    PAGE,
    REPORT,
    STEERED,
    Run,
)
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportResult:
    """A page that was written."""

    page: Path

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"page": str(self.page)}


def work(options: ReportOptions, watch: Watch) -> ReportResult:
    """Write the page and each of its figures as SVG, PNG and CSV.

    The comparison is in it if `alphafix compare` has made one from the files that are there now.
    The evaluation of the page is written to report.json, unless another one is there.

    Raises:
        MissingStageError: If there are no features of the split, or no correction.
        StaleInputError: If a result was made from something that has changed since.
        InputError: If a folder cannot be written, or the class groups do not fit.
        TargetExistsError: If there is another page already.
    """
    run, page = Run(options.run), _page(options)
    run.require_fresh(NEIGHBORS)
    record = _record(options)
    if record.check(overwrite=options.overwrite):
        logger.info("%s is up to date", page)
        return ReportResult(page)
    require_free(options, overwrite=options.overwrite)
    evaluation = EvaluateOptions(
        run=options.run,
        on=options.on,
        groups=options.groups,
        wordnet_edges=options.wordnet_edges,
        open=options.open,
        open_threshold=options.open_threshold,
        bootstraps=options.bootstraps,
        seed=options.seed,
        verify=options.verify,
    )
    found = measure(evaluation, progress=watch.progress)
    neighbours = Neighbours.load(run.path(NEIGHBORS))
    comparison = _comparison(run, options)
    evidence = Evidence(
        found, neighbours, comparison, _embedding(run, found), _steered(run, comparison, found)
    )
    settings = Settings(run=str(options.run), images=options.images, room=options.room)
    content = page_of(evidence, settings)
    if evaluation_state(evaluation) is State.MISSING:
        found.evaluation.save(run.path(REPORT))
    elif run.has(REPORT):
        remove_temporary(run.folder, REPORT)  # of a command that was killed
    figures = _figures(content.drawn, watch.progress)
    files = {page.parent / "figures" / name: data for name, data in figures.items()}
    files[page] = render(content).encode()
    with record.writing(list(files), overwrite=options.overwrite) as drafts:
        for draft, data in zip(drafts, files.values(), strict=True):
            draft.write_bytes(data)
    return ReportResult(page)


def require_free(options: ReportOptions, *, overwrite: bool) -> None:
    """Check that no page is there that this command knows nothing of.

    Raises:
        TargetExistsError: If one is.
    """
    if not _recorded_at(options).is_file():
        refuse_existing(_page(options), overwrite=overwrite)


def state(options: ReportOptions) -> State:
    """Whether the page is there as `work` would make it."""
    return _record(options).state


def _page(options: ReportOptions) -> Path:
    return (options.output or Run(options.run).path(PAGE)) / "index.html"


def _recorded_at(options: ReportOptions) -> Path:
    run = Run(options.run)
    return run.record("report", run.place_of(_page(options)))


def _record(options: ReportOptions) -> Artifact:
    inputs = (FEATURES, CLASSES, HEAD, NEIGHBORS, CORRECTION, COMPARISON, STEERED, EMBEDDING)
    run, page = Run(options.run), _page(options)
    return record_of(run, "report", options, *inputs, what=run.place_of(page), of=page)


def _comparison(run: Run, options: ReportOptions) -> Comparison | None:
    """The comparison on the same samples, if there is one.

    Raises:
        StaleInputError: If it was made from something that has changed since.
    """
    if not run.has(COMPARISON):
        command = in_words(call("compare"), options)
        logger.info("no comparison with simpler methods yet: run %s for one", command)
        return None
    run.require_fresh(COMPARISON)
    comparison = Comparison.load(run.path(COMPARISON))
    if comparison.on != options.on:
        logger.warning(
            "the comparison is on %s and left out; run %s",
            comparison.on,
            in_words(call("compare", on=options.on, overwrite=True), options),
        )
        return None
    return comparison


def _steered(run: Run, comparison: Comparison | None, found: Evaluated) -> tuple[Steered, ...]:
    """The comparison's methods with all their offsets, if it has left them."""
    if comparison is None or not run.has(STEERED):
        return ()
    samples, classes = len(found.store), len(found.evaluation.classes)
    methods, plan = load_steered(run.path(STEERED), samples=samples, classes=classes)
    if plan != dict(comparison.provenance):
        logger.warning("%s is of another comparison and left out", run.path(STEERED))
        return ()
    return methods


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


def _figures(drawn: Sequence[Drawn], progress: Progress) -> dict[str, bytes]:
    """Each figure as SVG, PNG and CSV, by the file's name."""
    found = {}
    with progress("figures", len(drawn)) as advance:
        for one in drawn:
            name = one.picture.name
            found[f"{name}.svg"] = one.svg.encode()
            found[f"{name}.png"] = png_bytes(one.picture.drawing, one.picture.title)
            found[f"{name}.csv"] = one.picture.csv().encode()
            advance(1)
    return found
