"""A model card for a patched model: what changed, how, and what it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alphafix.checkpoints.patch.planning import PatchPlan
from alphafix.shown import in_one_line, visible


def model_card(plan: PatchPlan, target: str, provenance: Mapping[str, Any], command: str) -> str:
    """Return the card as Markdown.

    Args:
        plan: What was changed.
        target: Name of the patched file.
        provenance: How it was made, with the accuracies under "effect" if there are any.
        command: The command line that patches.
    """
    changes = "\n".join(
        f"| `{_name(change.tensor.name)}` | {change.tensor.dtype} | "
        f"{len(change.rows)} of {change.num_classes} |"
        for change in plan.changes
    )
    original = _name(plan.checkpoint.path.name)
    parts = [
        "---\ntags:\n- long-tail\n- alphafix\n---",
        f"# {_name(target)}",
        f"`{original}` with corrected rows for {len(plan.classes)} classes in its last layer, "
        f"made by alphafix with the method "
        f"`{provenance.get('method', 'alphanet')}`. Every other byte of every other tensor is "
        "that of the original.",
        f"## What changed\n\n| tensor | dtype | rows |\n|---|---|---|\n{changes}",
        _accuracy(provenance.get("effect")),
        _limit(provenance.get("chosen")),
        f"## How\n\n```\n{command}\n```",
        "## Exact options, versions and hashes\n\n```json\n"
        f"{json.dumps(provenance, indent=2, sort_keys=True, ensure_ascii=False)}\n```",
    ]
    return visible("\n\n".join(part for part in parts if part) + "\n")


def _name(text: str) -> str:
    """A name of others within a line of Markdown, as code or in a table."""
    return in_one_line(text).replace("`", "'").replace("|", "\\|")


def _accuracy(effect: Mapping[str, Any] | None) -> str:
    if effect is None:
        return "## Accuracy\n\nNot measured: there were no validation features."
    lines = [
        f"| {split} | {_percent(row['base'])} | {_percent(row['written'])} |"
        for split, row in effect["accuracy"].items()
    ]
    return (
        f"## Accuracy\n\nTop-1 in percent on {effect['samples']:,} {effect['on']} samples. Gains "
        "on rare classes are paid for with others: read all rows.\n\n"
        "| split | before | after |\n|---|---|---|\n" + "\n".join(lines) + "\n\n"
        "Rounding to the file's element type changes the prediction of "
        f"{effect['changed_by_rounding']} samples."
    )


def _limit(chosen: Mapping[str, Any] | None) -> str:
    """What is promised of fresh samples, or no longer is."""
    promise = (chosen or {}).get("promise")
    return "" if promise is None else f"## Limit\n\n{in_one_line(promise['text'])}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
