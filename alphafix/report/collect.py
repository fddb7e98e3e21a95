"""From an evaluation, predictions and a comparison to the figures of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphafix.alphanet.measure import trial_accuracies
from alphafix.metrics.accuracy import COLUMNS, Accuracy
from alphafix.metrics.alike import Alike
from alphafix.metrics.comparison import BySeeds, Comparison
from alphafix.metrics.margins import Steered
from alphafix.metrics.predictions import BeforeAfter
from alphafix.oltr.training.embedding import Embedding
from alphafix.openset.evaluating import Evaluated
from alphafix.report.analysis import Pool, neighbour_pools
from alphafix.report.memory_pictures import memory_pictures
from alphafix.report.open_picture import open_curve_picture
from alphafix.report.over_trials import over_trials
from alphafix.report.pictures import (
    Picture,
    Series,
    alpha_by_rho_picture,
    alpha_picture,
    class_change_picture,
    distance_picture,
    flow_picture,
    setting_picture,
)
from alphafix.report.tradeoff import trade_off_drawing
from alphafix.values.arrays import IntArray
from alphafix.values.correction import Correction
from alphafix.values.neighbors import Neighbours

_POOL_WORDS = {
    "few-base": "few-split classes, neighbours among the other classes",
    "base-few": "medium and many classes, neighbours among the few-split classes",
    "all-all": "all classes, neighbours among all others",
}
_FLOW_FIGURES = {"few-base": "5a and 1a", "base-few": "5b", "all-all": "5c"}


@dataclass(frozen=True)
class Evidence:
    """What the figures of a report are drawn from.

    Attributes:
        found: The evaluation with what it was made of.
        neighbours: Class means and K.
        comparison: The comparison with other methods, or None.
        embedding: What the base model's memory does, or None if it has none.
        steered: Methods of the comparison with all their offsets.
    """

    found: Evaluated
    neighbours: Neighbours
    comparison: Comparison | None = None
    embedding: Embedding | None = None
    steered: tuple[Steered, ...] = ()


def pictures(evidence: Evidence) -> list[Picture]:
    """Every figure that the data allow, in the order of the paper."""
    classes = evidence.found.evaluation.classes
    near = evidence.neighbours
    pools = neighbour_pools(near.means, classes, near.k, seen=evidence.found.both.labels)
    found = [
        flow_picture(
            f"flows-{pool.key}",
            f"Predictions on {_POOL_WORDS[pool.key]}",
            f"Samples by prediction group, before and after, and how they move; "
            f"{evidence.neighbours.k} nearest neighbours by class means (as the paper's Figure "
            f"{_FLOW_FIGURES[pool.key]}, of the correction in use).",
            shown,
            pool.alike,
        )
        for pool in pools
        if len((shown := _samples_of(evidence, pool.classes)).labels)
    ]
    if evidence.found.groups is not None:
        found += _group_flows(evidence, evidence.found.groups)
    for pool in pools:
        if pool.key != "base-few":
            found += _distances(evidence, pool)
    found += _settings(evidence)
    found.append(class_change_picture(classes, evidence.found.evaluation.by_class))
    if evidence.found.evaluation.open_set is not None:
        found.append(open_curve_picture(evidence.found.evaluation.open_set))
    found += over_trials(evidence.found, pools)
    found += _alphas(evidence.found.correction)
    if evidence.embedding is not None:
        found += memory_pictures(evidence.embedding, classes)
    return found


def _alphas(correction: Correction) -> list[Picture]:
    """Figures A2, at the chosen rho, and A13-A15, at the chosen K."""
    trials, chosen = correction.trials, correction.chosen
    if trials is None:
        return []
    by_k, by_rho = trials.of_setting(rho=chosen.rho), trials.of_setting(k=chosen.k)
    several = len({record.rho for record in by_rho.records}) > 1
    return [alpha_picture(by_k), *([alpha_by_rho_picture(by_rho)] if several else [])]


def trade_off_picture(comparison: Comparison) -> Picture:
    """The frontier, few-split against overall accuracy."""
    rows = [
        [
            row.method.name,
            row.method.family,
            *(
                None if estimate is None else estimate.value
                for estimate in (row.figures["few"], row.figures["overall"])
            ),
            row.method.within,
            "; ".join(row.dominated_by),
        ]
        for row in comparison.rows
    ]
    header = ["method", "family", "few", "overall", "within_limit", "dominated_by"]
    drawing, values = trade_off_drawing(comparison)
    return Picture(
        "trade-off",
        "The trade-off of all methods",
        "Few-split against overall accuracy of every method: up is better for rare classes, right "
        "is better overall. Filled marks are of methods that no other one dominates.",
        drawing,
        header,
        rows,
        values,
    )


def _samples_of(evidence: Evidence, classes: IntArray) -> BeforeAfter:
    return evidence.found.both.only(np.isin(evidence.found.both.labels, classes))


def _group_flows(evidence: Evidence, groups: Alike) -> list[Picture]:
    """Figure 6: the same with the user's groups in place of neighbours."""
    classes = evidence.found.evaluation.classes
    everything = classes.tier("overall")
    return [
        flow_picture(
            f"groups-{key}",
            f"The same with semantic groups: {_POOL_WORDS[key]}",
            "Neighbours are the classes of the same group (the paper's Figure 6).",
            shown,
            groups.among(others),
        )
        for key, own, others in (
            ("few-base", classes.few, classes.base),
            ("base-few", classes.base, classes.few),
            ("all-all", everything, everything),
        )
        if len((shown := _samples_of(evidence, own)).labels)
    ]


def _distances(evidence: Evidence, pool: Pool) -> list[Picture]:
    results = evidence.found.evaluation.by_class
    classes = evidence.found.evaluation.classes
    whole = pool.key == "all-all"
    words = _POOL_WORDS[pool.key]
    if not np.isfinite(results.change[pool.classes]).any():
        return []  # there is no sample of these classes
    return [
        distance_picture(
            f"accuracy-distance-{pool.key}",
            f"Accuracy before against neighbour distance: {words}",
            f"One point a class (the paper's Figure 1c{', for all classes' if whole else ''}).",
            classes,
            pool.classes,
            pool.distances,
            results.base_accuracy[pool.classes],
            "accuracy before in %",
        ),
        distance_picture(
            f"change-distance-{pool.key}",
            f"Change against neighbour distance: {words}",
            "One point a class (as the paper's Figure 4, of the correction in use).",
            classes,
            pool.classes,
            pool.distances,
            results.change[pool.classes],
            "change in points",
        ),
    ]


def _settings(evidence: Evidence) -> list[Picture]:
    """Figures 3 and A1, from the correction's trials and the comparison's."""
    base = {
        name: estimate.value
        for name in COLUMNS
        if (estimate := evidence.found.evaluation.tier(name).figures["top1"].base) is not None
    }
    by_rho = _comparison_series(evidence.comparison, tuple(base))
    trials = evidence.found.correction.trials
    classes = evidence.found.evaluation.classes
    settings = set() if trials is None else {(one.rho, one.k) for one in trials.records}
    figures = (
        []
        if trials is None or (len(settings) < 2 and not by_rho)  # one point makes no figure
        else trial_accuracies(trials, evidence.found.head, classes, evidence.found.store)
    )
    own = _trial_series(evidence.found.correction, figures, "rho", tuple(base))
    if len(own) > 1 or not by_rho:
        by_rho = {"nearest neighbours": own, **{k: v for k, v in by_rho.items() if "random" in k}}
    by_k = _trial_series(evidence.found.correction, figures, "k", tuple(base))
    if len(by_k) < 2 and evidence.comparison is not None:
        by_k = {
            float(k): _values(found, tuple(base)) for k, found in evidence.comparison.by_k.items()
        }
    found = []
    if any(len(series) > 1 for series in by_rho.values()):
        found.append(
            setting_picture(
                "rho",
                "Change of accuracy against rho",
                "Mean over trials with 95% bootstrap intervals over trials; random neighbours "
                "are the control (the paper's Figure 3).",
                by_rho,
                base,
                "rho",
            )
        )
    if len(by_k) > 1:
        found.append(
            setting_picture(
                "k",
                "Change of accuracy against the number of neighbours",
                "Mean over trials with 95% bootstrap intervals over trials (the paper's Figure "
                "A1).",
                {"nearest neighbours": by_k},
                base,
                "K",
            )
        )
    return found


def _trial_series(
    correction: Correction, figures: Sequence[Accuracy], name: str, tiers: Sequence[str]
) -> Series:
    """Accuracies of the correction's single trials by rho or K, at the chosen other one."""
    trials, chosen = correction.trials, correction.chosen
    if trials is None or not figures:
        return {}
    other = "k" if name == "rho" else "rho"
    series: Series = {}
    for record, accuracy in zip(trials.records, figures, strict=True):
        if getattr(record, other) == getattr(chosen, other):
            values = series.setdefault(float(getattr(record, name)), {tier: [] for tier in tiers})
            for tier in tiers:
                values[tier].append(float(accuracy[tier] or 0.0))
    return series


def _comparison_series(comparison: Comparison | None, tiers: Sequence[str]) -> dict[str, Series]:
    """The same from the comparison, with nearest and with random neighbours."""
    if comparison is None:
        return {}
    found: dict[str, Series] = {}
    for row in comparison.rows:
        seeds = row.method.seeds
        if seeds is not None:
            label = ("random" if row.method.family == "random" else "nearest") + " neighbours"
            found.setdefault(label, {})[float(row.method.settings["rho"])] = _values(seeds, tiers)
    return found


def _values(found: BySeeds, tiers: Sequence[str]) -> dict[str, list[float]]:
    """Values of the single trials in tiers that are not empty."""
    return {tier: list(one.values) for tier in tiers if (one := found[tier]) is not None}
