"""The comparison of OLTR and its competitors on glyphs: its script, small, and its tables."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from alphafix.demo.glyphs import Glyphs, GlyphSplit, load_glyphs

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "glyphs_lt"

# Training images of the classes that the small run keeps: two of each split.
KEPT = {"few": (5, 19), "medium": (20, 40), "many": (101, 160)}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    # The processes that the script starts get this path too.
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("oltr_comparison"), importlib.import_module("oltr_tables")


def some_classes(glyphs: Glyphs) -> Glyphs:
    counts = np.bincount(glyphs.train.labels)
    kept = np.concatenate(
        [np.flatnonzero((counts >= low) & (counts <= high))[:2] for low, high in KEPT.values()]
    )
    kept.sort()

    def part(split: GlyphSplit) -> GlyphSplit:
        rows = np.isin(split.labels, kept)
        labels = np.searchsorted(kept, split.labels[rows]).astype(np.int16)
        return GlyphSplit(split.images[rows], labels, split.faces[rows])

    return replace(
        glyphs,
        train=part(glyphs.train),
        val=part(glyphs.val),
        test=part(glyphs.test),
        open_images=glyphs.open_images[:40],
        open_code_points=glyphs.open_code_points[:40],
        code_points=glyphs.code_points[kept],
        natural_counts=glyphs.natural_counts[kept],
    )


def test_comparison__small_run(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, tables = modules
    rows = tuple(row for row in script.OTHERS if row.name in ("range", "OLTR"))
    monkeypatch.setattr(script, "OTHERS", rows)
    script.make_data(some_classes(load_glyphs()), tmp_path)
    manifest = json.loads((tmp_path / "lists" / "manifest.json").read_text())
    assert manifest["splits"] == {"few": 2, "medium": 2, "many": 2}
    assert manifest["images"]["open"] == 40
    results = script.measure(tmp_path, range(1), 1, {"epochs": (1, 1), "batch_size": 32})
    found = {run["row"]: run for run in results["runs"]}
    assert list(found) == ["plain", "range", "OLTR"]
    for run in found.values():
        assert run["accepting_95"]["known_accepted"] is not None
        assert 0 <= run["distances"]["auroc"] <= 100
    assert [one["rank"] for one in found["range"]["openmax_ranks"]] == [1, 2, 5]
    (medians,) = results["lengths"]
    assert 0 < medians["unknown"]["squashed"] < 1
    text = tables.markdown(json.loads(json.dumps(results)))
    assert "| range + OpenMax |" in text
    assert text.count("| OLTR |") == 6


def run_of(
    row: str, overall: float, *, openmax: bool = False, seed: int = 0, seconds: float | None = 90
) -> dict[str, Any]:
    shares = {"many": 1.0, "medium": 2.0, "few": 3.0, "overall": overall}
    recognition = {
        "method": row,
        "closed": shares,
        "open": {**shares, "few": None},
        "f_measure": 50.0,
        "f_measure_old": 60.0,
        "known_accepted": 90.0,
        "unknown_accepted": 10.0,
    }
    detection = {"method": "max-softmax", "detection_error": 20.0, "auroc": 80.0}
    kinds = [detection, {**detection, "method": "OpenMax", "auroc": 70.0}][: 1 + openmax]
    return {
        "row": row,
        "tables": ["methods"],
        "recognition": [recognition] * len(kinds),
        "detection": kinds,
        "accepting_95": recognition,
        "seed": seed,
        "cpu_seconds": seconds,
    }


def test_tables__mean_and_deviation_over_seeds(modules: tuple[ModuleType, ModuleType]) -> None:
    _, tables = modules
    runs = [run_of("one", 10.0, openmax=True), run_of("one", 13.0), run_of("other", 7.0)]
    closed, opened, *_ = tables.markdown({"runs": runs, "lengths": []}).split("\n\n")[1::2]
    assert "| one | 1.0 ± 0.0 | 2.0 ± 0.0 | 3.0 ± 0.0 | 11.5 ± 2.1 |" in closed
    assert "| one + OpenMax | 1.0 | 2.0 | 3.0 | 10.0 |" in closed
    assert "| other | 1.0 | 2.0 | n/a | 7.0 | 50.0 | 60.0 | 80.0 | 20.0 | 10.0 |" in opened


def test_tables__time_of_interrupted_seeds_is_left_out(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    _, tables = modules
    runs = [run_of("one", 1.0), run_of("other", 1.0, seconds=150)]
    assert "all trainings and evaluations: 4 minutes." in tables.markdown(
        {"runs": runs, "lengths": []}
    )
    runs += [run_of("one", 1.0, seed=1, seconds=None), run_of("other", 1.0, seed=1, seconds=1)]
    assert "all trainings and evaluations: 4 minutes." in tables.markdown(
        {"runs": runs, "lengths": []}
    )
    assert "Processor time" not in tables.markdown({"runs": runs[2:], "lengths": []})


def test_readme__shows_the_tables_of_the_results(modules: tuple[ModuleType, ModuleType]) -> None:
    _, tables = modules
    results = json.loads((EXAMPLE / "results" / "oltr.json").read_text(encoding="utf-8"))
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert tables.markdown(results) in readme
    assert len(results["runs"]) == 3 * 12
