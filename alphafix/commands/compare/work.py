"""`alphafix compare`: AlphaNet, its control and all rivals, side by side."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from alphafix.alphanet.measure import trial_accuracies
from alphafix.commands.command import Watch
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.evaluate.work import open_features
from alphafix.errors import InputError
from alphafix.features.store import FeatureStore
from alphafix.metrics.comparison import BASE, Comparison, Measured, Method, verdict
from alphafix.metrics.predictions import Scorer, predict
from alphafix.metrics.trade_off import trade_off
from alphafix.progress import Progress
from alphafix.report.style import png_bytes, svg_text, write_bytes
from alphafix.report.tradeoff import draw_trade_off
from alphafix.rivals import METHODS, SIMPLE_METHODS, fit
from alphafix.rivals import alphanet as ours
from alphafix.rivals.few_bias import contest
from alphafix.rivals.material import Fitted, Material
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import CLASSES, COMPARISON, HEAD, NEIGHBORS, Provenance, Run
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Trials
from alphafix.values.head import Head
from alphafix.values.neighbors import Neighbours

logger = logging.getLogger(__name__)

# Points of the few-bias curve that are kept for the picture.
CURVE_POINTS = 200


@dataclass
class _Field:
    """The methods of a comparison as they are fitted."""

    methods: list[Method] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)
    fitted: list[Fitted] = field(default_factory=list)

    def add(
        self,
        found: Fitted,
        family: str,
        seconds: float,
        seeds: Mapping[str, Any] | None = None,
    ) -> None:
        method = Method(
            found.method,
            family,
            family == "base" or found.correction is not None,
            found.settings,
            found.val,
            seeds,
            round(seconds, 2),
        )
        self.methods.append(method)
        self.scorers.append(found.logits)
        self.fitted.append(found)


@dataclass(frozen=True)
class _Task:
    """What is compared on what."""

    options: CompareOptions
    train: FeatureStore
    val: FeatureStore
    test: FeatureStore
    material: Material
    k: int


@dataclass(frozen=True)
class CompareResult:
    """A comparison as it is in the run directory.

    Attributes:
        comparison: The comparison.
        files: What was written.
    """

    comparison: Comparison
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return self.comparison.to_dict()


def work(options: CompareOptions, watch: Watch) -> CompareResult:
    """Fit every method on the same features and measure all on the same samples.

    Writes compare.json, compare.svg and compare.png.

    Raises:
        MissingStageError: If features, head or neighbours are not there yet.
        StaleInputError: If the neighbours were made from other features.
        InputError: If the options name an unknown method, or the data do not fit together.
        TargetExistsError: If there is another comparison already.
    """
    run = Run(options.run)
    artifact = _artifact(options)
    pictures = [run.path(f"compare.{suffix}") for suffix in ("svg", "png")]
    files = (artifact.path, *pictures)
    if artifact.check(overwrite=options.overwrite):
        logger.info("%s is up to date", artifact.path)
        return CompareResult(Comparison.load(artifact.path), files)
    comparison = compare(run, options, watch.progress)
    comparison.save(artifact.path, overwrite=options.overwrite)
    drawn = draw_trade_off(comparison)
    write_bytes(pictures[0], svg_text(drawn).encode())
    write_bytes(pictures[1], png_bytes(drawn))
    return CompareResult(comparison, files)


def state(options: CompareOptions) -> State:
    """Whether the comparison is there as `work` would make it."""
    return _artifact(options).state if Run(options.run).has(COMPARISON) else State.MISSING


def _artifact(options: CompareOptions) -> Artifact:
    run = Run(options.run)
    run.require_fresh(NEIGHBORS)
    return run.artifact(COMPARISON, _provenance(run, options))


def compare(run: Run, options: CompareOptions, progress: Progress) -> Comparison:
    """Fit every method on the same features and measure all on the same samples."""
    task = _task(run, options)
    fitted = _Field()
    head = task.material.head
    fitted.add(Fitted(BASE, head.logits, {}, task.material.rule.base), "base", 0.0)
    _fit_alphanet(task, fitted, progress)
    _fit_rivals(task, fitted, progress)
    if options.on_top:
        _fit_on_top(task, fitted, progress)
    labels = task.test.labels
    predictions = predict(task.test, fitted.scorers, progress=progress)
    correct = np.stack([found.predicted == labels for found in predictions], axis=1)
    measured = Measured(
        task.material.classes,
        labels,
        fitted.methods,
        correct,
        draws=options.bootstraps,
        seed=options.seed,
    )
    rows = measured.rows(options.max_overall_drop)
    return Comparison(
        classes=task.material.classes,
        on=options.on,
        samples=len(labels),
        max_overall_drop=options.max_overall_drop,
        rows=rows,
        verdict=verdict(measured, rows),
        settings={"bootstrap_draws": options.bootstraps, "seed": options.seed},
        curves={"few-bias": _curve(task)},
        by_k=_by_k(task, progress),
        provenance=_provenance(run, options).to_dict(),
    )


def _task(run: Run, options: CompareOptions) -> _Task:
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        raise InputError(
            f"there is no method {unknown[0]}", expected=", ".join(METHODS), todo="see --methods"
        )
    classes = ClassTable.load(run.require(CLASSES))
    classes.require_correctable()
    head = Head.load(run.require(HEAD))
    stores = {split: open_features(run, split) for split in ("train", "val", options.on)}
    for store in stores.values():
        head.require_match(width=store.width, num_classes=store.num_classes)
    run.require_fresh(NEIGHBORS)
    material = Material.of(
        stores["train"],
        stores["val"],
        head,
        classes,
        max_overall_drop=options.max_overall_drop,
        seed=options.seed,
    )
    k = Neighbours.load(run.path(NEIGHBORS)).k
    return _Task(options, stores["train"], stores["val"], stores[options.on], material, k)


def _provenance(run: Run, options: CompareOptions) -> Provenance:
    splits = sorted({"train", "val", options.on})
    inputs = run.hashes(CLASSES, HEAD, NEIGHBORS, *map(run.manifest, splits))
    return Provenance("compare", options.recorded(), inputs)


def _fit_alphanet(task: _Task, fitted: _Field, progress: Progress) -> None:
    """AlphaNet over rho, with nearest and with random neighbours, and calibrated."""
    options, material = task.options, task.material
    calibrated = []
    for name, family, metric in (
        ("alphanet", "alphanet", "euclidean"),
        ("alphanet random", "random", "random"),
    ):
        start = time.perf_counter()
        trials = ours.train_trials(
            task.train,
            task.val,
            material,
            rhos=options.rho,
            k=task.k,
            seeds=range(options.seed, options.seed + options.seeds),
            metric=metric,
            progress=progress,
        )
        seconds = (time.perf_counter() - start) / len(options.rho)
        by_rho = _seed_figures(task, trials)
        for found in ours.fitted(name, material, trials):
            fitted.add(found, family, seconds, by_rho[found.settings["rho"]])
            if family == "alphanet":
                calibrated.append((ours.calibrated(found, material), seconds))
    for found, seconds in calibrated:
        fitted.add(found, "calibrated", seconds)


def _seed_figures(task: _Task, trials: Trials) -> dict[float, dict[str, Any]]:
    """Figures of the single trials by rho, as the paper reports them."""
    material = task.material
    figures = trial_accuracies(trials, material.head, material.classes, task.test)
    rhos = [record["rho"] for record in trials.settings]
    return {
        rho: {
            name: _over_seeds(
                [one[name] for one, own in zip(figures, rhos, strict=True) if own == rho]
            )
            for name in figures[0]
        }
        for rho in dict.fromkeys(rhos)
    }


def _by_k(task: _Task, progress: Progress) -> dict[str, Any]:
    """Figures of single trials by K (the paper's Figure A1)."""
    options, material = task.options, task.material
    found = {}
    for k in sorted({k for k in options.k if k < len(material.classes.base)}):
        trials = ours.train_trials(
            task.train,
            task.val,
            material,
            rhos=[options.one_rho],
            k=k,
            seeds=range(options.seed, options.seed + options.seeds),
            progress=progress,
        )
        found[str(k)] = _seed_figures(task, trials)[options.one_rho]
    return found


def _over_seeds(values: list[float | None]) -> dict[str, Any] | None:
    """Values, mean and standard deviation (ddof = 1); None for an empty split."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"values": known, "mean": float(np.mean(known)), "std": spread}


def _fit_rivals(task: _Task, fitted: _Field, progress: Progress) -> None:
    names = task.options.methods or tuple(METHODS)
    with progress("fitting methods", len(names)) as advance:
        for name in names:
            found, seconds = _timed(partial(fit, name, task.material))
            fitted.add(found, "simple" if name in SIMPLE_METHODS else "trained", seconds)
            advance(1)


def _fit_on_top(task: _Task, fitted: _Field, progress: Progress) -> None:
    """AlphaNet on the head of every other linear method."""
    options = task.options
    below = [
        found
        for found, method in zip(fitted.fitted, fitted.methods, strict=True)
        if method.linear and method.family in ("simple", "trained")
    ]
    stack = partial(
        ours.on_top,
        train=task.train,
        val=task.val,
        material=task.material,
        rho=options.one_rho,
        k=task.k,
        seeds=range(options.seed, options.seed + options.on_top_seeds),
    )
    with progress("AlphaNet on other heads", len(below)) as advance:
        for one in below:
            found, seconds = _timed(partial(stack, one))
            fitted.add(found, "on top", seconds)
            advance(1)


def _timed(work: Callable[[], Fitted]) -> tuple[Fitted, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _curve(task: _Task) -> dict[str, list[float]]:
    """Few and overall accuracy of the base head along its few-bias, on the samples compared."""
    head, labels = task.material.head, task.test.labels
    parts = [
        contest(head.logits(chunk), labels[start : start + len(chunk)], task.material.classes.few)
        for start, chunk in task.test.chunks()
    ]
    joined = type(parts[0])(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]))
    )
    curve = trade_off(joined, task.material.classes)
    wanted = np.unique(np.linspace(0, len(curve.offsets) - 1, CURVE_POINTS).astype(int))
    return {
        "few": curve.accuracy["few"][wanted].tolist(),
        "overall": curve.accuracy["overall"][wanted].tolist(),
    }
