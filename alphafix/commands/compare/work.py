"""`alphafix compare`: AlphaNet, its control and all rivals, side by side."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from alphafix.commands.command import Watch
from alphafix.commands.compare.options import CompareOptions
from alphafix.commands.train.work import given_in
from alphafix.features.store import FeatureStore
from alphafix.files import atomic_paths, digest, json_text, tensors_as_bytes
from alphafix.metrics.comparison import Comparison
from alphafix.metrics.limits import Limits
from alphafix.metrics.margins import steered_tensors
from alphafix.report.drawing import figure
from alphafix.report.style import png_bytes, svg_text
from alphafix.rivals.comparing import CompareSettings, compare
from alphafix.rivals.kept import FinishedMethods
from alphafix.run.artifact import Artifact, State
from alphafix.run.directory import (
    CLASSES,
    COMPARISON,
    CORRECTION,
    FITTED,
    HEAD,
    NEIGHBORS,
    STEERED,
    Provenance,
    Run,
)
from alphafix.values.correction import Correction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareResult:
    """A comparison as it is in the run directory."""

    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return self.comparison.to_dict()


def work(options: CompareOptions, watch: Watch) -> CompareResult:
    """Fit every method on the same features and measure all on the same samples.

    Writes compare.json, compare.svg, compare.png and compare.safetensors.

    Raises:
        MissingStageError: If features, head or neighbours are not there yet.
        StaleInputError: If the neighbours were made from other features.
        InputError: If the options name an unknown method, or the data do not fit together.
        TargetExistsError: If there is another comparison already.
    """
    settings = settings_of(options)
    run = Run(options.run)
    artifact = _artifact(options)
    pictures = [run.path(f"compare.{suffix}") for suffix in ("svg", "png")]
    if artifact.check(overwrite=options.overwrite):
        there = Comparison.load(artifact.path)
        if not there.left_out:
            logger.info("%s is up to date", artifact.path)
            FinishedMethods(run.path(FITTED) / "compare", "").clear()  # of a killed command
            return CompareResult(there)
    test = FeatureStore.open(run.features(options.on), verify=options.verify)
    given = given_in(run, verify=options.verify)
    # Neither the test samples nor what ships has a part in the methods.
    inputs = run.hashes(*map(run.manifest, ("train", "val")), CLASSES, HEAD, NEIGHBORS)
    made_from = digest([inputs, artifact.plan["versions"]])
    finished = FinishedMethods(run.path(FITTED) / "compare", made_from, like=run.path(HEAD))
    found = compare(
        given,
        test,
        settings,
        on=options.on,
        shipped=_shipped(run),
        finished=finished,
        progress=watch.progress,
    )
    if found.left_out:
        logger.warning("the time was up for: %s", ", ".join(found.left_out))
    comparison = replace(found, provenance=dict(artifact.plan))
    drawn = figure(comparison)
    files = {
        pictures[0]: svg_text(drawn).encode(),
        pictures[1]: png_bytes(drawn),
        run.path(STEERED): tensors_as_bytes(
            *steered_tensors(comparison.steered, comparison.provenance)
        ),
        artifact.path: json_text(comparison.to_dict()).encode(),
    }
    # Pictures that are there without a comparison are of one that was cut off.
    with atomic_paths(list(files), overwrite=True) as drafts:
        for draft, data in zip(drafts, files.values(), strict=True):
            draft.write_bytes(data)
    if not comparison.left_out:
        finished.clear()
    return CompareResult(comparison)


def _shipped(run: Run) -> Correction | None:
    """The correction in the run directory, if there is one."""
    return Correction.load(run.path(CORRECTION)) if run.has(CORRECTION) else None


def state(options: CompareOptions) -> State:
    """Whether the comparison is there as `work` would make it."""
    run = Run(options.run)
    if not run.has(COMPARISON):
        return State.MISSING
    found = _artifact(options).state
    left = found is State.CURRENT and (run.path(FITTED) / "compare").exists()
    if left and not Comparison.load(run.path(COMPARISON)).left_out:
        return State.UNFINISHED
    return found


def _artifact(options: CompareOptions) -> Artifact:
    run = Run(options.run)
    splits = sorted({"train", "val", options.on})
    shipped = [CORRECTION] if run.has(CORRECTION) else []
    inputs = run.hashes(*map(run.manifest, splits), CLASSES, HEAD, NEIGHBORS, *shipped)
    run.require_fresh(NEIGHBORS)
    return run.artifact(COMPARISON, Provenance("compare", options.recorded(), inputs))


def settings_of(options: CompareOptions) -> CompareSettings:
    """The options as the library takes them."""
    return CompareSettings(
        methods=options.methods,
        rhos=options.rho,
        seeds=options.seeds,
        ks=options.k,
        on_top_seeds=options.on_top_seeds if options.on_top else 0,
        one_rho=options.one_rho,
        limits=Limits(max_overall_drop=options.max_overall_drop, confidence=options.confidence),
        draws=options.bootstraps,
        seed=options.seed,
        seconds=options.time,
    )
