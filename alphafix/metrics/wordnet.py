"""Distances in WordNet's noun hierarchy, from the database files that are installed."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, counted, option, some
from alphafix.metrics.alike import Alike, Marks
from alphafix.shown import in_list

Hypernyms = Mapping[str, Sequence[str]]
"""The parents of each noun synset, such as {"n02084071": ("n02083346", "n01317541")}."""

_SYNSET = re.compile(r"n\d{8}")

# "@" is a hypernym and "@i" the class of an instance (wninput(5WN)).
_PARENT_POINTERS = ("@", "@i")


def is_synset(text: str) -> bool:
    """Whether ``text`` is a noun's WordNet id as ImageNet writes it: n and eight digits."""
    return _SYNSET.fullmatch(text) is not None


def load_hypernyms() -> Hypernyms:
    """Read the noun hierarchy of the installed WordNet.

    It is looked for in ``$WNSEARCHDIR`` (WordNet's own variable), where Debian's package
    wordnet-base puts it, and in NLTK's data folders, unpacked or zipped. The ids of ImageNet are
    those of WordNet 3.0, which is what Debian and NLTK's "wordnet" have.

    Raises:
        InputError: If it is nowhere to be found.
    """
    for folder in _folders():
        if (folder / "data.noun").is_file():
            with (folder / "data.noun").open(encoding="utf-8") as file:
                return parse_nouns(file)
        packed = folder.with_suffix(".zip")
        if packed.is_file():
            text = zipfile.ZipFile(packed).read("wordnet/data.noun").decode()
            return parse_nouns(text.splitlines())
    raise InputError(
        "WordNet is not installed",
        got="no data.noun in " + ", ".join(str(folder) for folder in _folders()),
        expected="its database files",
        todo="apt-get install wordnet-base, or python -m nltk.downloader wordnet",
    )


def _folders() -> list[Path]:
    own = [Path(os.environ["WNSEARCHDIR"])] if os.environ.get("WNSEARCHDIR") else []
    nltk = [Path(entry) for entry in os.environ.get("NLTK_DATA", "").split(os.pathsep) if entry]
    nltk += [Path.home() / "nltk_data", Path("/usr/share/nltk_data")]
    return [*own, Path("/usr/share/wordnet"), *(entry / "corpora" / "wordnet" for entry in nltk)]


def parse_nouns(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Parents of each synset from the lines of data.noun (format: wndb(5WN))."""
    found = {}
    for line in lines:
        if line.startswith(" "):  # the licence
            continue
        words = line.split(" | ")[0].split()
        start = 4 + 2 * int(words[3], 16)
        pointers = words[start + 1 : start + 1 + 4 * int(words[start])]
        found["n" + words[0]] = tuple(
            "n" + pointers[i + 1]
            for i in range(0, len(pointers), 4)
            if pointers[i] in _PARENT_POINTERS
        )
    return found


def within_edges(
    synsets: Mapping[int, str], num_classes: int, hypernyms: Hypernyms, edges: int
) -> Alike:
    """Which classes are joined by a path of at most ``edges`` edges through a common ancestor.

    Args:
        synsets: WordNet ids by class id.
        num_classes: C; a class without a WordNet id is like itself alone.
        hypernyms: The parents of each synset.
        edges: Longest path.

    Raises:
        InputError: If an id is not in WordNet.
    """
    unknown = [name for name in synsets.values() if name not in hypernyms]
    if unknown:
        raise InputError(
            f"{counted(len(unknown), 'class is', 'classes are')} not in WordNet",
            got=some(map(in_list, unknown)),
            expected="ids of noun synsets of WordNet 3.0, such as n02084071",
            todo=f"give a file as {option('groups')} with a class name, a tab and a WordNet id on "
            "each line",
        )
    # A class that is s edges below an ancestor asks for classes at most edges - s below it.
    asked: list[tuple[int, int]] = []
    had: list[tuple[int, int]] = []
    numbers: dict[tuple[str, int], int] = {}
    for label, name in synsets.items():
        for ancestor, steps in _ancestors(name, hypernyms, edges).items():
            number = [
                numbers.setdefault((ancestor, most), len(numbers)) for most in range(edges + 1)
            ]
            asked.append((label, number[edges - steps]))
            had += [(label, mark) for mark in number[steps:]]
    return Alike.of_marks(_arrays(asked), _arrays(had), num_classes)


def _arrays(marks: Sequence[tuple[int, int]]) -> Marks:
    ids, numbers = np.array(marks, dtype=np.int64).reshape(-1, 2).T
    return ids, numbers


def _ancestors(name: str, hypernyms: Hypernyms, edges: int) -> dict[str, int]:
    """Fewest edges from ``name`` up to each ancestor that is at most ``edges`` away."""
    steps, found, level = 0, {name: 0}, [name]
    while level and steps < edges:
        steps += 1
        level = [up for child in level for up in hypernyms[child] if up not in found]
        found.update(dict.fromkeys(level, steps))
    return found
