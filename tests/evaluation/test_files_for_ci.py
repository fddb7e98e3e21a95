"""Files for a CI system replace earlier reports, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphafix.commands.evaluate.work import _replace
from alphafix.errors import TargetExistsError
from alphafix.report.ci import JUNIT


@pytest.mark.parametrize(
    "other", [b"a model's weights", b'<?xml version="1.0" encoding="utf-8"?>\n<project/>']
)
def test_replace__an_earlier_report_but_no_other_file(tmp_path: Path, other: bytes) -> None:
    path = tmp_path / "report.xml"
    _replace(path, JUNIT + ">1</testsuites>", JUNIT, overwrite=False)
    _replace(path, JUNIT + ">2</testsuites>", JUNIT, overwrite=False)
    assert path.read_text().endswith("2</testsuites>")
    path.write_bytes(other)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        _replace(path, JUNIT + ">3</testsuites>", JUNIT, overwrite=False)
    assert path.read_bytes() == other
