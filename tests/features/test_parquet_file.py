"""What a Parquet file unpacks to, read from its footer and its pages' headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from alphafix.errors import FileFormatError
from alphafix.features.exchange import read_features
from alphafix.reading.limits import FREE_UNPACKED
from alphafix.reading.parquet_file import Unpacked, measure
from tests.safety import hostile

COLUMNS = ("features", "label", "id")


def measured(path: Path) -> Unpacked:
    return measure(path, COLUMNS, FREE_UNPACKED)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none", "use_dictionary": False},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"row_group_size": 90},
        {"version": "1.0", "data_page_size": 1000},
        {"write_page_index": True, "write_page_checksum": True},
    ],
)
def test_measure__counts_values_as_the_writer_did(options: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 16)).astype(np.float32)
    labels, ids = np.arange(1000), [f"id {n}" for n in range(1000)]
    table = pyarrow.table({"features": list(rows), "label": labels, "id": ids, "other": labels})
    parquet.write_table(table, tmp_path / "a.parquet", **options)
    found = measured(tmp_path / "a.parquet")
    # 4 and 8 bytes of each value, and 8 beside it; of an id 8 in the place of its text.
    assert found.size == 16_000 * 12 + 1000 * 16 + 1000 * 16
    assert len("id 999") * 90 < found.page < 1 << 20
    np.testing.assert_array_equal(read_features(tmp_path / "a.parquet", split="val").features, rows)


def test_measure__one_value_repeated(tmp_path: Path) -> None:
    path, count = tmp_path / "a.parquet", 1_000_000
    rows = pyarrow.ListArray.from_arrays([0, count], np.zeros(count, np.float32))
    parquet.write_table(pyarrow.table({"features": rows, "label": [0]}), path)
    assert path.stat().st_size < 2000
    assert measured(path).size > 12 * count


@pytest.mark.parametrize("make", [hostile.MANY_VALUES, hostile.DENIED_VALUES])
def test_read__many_values_are_refused_before_they_are_unpacked(
    make: hostile.Make, tmp_path: Path
) -> None:
    make(tmp_path / "a.parquet", tmp_path / "mark")
    assert measured(tmp_path / "a.parquet").size >= 12 << 30
    with pytest.raises(FileFormatError, match="it unpacks to 12,884,901,888 bytes"):
        read_features(tmp_path / "a.parquet", split="val")
