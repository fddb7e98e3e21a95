"""Readers of foreign bytes on changed files: a right result or one error of ours, nothing else.

A small part of `python -m tests.fuzz`, which reads 100,000 inputs a reader.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.engine import mutations, try_one
from tests.fuzz.readers import ALL, READERS, Reader

INPUTS = 40

# Those that read JSON, whose entries are replaced one by one.
JSON = (
    "classes",
    "report",
    "comparison",
    "manifest",
    "note",
    "record",
    "oltr-config",
    "class-map",
    "groups",
    "counts",
    "checksums",
    "index",
    "head",
    "correction",
    "neighbors",
)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../a", "a" * 300, "a\0b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def prepared(reader: Reader, folder: Path) -> tuple[Path, list[bytes]]:
    path = folder / "in" / reader.file
    path.parent.mkdir(parents=True)
    (folder / "seeds").mkdir()
    seeds = reader.seeds(folder / "seeds")
    reader.around(path.parent)
    return path, seeds


@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_fuzz__changed_files(reader: Reader, tmp_path: Path) -> None:
    path, seeds = prepared(reader, tmp_path)
    for seed in seeds:
        path.write_bytes(reader.wrap(seed))
        reader.read(path)  # what is honest is read
    for data in itertools.islice(mutations(seeds, 0), len(seeds) + INPUTS):
        found = try_one(reader, path, data)
        assert found is None, found.trace


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of JSON data are, from the outside."""
    if not isinstance(value, (dict, list)):
        return [at]
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [at, *(place for key, inner in pairs for place in places(inner, (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


@pytest.mark.parametrize("name", JSON)
def test_schema__any_entry_of_any_type(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    path, seeds = prepared(reader, tmp_path)
    whole = json.loads(seeds[0])

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(at=st.sampled_from(places(whole)), new=VALUES)
    def holds(at: tuple[Any, ...], new: Any) -> None:
        found = try_one(reader, path, json.dumps(replaced(whole, at, new)).encode())
        assert found is None, found.trace

    holds()
