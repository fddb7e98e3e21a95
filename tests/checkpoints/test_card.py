"""The model card: what it says, and that Hugging Face's own library reads it as it is meant."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils._validators import validate_repo_id
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from alphafix.checkpoints.patch.planning import make_plan
from alphafix.commands.app import app
from alphafix.metrics.evaluation import Evaluation
from alphafix.report.card import MOST_CLASSES, CardOf, Origin, model_card
from alphafix.run.directory import CORRECTION, HEAD, REPORT, Provenance
from alphafix.values.correction import Chosen, Correction
from tests.common import make_problem, write_run

LIMIT = "few-split +30.0 points, at most 2 points lost overall with 95% confidence."


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A model file, and a run directory with a correction under a limit."""
    problem = make_problem()
    few = problem.classes.few
    bias = problem.head.bias_or_zeros
    save_file({"fc.weight": problem.head.weight, "fc.bias": bias}, tmp_path / "model.safetensors")
    run = write_run(tmp_path / "run", problem)
    head = {"backbone": "timm:hf_hub:someone/some-model", "data": "/home/me/birds"}
    provenance = Provenance("extract", head, {}).to_dict()
    problem.head.save(run.path(HEAD), provenance=provenance, overwrite=True)
    options = {"rho": [0.25], "seeds": 5, "max_overall_drop": 2.0, "device": "cpu"}
    Correction(
        few,
        1.4 * problem.head.weight[few],
        bias[few] + 1,
        chosen=Chosen({"rho": 0.25, "k": 5}, promise={"text": LIMIT, "holds": True}),
        provenance=Provenance("train", options, run.hashes(HEAD)).to_dict(),
    ).save(run.path(CORRECTION))
    return tmp_path


def call(work: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--run", str(work / "run")])


def card_of(work: Path, *words: str) -> ModelCard:
    """The card that patch writes, as Hugging Face's library reads it."""
    place = work / "CARD.md"
    model = str(work / "model.safetensors")
    done = call(work, "patch", model, "--card", str(place), *words)
    assert done.exit_code == 0, done.output
    return ModelCard(place.read_text(encoding="utf-8"))


def passes(card: ModelCard) -> list[EvalResult]:
    """Hold a card against what the hub's library asks for without the hub; its results.

    (`ModelCard.validate` asks the hub's server, which is not there in a test.)
    """
    data: Any = card.data
    validate_repo_id(data.base_model)
    again: Any = ModelCardData(**yaml.safe_load(data.to_yaml()))
    assert again.to_dict() == data.to_dict()
    assert yaml.safe_load(data.to_yaml()) == yaml.safe_load(card.content.split("---\n")[1])
    return list(data.eval_results)


def test_card__passes_the_hubs_library_with_test_results(work: Path) -> None:
    assert call(work, "evaluate", "--bootstraps", "100").exit_code == 0
    card = card_of(work)
    results = passes(card)
    data: Any = card.data
    assert data.base_model == "someone/some-model"
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    evaluation = Evaluation.load(work / "run" / REPORT)
    measured = {}
    for result in results:
        assert (result.task_type, result.metric_type) == ("image-classification", "accuracy")
        assert result.dataset_split == "test"
        measured[str(result.metric_name)] = result.metric_value
    for name, tier in (("Accuracy", "overall"), ("Accuracy, few (rare classes)", "few")):
        corrected = evaluation.tier(tier).figures["top1"].corrected
        assert corrected is not None
        assert measured[name] == pytest.approx(corrected.value / 100, abs=1e-4)
    assert "Top-1 in percent on 240 test samples." in card.text
    assert f"{LIMIT} On the test samples overall accuracy changes by " in card.text


def test_card__without_test_results_says_that_they_are_of_validation(work: Path) -> None:
    card = card_of(work)
    assert {result.dataset_split for result in passes(card)} == {"validation"}
    assert "on 120 validation samples" in card.text
    assert "its gain is too large on average" in card.text


def test_card__without_any_features_has_no_results(work: Path) -> None:
    for split in ("val", "test"):
        (work / "run" / "features" / split / "manifest.json").unlink()
    card = card_of(work)
    assert "model-index" not in yaml.safe_load(card.content.split("---\n")[1])
    assert "Not measured." in card.text


@pytest.mark.slow
def test_card__gets_the_test_results_when_they_are_there(work: Path) -> None:
    card_of(work)
    patched = (work / "model.alphafix.safetensors").read_bytes()
    assert call(work, "evaluate", "--bootstraps", "100").exit_code == 0
    card = card_of(work)
    assert {result.dataset_split for result in passes(card)} == {"test"}
    assert (work / "model.alphafix.safetensors").read_bytes() == patched
    written = (work / "CARD.md").stat().st_mtime_ns
    assert (
        "is up to date"
        in call(
            work, "patch", str(work / "model.safetensors"), "--card", str(work / "CARD.md")
        ).stderr
    )
    assert (work / "CARD.md").stat().st_mtime_ns == written


@pytest.mark.slow
def test_card__an_evaluation_of_another_correction_is_not_its(work: Path) -> None:
    assert call(work, "evaluate", "--bootstraps", "100").exit_code == 0
    there = Correction.load(work / "run" / CORRECTION)
    replace(there, rows=there.rows * 1.1).save(work / "run" / CORRECTION, overwrite=True)
    assert {result.dataset_split for result in passes(card_of(work))} == {"validation"}


def test_card__names_the_classes_that_pay_from_the_worst_on(work: Path) -> None:
    assert call(work, "evaluate", "--bootstraps", "100").exit_code == 0
    text = card_of(work).text
    table = text.split("## Classes that pay")[1].split("## Limit")[0]
    found = Evaluation.load(work / "run" / REPORT).by_class
    names = [int(name) for name in re.findall(r"^\| class (\d+) \|", table, re.MULTILINE)]
    assert names
    assert len(names) <= MOST_CLASSES
    changes = found.change[names]
    assert (np.diff(changes) >= 0).all()
    assert (changes < 0).all()
    assert f"{(found.change < 0).sum()} of 12 classes lose accuracy on test samples" in table
    assert f"{((found.change < 0) & (found.high < 0)).sum()} of them beyond noise" in table


def test_card__has_the_exact_commands_and_the_json_folded(work: Path) -> None:
    text = card_of(work, "--base-model", "org/model").text
    block = text.split("```sh\n")[1].split("```")[0]
    assert block == (
        "alphafix train --run run --rho 0.25 --seeds 5 --max-overall-drop 2.0 --device cpu\n"
        "alphafix patch model.safetensors --run run --card CARD.md --base-model org/model\n"
    )
    assert str(work) not in text
    assert "/home/me" not in text
    folded = text.split("<details>")[1].split("</details>")[0]
    assert json.loads(folded.split("```json\n")[1].split("\n```")[0])["stage"] == "patch"


@pytest.mark.parametrize(
    ("backbone", "library", "base", "tag"),
    [
        ("timm:resnet18", "timm", "model", "image-classification"),
        ("timm:hf-hub:a/b", "timm", "a/b", "image-classification"),
        ("hf:folder", "transformers", "model", "image-classification"),
        ("torchvision:resnet18", "torchvision", "model", "image-classification"),
        (None, "pytorch", "model", None),
    ],
)
def test_metadata__follows_the_backbone(
    backbone: str | None, library: str, base: str, tag: str | None, work: Path
) -> None:
    card = ModelCard(of_parts(work, Origin(backbone)))
    data: Any = card.data
    assert (data.library_name, data.base_model, data.pipeline_tag) == (library, base, tag)
    validate_repo_id(data.base_model)


def test_card__text_of_others_is_text(work: Path) -> None:
    """Names that would end the metadata, a table, a block or the page around it."""
    assert call(work, "evaluate", "--bootstraps", "100").exit_code == 0
    evaluation = Evaluation.load(work / "run" / REPORT)
    names = tuple(f"--- | ``` <script>{i}</script>\n---\x1b" for i in range(12))
    evaluation = replace(evaluation, classes=replace(evaluation.classes, names=names))
    odd = "a: [b\n---\n# c"
    text = of_parts(work, Origin("timm:x", odd), evaluation, target=odd, method="`x`\n# y")
    assert len(passes(ModelCard(text))) == 4
    assert "\x1b" not in text
    assert "<script>" not in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# a: [b\\n---\\n# c"]


def of_parts(
    work: Path,
    origin: Origin,
    evaluation: Evaluation | None = None,
    *,
    target: str = "model.alphafix.safetensors",
    method: str = "alphanet",
) -> str:
    problem = make_problem()
    few = problem.classes.few
    correction = Correction(few, 2 * problem.head.weight[few], None)
    plan = make_plan(work / "model.safetensors", problem.head, correction)
    return model_card(CardOf(plan, target, {"method": method}, origin, evaluation, ()))


def test_card__of_a_kept_base_model_says_so(work: Path) -> None:
    there = Correction.load(work / "run" / CORRECTION)
    kept = replace(there.chosen, settings={"base": "nothing is better"})
    head = make_problem().head
    replace(
        there,
        rows=head.weight[there.classes],
        biases=head.bias_or_zeros[there.classes],
        chosen=kept,
    ).save(work / "run" / CORRECTION, overwrite=True)
    assert "the base model is kept (nothing is better)" in card_of(work).text
