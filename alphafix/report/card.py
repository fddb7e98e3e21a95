"""A model card for a patched model, with the metadata that Hugging Face reads.

What it says and where follows the hub's format: YAML between two lines of dashes, with the results
under ``model-index``, then Markdown (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from alphafix.checkpoints.patch.planning import PatchPlan
from alphafix.errors import counted
from alphafix.metrics.evaluation import Evaluation
from alphafix.report.cells import estimate, number
from alphafix.report.ci import escape
from alphafix.shown import in_one_line, visible
from alphafix.values.classes import TIERS

# Classes in the table of those that lose; all are in report.json.
MOST_CLASSES = 10

# The library that loads a model, by the kind of backbone that it is.
_LIBRARIES = {
    "timm": "timm",
    "hf": "transformers",
    "torchvision": "torchvision",
    "onnx": "onnx",
    "torchscript": "pytorch",
    "export": "pytorch",
    "python": "pytorch",
    "oltr": "pytorch",
}

_TIERS = {
    "few": "few (rare classes)",
    "medium": "medium",
    "many": "many",
    "base": "other (medium and many)",
    "overall": "overall",
}


@dataclass(frozen=True)
class Origin:
    """Where the model and the samples are from.

    Attributes:
        backbone: The backbone's specification, or None where features came without one.
        data: What the images were read from, or None.
        base_model: The original model's name on a hub, or None.
    """

    backbone: str | None = None
    data: str | None = None
    base_model: str | None = None


@dataclass(frozen=True)
class CardOf:
    """What a card is of.

    Attributes:
        plan: What was changed.
        target: Name of the patched file.
        provenance: How it was made, as JSON data.
        origin: Where the model and the samples are from.
        evaluation: The original model against the corrected one, or None where it was not measured.
        commands: The command lines that train and patch, those that are known.
    """

    plan: PatchPlan
    target: str
    provenance: Mapping[str, Any]
    origin: Origin
    evaluation: Evaluation | None
    commands: Sequence[str]


def model_card(card: CardOf) -> str:
    """Return the card as Markdown."""
    parts = [
        _metadata(card),
        f"# {_name(card.target)}",
        _summary(card),
        _accuracy(card.evaluation, card.provenance.get("effect")),
        _paying(card.evaluation),
        _limit(card.provenance.get("chosen"), card.evaluation),
        _changes(card.plan),
        "## How\n\n```sh\n" + "\n".join(map(in_one_line, card.commands)) + "\n```",
        "<details>\n<summary>Exact options, versions and hashes (JSON)</summary>\n\n```json\n"
        f"{json.dumps(card.provenance, indent=2, sort_keys=True, ensure_ascii=False)}\n```\n\n"
        "</details>",
    ]
    return visible("\n\n".join(part for part in parts if part) + "\n")


def _metadata(card: CardOf) -> str:
    """What the hub reads; what is not known is left out."""
    kind = (card.origin.backbone or "").partition(":")[0]
    stored = card.plan.checkpoint.format.name
    data: dict[str, Any] = {
        "base_model": _base_model(card),
        "library_name": _LIBRARIES.get(kind, "onnx" if stored == "onnx" else "pytorch"),
        "tags": ["long-tail", "alphafix"],
    }
    if kind:  # features of another tool may be of anything
        data["pipeline_tag"] = "image-classification"
    if card.evaluation is not None:
        task = "image-classification" if kind else "other"
        data["model-index"] = [_results(card, card.evaluation, task)]
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=88)
    return f"---\n{text}---"


def _base_model(card: CardOf) -> str:
    """The original model: as the user or the backbone names it on the hub, or by its file."""
    if card.origin.base_model is not None:
        return card.origin.base_model
    found = re.search(r"hf[-_]hub:([\w.-]+/[\w.-]+)", card.origin.backbone or "")
    return found[1] if found else _slug(Path(card.plan.checkpoint.path.name).stem)


def _results(card: CardOf, evaluation: Evaluation, task: str) -> dict[str, Any]:
    """The corrected model's accuracies, as the hub's ``model-index`` has them."""
    name = Path(card.origin.data or "").name or "features"
    metrics = [
        {"type": "accuracy", "value": round(top1.corrected.value / 100, 4), "name": words}
        for tier in ("overall", *TIERS)
        if (top1 := evaluation.tier(tier).figures["top1"]).corrected is not None
        for words in ["Accuracy" if tier == "overall" else f"Accuracy, {_TIERS[tier]}"]
    ]
    on = {"val": "validation"}.get(evaluation.on, evaluation.on)
    dataset = {"name": in_one_line(name), "type": _slug(name).lower(), "split": on}
    found = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    return {"name": in_one_line(Path(card.target).stem), "results": [found]}


def _slug(text: str) -> str:
    """A name as the hub's names are: letters, digits, single dots and dashes."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    return re.sub(r"([.-])[.-]+", r"\1", plain).strip("-.") or "unnamed"


def _summary(card: CardOf) -> str:
    original, method = _name(card.plan.checkpoint.path.name), card.provenance.get("method")
    kept = dict(card.provenance.get("chosen") or {}).get("base")
    if kept is not None:
        return (
            f"`{original}` as it is: no correction was good enough, so that the base model is "
            f"kept ({escape(str(kept))})."
        )
    return (
        f"`{original}` with corrected rows for {counted(len(card.plan.classes), 'class')} in its "
        f"last layer, made by alphafix with the method `{_name(str(method or 'alphanet'))}`. Every "
        "other byte of every other tensor is that of the original."
    )


def _name(text: str) -> str:
    """A name of others within a line of Markdown, as code or in a table."""
    return in_one_line(text).replace("`", "'").replace("|", "\\|")


def _accuracy(evaluation: Evaluation | None, effect: Mapping[str, Any] | None) -> str:
    """The table before and after."""
    if evaluation is None:
        return "## Accuracy\n\nNot measured."
    rows = [
        f"| {_TIERS[tier.name]} | {tier.classes:,} | {tier.samples:,} | {number(top1.base.value)} "
        f"| {number(top1.corrected.value)} | {estimate(top1.change, sign=True)} |"
        for tier in evaluation.tiers
        if (top1 := tier.figures["top1"]).base is not None and top1.corrected is not None
    ]
    where = f"{evaluation.samples:,} {_samples(evaluation)} samples"
    caution = (
        ""
        if evaluation.on == "test"
        else " The correction was chosen on these samples, so that its gain is too large on "
        "average; `alphafix evaluate` on test samples says what it is."
    )
    rounding = (
        ""
        if effect is None
        else f" Rounding to the file's element type changes {effect['changed_by_rounding']} "
        f"predictions on {effect['samples']:,} validation samples."
    )
    return (
        f"## Accuracy\n\nTop-1 in percent on {where}. Gains on rare classes are paid for with "
        f"others: read all rows.{caution}\n\n"
        "| classes | number | samples | before | after | change [95%] |\n"
        "|---|---:|---:|---:|---:|---:|\n" + "\n".join(rows) + "\n\n"
        f"{escape(evaluation.classes.describe())}. [ ]: 95% bootstrap interval, "
        f"{evaluation.resampling.draws:,} draws of samples within classes.{rounding}"
    )


def _samples(evaluation: Evaluation) -> str:
    return {"val": "validation"}.get(evaluation.on, escape(evaluation.on))


def _paying(evaluation: Evaluation | None) -> str:
    """The classes that lose most, by name."""
    if evaluation is None:
        return ""
    found, table = evaluation.by_class, evaluation.classes
    losing = np.flatnonzero(found.change < 0)
    if not len(losing):
        return "## Classes that pay\n\nNone loses accuracy on these samples."
    sure = int((found.high[losing] < 0).sum())
    worst = losing[np.argsort(found.change[losing], kind="stable")][:MOST_CLASSES]
    rows = [
        f"| {escape(table.names[i])} | {TIERS[table.tiers[i]]} | {found.samples[i]:,} "
        f"| {number(found.base_accuracy[i])} | {number(found.corrected_accuracy[i])} "
        f"| {found.change[i]:+.1f} [{found.low[i]:+.1f}, {found.high[i]:+.1f}] |"
        for i in worst
    ]
    shown = f"; the {len(worst)} that lose most" if len(worst) < len(losing) else ""
    return (
        f"## Classes that pay\n\n{len(losing):,} of {len(table):,} classes lose accuracy on "
        f"{_samples(evaluation)} samples, {sure:,} of them beyond noise (the 95% interval of the "
        f"class alone is below 0){shown}:\n\n"
        "| class | split | samples | before | after | change [95%] |\n"
        "|---|---|---:|---:|---:|---:|\n" + "\n".join(rows)
    )


def _limit(chosen: Mapping[str, Any] | None, evaluation: Evaluation | None) -> str:
    """What is promised of fresh samples, or no longer is, and what test samples say of it."""
    promise = (chosen or {}).get("promise")
    told = (
        "The correction was chosen without a limit on what it may cost: nothing is promised of "
        "fresh samples."
        if promise is None
        else escape(promise["text"])
    )
    if evaluation is not None and evaluation.on == "test":
        change = evaluation.tier("overall").figures["top1"].change
        told += f" On the test samples overall accuracy changes by {estimate(change, sign=True)}."
    return f"## Limit\n\n{told}"


def _changes(plan: PatchPlan) -> str:
    rows = "\n".join(
        f"| `{_name(change.tensor.name)}` | {change.tensor.dtype} | "
        f"{len(change.rows)} of {change.num_classes} |"
        for change in plan.changes
    )
    return f"## What changed\n\n| tensor | dtype | rows |\n|---|---|---|\n{rows}"
