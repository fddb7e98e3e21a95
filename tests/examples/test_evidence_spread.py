"""What the evidence scripts print of a single measurement: no ±, which would be of nothing."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Modules = Callable[[str], ModuleType]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Modules:
    """Imports a module of the scripts."""
    for name in ("glyphs_lt", "text", "evidence"):
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
    return importlib.import_module


def of(columns: Iterable[str], value: float) -> dict[str, float]:
    return dict.fromkeys(columns, value)


def long_tail(module: Modules, count: int) -> str:
    columns = module("long_tail").COLUMNS
    row = {"method": "lda", "measured": count, "mean": of(columns, 4.0), "sd": of(columns, 0.5)}
    return "\n".join([*module("long_tail").table([row]), module("write_tables").accuracies(row)])


def open_set(module: Modules, count: int) -> str:
    columns = module("open_set").COLUMNS
    row = {
        "problem": "icons",
        "method": "lda",
        "repeats": count,
        "mean": of(columns, 4.0),
        "change": of(columns, 1.0),
        "change_error": of(columns, 0.5),
    }
    return "\n".join(module("open_set").table([row]))


def corrections(module: Modules, count: int) -> str:
    rows = [
        {
            "problem": "icons",
            "method": name,
            "change": -limit,
            "few": few,
            "by_draw": [few + 0.5 * place**2 for place in range(count)],
            "out_of_reach": 0.0,
        }
        for name, few in (("lda", 4.0), ("few-bias", 3.0), ("auto", 2.0))
        for limit in module("corrections").LIMITS
    ]
    for row in rows:  # so that differences of draws differ, too
        if row["method"] == "few-bias":
            row["by_draw"] = [3.0] * count
    return "\n".join(module("corrections").table(rows))


def oltr(module: Modules, count: int) -> str:
    def tiers(few: float) -> Mapping[str, object]:
        one = {"corrected": {"value": few}, "change": {"value": few - 1}}
        return of(module("oltr_pictures").TIERS, 0) | {
            tier: {"top1": one} for tier in module("oltr_pictures").TIERS
        }

    results = {"alphanet": [{"row": "plain", "splits": tiers(3.0 + one)} for one in range(count)]}
    return "\n".join(module("oltr_pictures").corrected(results))


def claims(module: Modules, count: int) -> str:
    values = np.arange(1.0, count + 1)
    return str(module("claims").told({"what": "K 2", **module("claims").mean_of(values)}))


def trade_off(module: Modules, count: int) -> str:
    accuracies = [{"few": 4.0 + one} for one in range(count)]
    return str(module("trade_off_demo").over_seeds(accuracies, "few"))


@pytest.mark.parametrize("told", [long_tail, open_set, corrections, oltr, claims, trade_off])
def test_tables__have_a_deviation_of_several_measurements_and_none_of_one(
    module: Modules, told: Callable[[Modules, int], str]
) -> None:
    assert re.search(r"\d ?± ?\d", told(module, 3))
    one = told(module, 1)
    assert re.search(r"\d\.\d", one)
    assert "±" not in one
