"""The page in a real browser: the slider against the library, keys, print, and axe."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from alphafix.commands.app import app
from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.features.store import FeatureStore
from alphafix.metrics.accuracy import COLUMNS, tier_accuracy
from alphafix.metrics.margins import Steered, load_steered, margins
from alphafix.metrics.predictions import BeforeAfter, Predictions, pair_scores
from alphafix.report.payers import pairs
from alphafix.run.directory import CLASSES, CORRECTION, HEAD, STEERED, Run
from alphafix.values.arrays import IntArray
from alphafix.values.classes import ClassTable
from alphafix.values.correction import Correction
from alphafix.values.head import Head
from tests.report.problems import open_page, set_media, set_width
from tests.stages import evaluate


@pytest.fixture(scope="module")
def known(run: Run) -> tuple[ClassTable, IntArray, dict[str, Steered]]:
    """Classes, labels, and the methods as the library has them."""
    classes, head = ClassTable.load(run.path(CLASSES)), Head.load(run.path(HEAD))
    correction = Correction.load(run.path(CORRECTION))
    store = FeatureStore.open(run.features("test"))
    before, after = margins(store, pair_scores(head, correction), classes.few)
    others, _ = load_steered(run.path(STEERED), samples=len(store), classes=len(classes))
    own = [
        Steered("in this run", after, correction.chosen.offset),
        Steered("few-bias (the head as it was)", before),
    ]
    return classes, store.labels, {one.name: one for one in [*own, *others]}


def choose(browser: Any, method: str) -> None:
    script = (
        "const s = document.getElementById('method');"
        "s.value = [...s.options].find(o => o.text === arguments[0]).value;"
        "s.dispatchEvent(new Event('change'));"
    )
    browser.execute_script(script, method)


def shift(browser: Any, share: float) -> float:
    """Move the slider to a share of its way, and return the offset that it shows."""
    script = (
        "const s = document.getElementById('shift');"
        "s.value = Number(s.min) + arguments[0] * (s.max - s.min);"
        "s.dispatchEvent(new Event('input')); return steer.now.t"
    )
    return float(browser.execute_script(script, share))


def accuracy(browser: Any) -> list[float]:
    found: list[float] = browser.execute_script("return steer.now.accuracy")
    return found


def test_slider__every_method_at_many_offsets(browser: Any, page: Path, known: Any) -> None:
    classes, labels, methods = known
    open_page(browser, page)
    options = browser.execute_script(
        "return [...document.getElementById('method').options].map(o => o.text)"
    )
    assert options == list(methods)
    assert {"lda", "alphanet rho 0.5"} <= set(options)
    for name, method in methods.items():
        choose(browser, name)
        seen = set()
        for share in (0, 0.15, 0.3, 0.5, 0.62, 0.8, 1):
            t = shift(browser, share)
            right = method.margins.predicted(t - method.offset) == labels
            expected = tier_accuracy(right, labels, classes)
            assert accuracy(browser) == pytest.approx([expected[one] for one in COLUMNS])
            tiles = browser.execute_script(
                "return [...document.querySelectorAll('#steered .big')].map(p => p.textContent)"
            )
            shown = [float(text.removesuffix("%")) for text in tiles]
            assert shown == pytest.approx([expected[one] for one in COLUMNS], abs=0.0501)
            seen.add(tuple(tiles))
        assert len(seen) >= 3  # it does move


def test_slider__classes_and_pairs_are_the_librarys(browser: Any, page: Path, known: Any) -> None:
    classes, labels, methods = known
    open_page(browser, page)
    choose(browser, "lda")
    t = shift(browser, 0.7)
    method = methods["lda"]
    predicted = method.margins.predicted(t - method.offset)
    before = methods["few-bias (the head as it was)"].margins.predicted()
    made = [
        Predictions(one, np.ones(len(one), bool), np.ones(len(one), np.float32))
        for one in (before, predicted)
    ]
    expected = pairs(BeforeAfter(labels, *made), classes)
    seen, shown = browser.execute_script(
        "return [steer.now.t, steer.dearest(steer.now.pairs, 1e6).pairs]"
    )
    assert seen == t
    assert [(one["rare"], one["other"], one["lost"], one["won"]) for one in shown] == [
        (one.rare, one.other, one.lost, one.won) for one in expected
    ]
    change = np.bincount(labels, (predicted == labels).astype(float) - (before == labels), 60)
    worst = np.lexsort((np.arange(60), change))[0]
    first = browser.find_element("css selector", "#losing li").text
    assert first.startswith(f"{classes.names[worst]} −{-change[worst]:.0f} of 20")


def run_of(browser: Any, run: Run, folder: Path) -> Run:
    """Run the command that the page shows, in a copy of the run directory."""
    copy = Path(shutil.copytree(run.folder, folder / "run"))
    words = shlex.split(browser.find_element("id", "command").text)
    assert words[:4] == ["alphafix", "train", "--run", words[3]]
    words[3] = str(copy)
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    return Run(copy)


@pytest.mark.parametrize(
    "method", ["in this run", "few-bias (the head as it was)", "alphanet rho 0.5", "lda"]
)
def test_command__makes_the_point_that_is_shown(
    browser: Any, page: Path, run: Run, method: str, tmp_path: Path
) -> None:
    open_page(browser, page)
    choose(browser, method)
    shift(browser, 0.6)
    shown = accuracy(browser)
    made = run_of(browser, run, tmp_path)
    found = evaluate(EvaluateOptions(run=made.folder, bootstraps=100, overwrite=True))
    figures = [found.tier(one).figures["top1"].corrected for one in COLUMNS]
    assert [figure and figure.value for figure in figures] == pytest.approx(shown)


def test_frontier__the_point_is_where_its_accuracy_is(browser: Any, page: Path) -> None:
    """Against the axes that Matplotlib drew: the place of two of its ticks."""
    open_page(browser, page)
    for share in (0.45, 0.55):
        shift(browser, share)
        few, overall = accuracy(browser)[0], accuracy(browser)[3]
        frame, x, y = browser.execute_script(
            "const p = document.getElementById('steered-point');"
            "return [data.frame, +p.getAttribute('cx'), +p.getAttribute('cy')]"
        )
        for value, (low, high), (start, end), place in (
            (overall, frame["overall"], frame["x"], x),
            (few, frame["few"], frame["y"], y),
        ):
            expected = start + (value - low) / (high - low) * (end - start)
            assert place == pytest.approx(np.clip(expected, *sorted((start, end))), abs=0.02)
        ticks = browser.execute_script(
            "return [...document.querySelectorAll('#trade-off [id*=xtick]')].map(t => "
            "[parseFloat(t.querySelector('text').textContent), +t.querySelector('use')"
            ".getAttribute('x')])"
        )
        (low, high), (start, end) = frame["overall"], frame["x"]
        for value, place in ticks:
            assert start + (value - low) / (high - low) * (end - start) == pytest.approx(
                place, abs=0.2
            )


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def tab_to(browser: Any, selector: str, most: int = 400) -> None:
    """Press the tabulator until an element has the focus."""
    from selenium.webdriver.common.keys import Keys

    script = "return document.activeElement.matches(arguments[0])"
    for _ in range(most):
        if browser.execute_script(script, selector):
            return
        press(browser, Keys.TAB)
    pytest.fail(f"{selector} is not reached by keys")


@pytest.mark.slow
def test_keyboard__alone_steers_looks_and_sorts(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, page)
    press(browser, Keys.TAB)
    assert browser.switch_to.active_element.text == "To the result"
    tab_to(browser, "#worst .name, #result .name")
    press(browser, Keys.ENTER)
    looked = browser.find_element("id", "looked")
    assert looked == browser.switch_to.active_element
    first = looked.text
    assert first.startswith("class ")
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    open_page(browser, page)
    tab_to(browser, "#method")
    press(browser, Keys.ARROW_DOWN)
    assert browser.execute_script("return document.getElementById('method').value") == "1"
    press(browser, Keys.TAB)
    before = accuracy(browser)
    press(browser, *[Keys.PAGE_UP] * 3, Keys.ARROW_RIGHT)
    assert accuracy(browser) != before
    said = browser.execute_script("return document.activeElement.getAttribute('aria-valuetext')")
    assert said.endswith(f"few {accuracy(browser)[0]:.1f}%, overall {accuracy(browser)[3]:.1f}%")
    tab_to(browser, "#search")
    press(browser, *"class 1")
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#classes tbody tr')].map(r => r.textContent)"
    )
    assert 0 < len(rows) < 50
    assert all("class 1" in row for row in rows)
    press(browser, Keys.TAB, *"few")
    assert browser.execute_script("return document.getElementById('split').value") == "few"
    tab_to(browser, "#classes th:nth-child(3) button")
    press(browser, Keys.ENTER)
    sort = browser.execute_script(
        "return document.activeElement.closest('th').getAttribute('aria-sort')"
    )
    assert sort == "descending"
    assert browser.get_log("browser") == []


def test_look__images_of_a_class_and_its_neighbours(browser: Any, page: Path, known: Any) -> None:
    classes, labels, methods = known
    open_page(browser, page)
    label = int(classes.few[0])
    browser.execute_script(f"look.show({label})")
    text = browser.find_element("id", "looked-at").text
    before = methods["few-bias (the head as it was)"].margins.predicted()
    after = methods["in this run"].margins.predicted()
    mine = labels == label
    repaired = int((mine & (before != label) & (after == label)).sum())
    wrong = int((mine & (before != label) & (after != label)).sum())
    if repaired:
        assert f"Repaired: wrong before, right now ({repaired})" in text
    assert f"Still wrong ({wrong})" in text
    assert len(browser.find_elements("css selector", "#looked-at .wrong .shot")) == wrong
    assert "as " + classes.names[int(after[mine & (before != label) & (after != label)][0])] in text
    assert text.count("Neighbour: ") == 3
    shown = browser.execute_script(
        "const s = document.querySelector('#looked-at .shot'); const c = getComputedStyle(s);"
        "return [c.backgroundImage.slice(0, 25), s.getAttribute('aria-label')]"
    )
    assert shown[0] == 'url("data:image/webp;base6'[:25]
    assert shown[1]


def findings(browser: Any, *rules: str) -> list[str]:
    """What axe-core finds on the page as it is, by some of its rules or by all."""
    spec = importlib.util.find_spec("axe_core_python")
    assert spec is not None
    assert spec.origin is not None
    browser.execute_script(Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    browser.set_script_timeout(180)
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({resultTypes: ['violations'], ...arguments[0]}).then(r => done(r.violations.map("
        "v => `${v.id}: ${v.help}: ` + "
        "v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' | '))))",
        {"runOnly": list(rules)} if rules else {},
    )
    return list(found)


def keep_two_figures(browser: Any) -> None:
    """Take away all figures but two: nearly all of what axe looks at are parts of figures."""
    browser.execute_script(
        "[...document.querySelectorAll('figure')].slice(2).forEach(f => f.remove())"
    )


@pytest.fixture
def on_screen(browser: Any) -> Iterator[Any]:
    yield browser
    set_media(browser)
    set_width(browser, 1440)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "scheme", "rules_for_all_figures"),
    [
        (1440, "light", ()),  # all rules
        (375, "light", None),
        (1440, "dark", None),
        (375, "dark", ("color-contrast",)),
    ],
)
def test_axe__finds_nothing(
    on_screen: Any,
    page: Path,
    width: int,
    scheme: str,
    rules_for_all_figures: tuple[str, ...] | None,
) -> None:
    set_media(on_screen, scheme)
    open_page(on_screen, page, width)
    shift(on_screen, 0.7)
    on_screen.execute_script(
        "document.querySelectorAll('details').forEach(d => { d.open = true; });"
        "document.querySelector('#losing .name').click();"
    )
    if rules_for_all_figures is not None:
        assert findings(on_screen, *rules_for_all_figures) == []
    if rules_for_all_figures != ():
        keep_two_figures(on_screen)
        assert findings(on_screen) == []


@pytest.mark.slow
def test_axe__finds_nothing_in_print(on_screen: Any, page: Path) -> None:
    open_page(on_screen, page)
    set_media(on_screen, media="print")
    keep_two_figures(on_screen)
    assert findings(on_screen) == []


@pytest.mark.slow
def test_print__shows_every_figure(on_screen: Any, page: Path) -> None:
    """A PDF without a figure is smaller than that with it."""
    open_page(on_screen, page)
    controls = on_screen.find_elements("css selector", ".controls, #shift, #copy, nav")
    assert controls
    names = on_screen.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => f.id)"
    )
    assert len(names) == len(list((page.parent / "figures").glob("*.svg")))

    def size() -> int:
        made = on_screen.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        return len(made["data"])

    whole = size()
    for name in names:
        script = "document.querySelector(`#${arguments[0]} svg`).style.visibility = arguments[1]"
        on_screen.execute_script(script, name, "hidden")
        assert size() < whole - 1000, name
        on_screen.execute_script(script, name, "visible")
    set_media(on_screen, media="print")
    assert not any(one.is_displayed() for one in controls)


def test_without_javascript__everything_can_be_read(on_screen: Any, page: Path, known: Any) -> None:
    classes = known[0]
    command = "Emulation.setScriptExecutionDisabled"
    on_screen.execute_cdp_cmd(command, {"value": True})
    try:
        open_page(on_screen, page)
        text = on_screen.find_element("tag name", "main").text
        for name in classes.names:
            assert name.replace("\u2028", "\\u2028") in text
        assert "Rare classes" in text
        assert "as in this run" in text
        assert not on_screen.find_element("id", "shift").is_displayed()
        tables = on_screen.find_elements("css selector", "noscript tbody tr")
        assert len(tables) == len(classes)
    finally:
        on_screen.execute_cdp_cmd(command, {"value": False})


def test_figures__text_is_read_at_any_width(on_screen: Any, page: Path) -> None:
    open_page(on_screen, page, 375)
    sizes = on_screen.execute_script(
        "return [...document.querySelectorAll('figure svg')].flatMap(s => {"
        "const k = s.getBoundingClientRect().width / s.viewBox.baseVal.width;"
        "return [...s.querySelectorAll('text')].map(t => k * parseFloat(getComputedStyle(t)"
        ".fontSize))})"
    )
    assert len(sizes) > 100
    assert min(sizes) >= 11


def test_figures__say_values_under_the_pointer(browser: Any, page: Path, known: Any) -> None:
    classes = known[0]
    open_page(browser, page)
    bars = browser.execute_script(
        "return [...document.querySelectorAll('#class-change path title')].map(t => t.textContent)"
    )
    assert len(bars) == len(classes)
    few = browser.execute_script(
        "return document.querySelectorAll('#change-distance-few-base use title').length"
    )
    assert few == len(classes.few)
