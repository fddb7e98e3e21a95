"""Real long-tailed text that every Python has: docstrings of the standard library.

A sample is the docstring of one class or function, its label the top-level module that it is
from: hundreds of samples of `tkinter`, a dozen of `heapq`. Nothing is imported; the sources are
only parsed. The modules differ a little between versions of Python.
"""

from __future__ import annotations

import ast
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alphafix.values.arrays import IntArray

# Not part of the documented library, or code of other origin.
LEFT_OUT = {"test", "tests", "_test", "idlelib", "lib2to3", "turtledemo", "ensurepip"} | {
    "site-packages",
    "dist-packages",
}

SHORTEST = 20  # characters; less is hardly a sentence
LONGEST = 300  # the beginning says what an object is for
FEWEST = 8  # docstrings of a module, so that there is something to test on

Texts = npt.NDArray[np.str_]


def load(limit: int | None = None) -> tuple[Texts, Texts]:
    """Return N docstrings and the module that each is from.

    A text that several objects share is left out of all but the first: it could be learned by
    heart from the training samples.

    Args:
        limit: Read only this many source files, the first by name (for a quick try).
    """
    found: dict[str, str] = {}
    for module, text in _docstrings(Path(sysconfig.get_path("stdlib")), limit):
        found.setdefault(text, module)
    texts = defaultdict(list)
    for text, module in found.items():
        texts[module].append(text)
    kept = [(t, m) for m, own in sorted(texts.items()) if len(own) >= FEWEST for t in own]
    return np.array([t for t, _ in kept]), np.array([m for _, m in kept])


def _docstrings(root: Path, limit: int | None) -> Iterator[tuple[str, str]]:
    files = [p for p in sorted(root.rglob("*.py")) if not LEFT_OUT & set(p.relative_to(root).parts)]
    for path in files[:limit]:
        parts = path.relative_to(root).parts
        module = parts[0].removesuffix(".py").lstrip("_")
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # templates, and files that test the parser
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())[:LONGEST]
                if len(text) >= SHORTEST:
                    yield module, text


def split(
    modules: Texts, seed: int, *, share: float = 0.3, least: int = 2
) -> tuple[IntArray, IntArray]:
    """Indices of the samples to fit on, and of those held out: a share of each module."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(modules), dtype=bool)
    for module in np.unique(modules):
        own = np.flatnonzero(modules == module)
        held[rng.choice(own, size=max(least, round(share * len(own))), replace=False)] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
