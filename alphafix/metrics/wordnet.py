"""Distances in WordNet's noun hierarchy, from the database files that are installed."""

from __future__ import annotations

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from alphafix.errors import InputError, some
from alphafix.values.arrays import BoolArray

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


def within_edges(synsets: Sequence[str], hypernyms: Hypernyms, edges: int) -> BoolArray:
    """Which pairs are joined by a path of at most ``edges`` edges through a common ancestor.

    Returns:
        bool of shape len(synsets) x len(synsets), true on the diagonal.

    Raises:
        InputError: If an id is not in WordNet.
    """
    unknown = [name for name in synsets if name not in hypernyms]
    if unknown:
        raise InputError(
            f"{len(unknown)} classes are not in WordNet",
            got=some(unknown),
            expected="ids of noun synsets of WordNet 3.0, such as n02084071",
            todo="give --groups a file with a class name, a tab and a WordNet id on each line",
        )
    below: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, name in enumerate(synsets):
        for ancestor, steps in _ancestors(name, hypernyms, edges).items():
            below[ancestor].append((i, steps))
    alike = np.eye(len(synsets), dtype=np.bool_)
    for members in below.values():
        places, steps = np.array(members).T
        near = steps[:, None] + steps <= edges
        alike[np.ix_(places, places)] |= near
    return alike


def _ancestors(name: str, hypernyms: Hypernyms, edges: int) -> dict[str, int]:
    """Fewest edges from ``name`` up to each ancestor that is at most ``edges`` away."""
    steps, found, level = 0, {name: 0}, [name]
    while level and steps < edges:
        steps += 1
        level = [up for child in level for up in hypernyms[child] if up not in found]
        found.update(dict.fromkeys(level, steps))
    return found
