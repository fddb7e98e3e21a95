"""The report of a real run: its files, and the page in a real browser."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.neighbors.options import NeighborsOptions
from alphafix.commands.report.options import ReportOptions
from alphafix.commands.train.options import TrainOptions
from alphafix.errors import StaleInputError, TargetExistsError
from alphafix.metrics.margins import Margins, Steered
from alphafix.report.page import (
    PAGE_ROWS,
    Classes,
    Drawn,
    Frontier,
    Moved,
    Page,
    Tile,
    render,
)
from alphafix.report.pictures import Picture
from alphafix.report.sprite import Sprite
from alphafix.report.steering import steering
from alphafix.report.style import canvas
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, Run
from alphafix.shown import in_one_line
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.display import Table
from tests.common import make_problem, write_run
from tests.evaluation.problems import corrected_run
from tests.processes import contents
from tests.report.problems import EVIL, evil_problem, open_page, set_media
from tests.stages import find_neighbors, report, train

pytestmark = pytest.mark.slow  # the page and its figures, which most of these share


def test_report__every_figure_as_svg_png_and_csv(page: Path) -> None:
    names = {path.stem for path in (page.parent / "figures").iterdir()}
    assert names == {
        "trade-off",
        "flows-few-base",
        "flows-base-few",
        "flows-all-all",
        "accuracy-distance-few-base",
        "change-distance-few-base",
        "accuracy-distance-all-all",
        "change-distance-all-all",
        "rho",
        "k",
        "class-change",
        "runs-flows-few-base",
        "runs-flows-base-few",
        "runs-flows-all-all",
        "runs-accuracy-distance-few-base",
        "runs-change-distance-few-base",
        "runs-accuracy-distance-all-all",
        "runs-change-distance-all-all",
        "runs-class-change",
        "alphas",
        "alphas-rho",
    }
    for name in names:
        base = page.parent / "figures" / name
        ElementTree.parse(base.with_suffix(".svg"))
        with Image.open(base.with_suffix(".png")) as image:
            image.load()
        with base.with_suffix(".csv").open(newline="") as file:
            header, *rows = list(csv.reader(file))
        assert rows
        assert {len(row) for row in rows} == {len(header)}


def test_report__csv_of_flows_adds_up_to_the_samples(page: Path) -> None:
    with (page.parent / "figures" / "flows-all-all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["samples"]) for row in rows) == 60 * 20


def test_report__again_gives_the_same_bytes(run: Run, page: Path, tmp_path: Path) -> None:
    again = report(ReportOptions(run=run.folder, bootstraps=100, output=tmp_path / "again"))
    before = contents(page.parent)
    # It names the run directory, which was renamed when it was whole.
    before["index.html"] = before["index.html"].replace(b".unfinished/run", b"/run")
    assert contents(again.parent) == before


def test_report__loads_nothing_and_escapes_names(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert EVIL not in text
    assert text.count("<script") == 2
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in text


def test_report__calls_nothing_but_the_model_as_it_was_base(page: Path) -> None:
    text = re.sub(r"<script.*?</script>|<pre>.*?</pre>", "", page.read_text(), flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>|[\w-]*-base\b|\bbase-[\w-]*", " ", text)
    assert "other classes" in shown.lower()
    assert re.findall(r".{40}\bbase\b(?! (?:model|head)).{0,20}", shown) == []


def test_report__says_how_it_was_made(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in ("features/test/manifest.json", CORRECTION, "bootstraps"):
        assert part in text


@pytest.mark.slow
def test_report__correction_without_trials_or_comparison_with_groups(tmp_path: Path) -> None:
    run = corrected_run(tmp_path / "run")
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    groups = tmp_path / "groups.txt"
    names = ClassTable.load(run.path(CLASSES)).names
    groups.write_text("".join(f"{name}\tg{i % 7}\n" for i, name in enumerate(names[:-2])))
    words = ["report", "--run", str(run.folder), "--bootstraps", "100", "--groups", str(groups)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    page = Path(result.stdout.strip())
    text = page.read_text(encoding="utf-8")
    assert "run `alphafix compare`" in text
    assert not (page.parent / "figures" / "alphas.svg").exists()
    assert {path.stem for path in page.parent.glob("figures/groups-*.svg")} == {
        "groups-few-base",
        "groups-base-few",
        "groups-all-all",
    }


def test_report__stale_comparison(tmp_path: Path) -> None:
    run = corrected_run(tmp_path / "run")
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    run.path("compare.json").write_text(
        json.dumps({"provenance": {"inputs": {HEAD: "0" * 64}}}), encoding="utf-8"
    )
    with pytest.raises(StaleInputError, match=r"alphafix\.compare\("):
        report(ReportOptions(run=run.folder, bootstraps=100))
    assert not run.path("report").exists()


def test_report__after_another_training_names_the_page_and_short_hashes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_problem())
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    train(TrainOptions(run=run.folder, method="few-bias", allow_worse=True))
    report(ReportOptions(run=run.folder, bootstraps=100))
    path = run.path(CORRECTION)
    found = Correction.load(path)
    replace(found, rows=found.rows * 1.5).save(path, overwrite=True)
    with pytest.raises(TargetExistsError) as raised:
        report(ReportOptions(run=run.folder, bootstraps=100))
    assert str(raised.value).startswith(str(run.path("report") / "index.html"))
    assert "made/" not in str(raised.value).replace(str(tmp_path), "")
    assert re.search(r"[0-9a-f]{12}", str(raised.value))
    assert not re.search(r"[0-9a-f]{13}", str(raised.value))


def cells(browser: Any, column: int) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#classes tbody tr')]"
        ".map(row => row.cells[arguments[0]].textContent)"
    )
    found: list[str] = browser.execute_script(script, column)
    return found


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser__no_errors_and_nothing_overflows(
    browser: Any, page: Path, width: int, scheme: str
) -> None:
    set_media(browser, scheme)
    open_page(browser, page, width)
    assert browser.get_log("browser") == []
    script = "return [document.documentElement.scrollWidth, window.innerWidth]"
    scroll, inner = browser.execute_script(script)
    assert inner == width
    assert scroll <= width
    # Everything that is wider scrolls inside its own box.
    wide = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && "
        "e.getBoundingClientRect().right > window.innerWidth + 0.5).map(e => e.outerHTML)"
    )
    assert wide == []
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_browser__sorts_and_searches(browser: Any, page: Path) -> None:
    open_page(browser, page, 1440)
    change = [float(text) for text in cells(browser, 6)]
    assert len(change) == PAGE_ROWS
    assert change == sorted(change, reverse=True)
    headers = browser.find_elements("css selector", "#classes th button")
    headers[2].click()
    training = [int(text) for text in cells(browser, 2)]
    assert training == sorted(training, reverse=True)
    headers[2].click()
    training = [int(text) for text in cells(browser, 2)]
    assert training == sorted(training)
    assert headers[2].find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    browser.find_element("id", "search").send_keys("script>alert")
    assert cells(browser, 0).count(EVIL) == 1
    assert all(
        "script" in row[0] + row[1]
        for row in zip(cells(browser, 0), cells(browser, 9), strict=True)
    )
    assert browser.get_log("browser") == []


def test_browser__pages_through_all_classes(browser: Any, page: Path) -> None:
    open_page(browser, page, 1440)
    status = browser.find_element("id", "status")
    assert status.text == "1–50 of 60 classes"
    first = cells(browser, 0)
    browser.find_element("id", "next").click()
    assert status.text == "51–60 of 60 classes"
    second = cells(browser, 0)
    assert set(first) | set(second) == {in_one_line(n) for n in evil_problem().classes.names}
    browser.find_element("id", "all").click()
    assert len(cells(browser, 0)) == 60


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose test samples are of a third of the classes."""
    problem = evil_problem()
    kept = problem.labels["test"] % 3 == 2
    for arrays in (problem.features, problem.labels):
        arrays["test"] = arrays["test"][kept]
    run = write_run(tmp_path_factory.mktemp("sparse") / "run", problem)
    find_neighbors(NeighborsOptions(run=run.folder, k=3))
    train(TrainOptions(run=run.folder, seeds=1, rho=(0.5,), epochs=6))
    return run


def test_browser__of_very_many_classes_the_page_has_those_that_it_tells_of(
    browser: Any, sparse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole page is the oracle of the smaller one."""
    script = """
    const item = (one) =>
      ["button", "span"].map((tag) => one.querySelector(tag).textContent).join();
    document.getElementById("all").click();
    return [
      steer.now.accuracy,
      steer.dearest(steer.now.pairs, 1e6).pairs.map(
        (one) => [data.names[one.rare], data.names[one.other], one.lost, one.won].join()).sort(),
      ["losing", "gaining"].map((id) => [...document.querySelectorAll(`#${id} li`)]
        .filter((one) => one.querySelector("span")).map(item).sort()),
      Object.entries(data.neighbours).map(
        ([few, ids]) => [few, ...ids].map((one) => data.names[one]).join()).sort(),
      Object.entries(data.learned).map(([few, text]) => data.names[few] + ": " + text).sort(),
      Object.fromEntries([...document.querySelectorAll("#classes tbody tr")].map((row) =>
        [row.cells[0].textContent, [...row.cells].map((cell) => cell.textContent).join()])),
      data.names.length,
    ]"""
    seen = []
    for most in (10_000, 15):
        monkeypatch.setattr("alphafix.report.known.ALL_CLASSES", most)
        folder = tmp_path / str(most)
        report(ReportOptions(run=sparse.folder, bootstraps=100, output=folder))
        open_page(browser, folder / "index.html")
        seen.append(browser.execute_script(script))
    (*same, near, learned, rows, count), (*little, some, told, listed, fewer) = seen
    assert little == same
    assert fewer < count == 60
    seen_rare = [name for name in rows if rows[name].split(",")[3] != "0" and ",few," in rows[name]]
    assert {one.split(",")[0] for one in some} >= set(map(in_one_line, seen_rare))
    assert set(some) < set(near)
    assert set(told) <= set(learned)
    assert len(listed) == 15
    assert listed.items() <= rows.items()
    # Of the 20 classes with samples, those that changed most.
    change = {
        name: abs(float(rows[name].split(",")[6])) for name in rows if ",n/a" not in rows[name]
    }
    assert min(change[name] for name in listed) >= sorted(change.values())[4]
    assert "15 of 60 classes" in browser.find_element("css selector", "#every-class .note").text
    name = next(iter(listed))
    browser.execute_script(
        "[...document.querySelectorAll('#classes .name')]"
        ".find(one => one.textContent === arguments[0]).click()",
        name,
    )
    assert browser.find_element("id", "looked").text == name
    assert browser.get_log("browser") == []


def evil_picture(evil: str) -> Picture:
    """A figure with such names in each of its texts."""
    with canvas() as (made, axes):
        axes.plot([0, 1], [0, 1], "o", gid="points", label=evil)
        axes.set_title(evil)
        axes.legend()
    return Picture("evil", evil, evil, made, [evil], [[evil]], {"points": [evil, evil]})


def test_browser__a_hostile_page_runs_nothing(browser: Any, tmp_path: Path) -> None:
    """Every place that text from outside can reach, all at once."""
    evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    names = [evil, "</script><script>alert(3)"]
    columns = Classes((evil,), ("text",), [names], [0, 1], 0)
    moved = [Moved(0, evil, [evil], 1)]
    table = Table(evil, [evil], [[evil]], [evil])
    ids = np.zeros(2, dtype=np.int64)
    margins = Margins(np.zeros(2, dtype=np.float32), ids, ids)
    steered, known = steering(ids, margins, [Steered(evil, margins, 0.0, {evil: evil})], evil)
    samples = Sprite("data:,", 16, 64, [0, 1], evil)
    text = render(
        Page(
            title=evil,
            subtitle=[evil],
            tiles=[Tile(evil, evil, evil, evil, evil, 1)],
            verdict=evil,
            worst=moved,
            best=moved,
            curve=table,
            pays=table,
            steering={
                **known,
                "names": names,
                "tiers": [0, 0],
                "counts": [1, 1],
                "arrays": steered.arrays,
                "methods": steered.methods,
                "sprite": vars(samples),
                "neighbours": {0: [0]},
                "learned": {0: evil},
                "frame": None,
            },
            methods=[evil],
            notes={"methods": evil, "images": evil},
            tables=[table],
            frontier=Frontier([evil], table),
            classes=columns,
            pictures=[Drawn.of(evil_picture(evil))],
            provenance={evil: evil},
        )
    )
    path = tmp_path / "evil.html"
    path.write_text(text, encoding="utf-8")
    open_page(browser, path, 1440)
    assert browser.get_log("browser") == []
    assert browser.title == evil
    assert len(browser.find_elements("tag name", "img")) == 0
    assert sorted(cells(browser, 0)) == sorted(columns.columns[0])
    # What is shown when a class is chosen is made by the script.
    browser.execute_script(
        "[...document.querySelectorAll('#classes .name')]"
        ".find(one => one.textContent === arguments[0]).click()",
        evil,
    )
    assert browser.find_element("id", "looked").text == evil
    assert len(browser.find_elements("tag name", "img")) == 0
    assert browser.get_log("browser") == []
