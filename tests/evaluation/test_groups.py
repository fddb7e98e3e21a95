from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from alphafix.commands.evaluate.options import EvaluateOptions
from alphafix.errors import InputError
from alphafix.metrics.alike import Alike
from alphafix.metrics.groups import read_groups
from alphafix.metrics.wordnet import parse_nouns, within_edges
from alphafix.run.directory import Run
from alphafix.values.classes import ClassTable
from tests.evaluation.problems import corrected_run
from tests.stages import evaluate

CLASSES = ClassTable(("cat", "dog", "car", "bus"), np.array([5, 50, 500, 900]))

# entity <- animal <- canine <- {dog, wolf}; dog <- husky; entity <- thing. In the format of
# wndb(5WN); the pointers ~ (hyponym) and %p (part) must not be followed.
NOUNS = """\
  1 This software and database is being provided to you
00000001 03 n 01 entity 0 002 ~ 00000002 n 0000 ~ 00000007 n 0000 | all there is
00000002 05 n 02 animal 0 beast 1 001 @ 00000001 n 0000 | an animal | or not
00000003 05 n 01 canine 0 002 @ 00000002 n 0000 %p 00000007 n 0000 | a canine
00000004 05 n 01 dog 0 001 @ 00000003 n 0000 | a dog
00000005 05 n 01 wolf 0 001 @ 00000003 n 0000 | a wolf
00000006 05 n 0a a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 husky 0 001 @ 00000004 n 0000 | a husky
00000007 03 n 01 thing 0 001 @ 00000001 n 0000 | a thing
00000008 18 n 01 Balto 0 001 @i 00000006 n 0000 | one husky
"""
DOG, WOLF, HUSKY, THING, BALTO = (f"n0000000{i}" for i in (4, 5, 6, 7, 8))


def matrix(alike: Alike, num_classes: int) -> np.ndarray:
    """All pairs, bool C x C."""
    true, predicted = np.divmod(np.arange(num_classes**2), num_classes)
    return alike.holds(true, predicted).reshape(num_classes, num_classes)


@pytest.fixture
def wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dict"
    folder.mkdir()
    (folder / "data.noun").write_text(NOUNS)
    monkeypatch.setenv("WNSEARCHDIR", str(folder))
    return folder


def test_groups__json_with_a_class_in_two_groups(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text('{"animal": ["cat", "dog"], "seen in streets": ["dog", "car"]}')
    alike = matrix(read_groups(str(path), CLASSES), 4)
    expected = np.eye(4, dtype=bool)
    for a, b in ((0, 1), (1, 2)):
        expected[a, b] = expected[b, a] = True
    assert (alike == expected).all()


def test_groups__lines_of_class_and_group(tmp_path: Path) -> None:
    path = tmp_path / "groups.txt"
    path.write_text("cat\tanimal\ndog\tanimal\n\ncar\tvehicle\nbus\tvehicle\n")
    alike = matrix(read_groups(str(path), CLASSES), 4)
    assert (alike == np.kron(np.eye(2), np.ones((2, 2))).astype(bool)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\tanimal\nlion\tanimal\n", "lion"),
        ("cat animal\n", "lines of class name, tab, group"),
        ('{"animal": [', "not a file of class groups"),
    ],
)
def test_groups__bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "groups.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_groups(str(path), CLASSES)


def test_groups__missing_file_says_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='"wordnet" where class names are WordNet ids'):
        read_groups(str(tmp_path / "none"), CLASSES)


def test_wordnet__parents_of_each_synset() -> None:
    found = parse_nouns(NOUNS.splitlines())
    assert found[HUSKY] == (DOG,)
    assert found[BALTO] == (HUSKY,)
    assert found["n00000001"] == ()
    assert found["n00000003"] == ("n00000002",)


def test_wordnet__counts_edges_through_the_common_ancestor() -> None:
    # dog - wolf 2, husky - wolf 3, dog - husky 1, dog - thing 4, husky - thing 5.
    found = parse_nouns(NOUNS.splitlines())
    names = dict(enumerate([DOG, WOLF, HUSKY, THING]))
    distance = np.array([[0, 2, 1, 4], [2, 0, 3, 4], [1, 3, 0, 5], [4, 4, 5, 0]])
    for edges in range(6):
        alike = within_edges(names, 4, found, edges)
        assert (matrix(alike, 4) == (distance <= edges)).all()


def test_groups__wordnet_ids_as_groups_or_as_names(tmp_path: Path, wordnet: Path) -> None:
    path = tmp_path / "groups.txt"
    path.write_text(f"cat\t{DOG}\ndog\t{HUSKY}\ncar\t{THING}\n")
    expected = np.eye(4, dtype=bool)
    expected[0, 1] = expected[1, 0] = expected[0, 2] = expected[2, 0] = True
    assert (matrix(read_groups(str(path), CLASSES), 4) == expected).all()
    named = ClassTable((DOG, HUSKY, THING), np.array([5, 50, 500]))
    assert (matrix(read_groups("wordnet", named), 3) == expected[:3, :3]).all()
    assert (
        matrix(read_groups("wordnet", named, edges=1), 3)
        == expected[:3, :3] * [1, 1, 0] + np.eye(3)
    ).any()


def test_groups__wordnet_names_unknown_ids(wordnet: Path) -> None:
    with pytest.raises(InputError, match="4 classes are not in WordNet"):
        read_groups("wordnet", CLASSES)


def test_wordnet__reads_the_zip_that_nltk_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora = tmp_path / "nltk" / "corpora"
    corpora.mkdir(parents=True)
    with zipfile.ZipFile(corpora / "wordnet.zip", "w") as packed:
        packed.writestr("wordnet/data.noun", NOUNS)
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    named = ClassTable((DOG, WOLF), np.array([5, 50]))
    if Path("/usr/share/wordnet/data.noun").is_file():
        # Debian's comes first and does not know these ids.
        with pytest.raises(InputError, match="are not in WordNet"):
            read_groups("wordnet", named)
    else:
        assert matrix(read_groups("wordnet", named), 2).all()


def test_evaluate__grouped_figure_is_at_least_top1(tmp_path: Path) -> None:
    run: Run = corrected_run(tmp_path / "run")
    path = tmp_path / "groups.txt"
    path.write_text("".join(f"class {i}\tg{i % 4}\n" for i in range(16)))
    found = evaluate(EvaluateOptions(run=run.folder, bootstraps=100, groups=str(path)))
    for split in found.tiers:
        grouped, top1 = split.figures["grouped"], split.figures["top1"]
        assert grouped.base is not None
        assert top1.base is not None
        assert top1.base.value < grouped.base.value <= 100
