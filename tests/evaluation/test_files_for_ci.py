"""Files for a CI system replace earlier reports, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphafix.commands.evaluate.work import _replace
from alphafix.errors import TargetExistsError


def test_replace__an_earlier_report_but_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    _replace(path, '<?xml version="1.0" encoding="utf-8"?>\n<a/>', overwrite=False)
    _replace(path, '<?xml version="1.0" encoding="utf-8"?>\n<b/>', overwrite=False)
    assert path.read_text().endswith("<b/>")
    path.write_bytes(b"a model's weights")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        _replace(path, '<?xml version="1.0" encoding="utf-8"?>\n<c/>', overwrite=False)
    assert path.read_bytes() == b"a model's weights"
