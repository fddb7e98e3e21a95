"""The rebuild of Glyphs-LT, end to end on small fonts that are made here."""

from __future__ import annotations

import importlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from alphafix.demo.glyphs import Glyphs, load_glyphs

pytest.importorskip("fontTools")

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "glyphs_lt"
LATIN = "ABDEFGHKLMNQRSTabdefghkmnqrst234567"
CYRILLIC_IE = "\u0435"  # drawn like the Latin e
HEBREW = "אבגדה"
BLANK = "Z"
FAMILIES = 24
SMALL = """
    --per-family 2 --min-samples 20 --min-unknown-families 2 --min-kept 10
    --classes 12 --cluster 3 --most 101 --fewest 2 --val 3 --test 5 --min-train 4
    --min-coverage 10 --open 9
""".split()  # noqa: SIM905

Box = tuple[float, float, float, float]


def boxes(character: str, family: int) -> list[Box]:
    """Invent a letter: five boxes that depend on the character, moved a bit by the family."""
    design = random.Random(ord(character))
    hand = random.Random(f"{family} {character}")
    result = []
    for _ in range(5):
        x, y = design.randrange(0, 800, 100), design.randrange(0, 800, 100)
        width, height = design.choice([(500, 120), (120, 500)])
        left, bottom = x + hand.uniform(-40, 40), y + hand.uniform(-40, 40)
        right, top = left + width + hand.uniform(-40, 80), bottom + height + hand.uniform(-40, 80)
        result.append((left, bottom, right, top))
    return result


def nudge(shape: list[Box]) -> list[Box]:
    """Change a letter so little that no reader would see it."""
    left, bottom, right, top = shape[0]
    return [(left, bottom, right + 10, top), *shape[1:]]


def draw(shape: list[Box]) -> object:
    pen = TTGlyphPen(None)
    for left, bottom, right, top in shape:
        pen.moveTo((round(left), round(bottom)))
        for x, y in ((left, top), (right, top), (right, bottom)):
            pen.lineTo((round(x), round(y)))
        pen.closePath()
    return pen.glyph()


def letters(family: int) -> dict[str, list[Box]]:
    """Draw every character of one family."""
    drawn = {c: boxes(c, family) for c in LATIN + HEBREW}
    return {**drawn, CYRILLIC_IE: nudge(drawn["e"]), BLANK: []}


def save_font(path: Path, family: str, style: str, drawn: dict[str, list[Box]]) -> None:
    """Write a TrueType font with the given letters."""
    names = {c: f"uni{ord(c):04X}" for c in drawn}
    glyphs = {".notdef": draw([(0, 0, 400, 700)])}
    glyphs |= {names[c]: draw(shape) for c, shape in drawn.items()}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(c): name for c, name in names.items()})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": style})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def rebuild(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in the folder of the example."""
    command = [sys.executable, "-m", "rebuild", *map(str, arguments)]
    return subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of fonts: 24 families, a clone of one, an icon font and a damaged file."""
    folder = tmp_path_factory.mktemp("fonts")
    for family in range(FAMILIES):
        name = f"Family{chr(ord('a') + family)}"
        save_font(folder / f"{name}.ttf", name, "Regular", letters(family))
        bold = {c: nudge(shape) if shape else [] for c, shape in letters(family).items()}
        save_font(folder / f"{name}-bold.ttf", name, "Bold", bold)
    clone = {c: nudge(nudge(shape)) if shape else [] for c, shape in letters(0).items()}
    save_font(folder / "copycat.ttf", "Copycat", "Regular", clone)
    save_font(folder / "icons.ttf", "Some Icons", "Regular", letters(99))
    (folder / "damaged.ttf").write_bytes(b"not a font")
    return folder


@pytest.fixture(scope="module")
def work(fonts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole rebuild."""
    folder = tmp_path_factory.mktemp("work")
    result = rebuild("all", "--fonts", fonts, "--work", folder, *SMALL)
    assert result.returncode == 0, result.stderr
    assert "damaged.ttf" in result.stderr
    steps = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert steps == ["scan", "render", "clean", "families", "homoglyphs", "build", "pack"]
    return folder


@pytest.fixture(scope="module")
def rebuilt(work: Path) -> Glyphs:
    """The data set of that rebuild, by the package's own loader."""
    return load_glyphs(work / "glyphs-lt-16px.npz")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the example."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return lambda name: importlib.import_module(f"rebuild.{name}")


def test_scan__keeps_text_faces_only(work: Path) -> None:
    faces = json.loads((work / "faces.json").read_text(encoding="utf-8"))
    assert len(faces) == 2 * FAMILIES + 1
    assert not any("Icons" in face["family"] for face in faces)


def test_render__leaves_out_blank_glyphs(work: Path) -> None:
    code_points = np.load(work / "rendered" / "code_points.npy")
    assert ord(BLANK) not in code_points
    assert {ord(c) for c in LATIN + HEBREW + CYRILLIC_IE} == set(code_points.tolist())


def test_families__clone_joins_its_original(work: Path) -> None:
    merged = json.loads((work / "families.json").read_text(encoding="utf-8"))
    assert merged["copycat"] == merged["familya"]
    assert len(set(merged.values())) == FAMILIES


def test_homoglyphs__finds_the_pair_that_looks_the_same(work: Path) -> None:
    rows = json.loads((work / "homoglyphs.json").read_text(encoding="utf-8"))
    alike = {(first, second) for first, second, share in rows if share >= 0.5}
    assert alike == {(ord("e"), ord(CYRILLIC_IE))}


def test_build__sizes_are_those_asked_for(rebuilt: Glyphs) -> None:
    assert rebuilt.num_classes == 12
    counts = np.bincount(rebuilt.train.labels)
    assert counts.min() == 2
    assert counts.max() <= 2 * FAMILIES  # of the 101 that were asked for
    assert (np.bincount(rebuilt.val.labels) == 3).all()
    assert (np.bincount(rebuilt.test.labels) == 5).all()
    assert len(rebuilt.open_images) == 9
    assert set(rebuilt.open_code_points) <= {ord(c) for c in HEBREW}


def test_build__families_stay_in_one_split(rebuilt: Glyphs) -> None:
    splits = [rebuilt.train, rebuilt.val, rebuilt.test]
    families = [set(rebuilt.face_groups[split.faces]) for split in splits]
    assert sum(map(len, families)) == len(set.union(*families))


def test_build__homoglyphs_are_not_both_classes(work: Path, tmp_path: Path) -> None:
    for name in ("faces.json", "keep.npy", "families.json", "homoglyphs.json", "rendered"):
        (tmp_path / name).symlink_to(work / name)
    options = [*SMALL[SMALL.index("--classes") :], "--classes", str(len(LATIN))]
    assert rebuild("build", "--work", tmp_path, *options).returncode == 0
    with np.load(tmp_path / "glyphs-lt-32px.npz") as arrays:
        assert sorted(map(chr, arrays["classes"])) in (
            sorted(LATIN),
            sorted(LATIN.replace("e", CYRILLIC_IE)),
        )
    options[-1] = str(len(LATIN) + 1)
    result = rebuild("build", "--work", tmp_path, *options)
    assert result.returncode == 1
    assert "35 distinct characters" in result.stderr
    assert "install more fonts" in result.stderr


def test_rebuild__same_seed_gives_the_same_bytes(work: Path, fonts: Path, tmp_path: Path) -> None:
    assert rebuild("all", "--fonts", fonts, "--work", tmp_path, *SMALL).returncode == 0
    name = "glyphs-lt-16px.npz"
    assert (tmp_path / name).read_bytes() == (work / name).read_bytes()


def test_scan__no_fonts_is_an_error(tmp_path: Path) -> None:
    result = rebuild("scan", "--fonts", tmp_path, "--work", tmp_path)
    assert result.returncode == 1
    assert "no .ttf or .otf files" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("family", "group"),
    [("Noto Sans Mono", "noto sans"), ("Caladea", "caladea"), ("Junicode2 Beta", "junicode")],
)
def test_group_name(module: Callable[[str], ModuleType], family: str, group: str) -> None:
    assert module("scan").group_name(family) == group


def test_clean__prefers_capitals_then_frequent_ones(
    module: Callable[[str], ModuleType],
) -> None:
    counts = Counter({ord("a"): 9, ord("A"): 3, ord("\u0391"): 5})
    preferred = module("clean").preferred
    assert preferred([ord("a"), ord("A")], counts) == ord("A")
    assert preferred([ord("A"), ord("\u0391")], counts) == 0x391


def test_clean__finds_faces_that_cannot_be_read(module: Callable[[str], ModuleType]) -> None:
    clean, values = module("clean"), module("values")
    characters = clean.CHECKED[:16]
    designs = np.random.default_rng(0).integers(0, 256, (16, 32, 32), dtype=np.uint8)
    shuffled = np.roll(designs, 1, axis=0)
    rendering = values.Rendering(
        images=np.concatenate([designs, designs, designs, shuffled]),
        code_points=np.tile(characters, 4),
        face_ids=np.repeat(np.arange(4, dtype=np.int32), 16),
        known=characters,
        unknown=np.empty(0, np.int32),
    )
    unreadable = clean.unreadable_faces(rendering, values.describe(rendering.images))
    assert unreadable.tolist() == [False, False, False, True]


def test_tail__is_log_linear_through_100_and_20(module: Callable[[str], ModuleType]) -> None:
    classes = module("classes")
    counts = np.array(classes.tail_counts(classes.BuildOptions()))
    assert (counts[0], counts[-1]) == (400, 5)
    assert [np.count_nonzero(counts > 100), np.count_nonzero(counts < 20)] == [120, 66]
    assert (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("wrong", [{"most": 50}, {"fewest": 20}])
def test_options__refuse_a_tail_without_all_splits(
    module: Callable[[str], ModuleType], wrong: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match="--most above 100 and --fewest below 20"):
        module("classes").BuildOptions(**wrong)


def test_spread__takes_one_of_each_family_in_turn(module: Callable[[str], ModuleType]) -> None:
    families = ["a"] * 8 + ["b"] * 2 + ["c"]
    rows = module("build").spread(range(11), families, 5, random.Random(0))
    assert Counter(families[row] for row in rows) == {"a": 2, "b": 2, "c": 1}
