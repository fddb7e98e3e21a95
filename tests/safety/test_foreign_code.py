"""Files of strangers run no code: what could only be read by running it is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alphafix.errors import FileFormatError
from alphafix.models.graphs import export_classifier
from alphafix.models.model import Wanted
from alphafix.models.preprocess import Overrides


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.pt2"
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5)).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 4, 4),)), path)
    return path


def parts(archive: Path) -> list[str]:
    """Members of the archive that torch reads by torch.load."""
    with zipfile.ZipFile(archive) as file:
        return [name for name in file.namelist() if name.endswith((".pt", ".pth"))]


def test_export__that_is_whole_is_read(exported: Path) -> None:
    overrides = Overrides(image_size=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    classifier = export_classifier(Wanted("export", str(exported), overrides=overrides))
    assert classifier.caught is not None
    assert classifier.caught.weight.shape == (5, 48)


def test_export__with_code_in_any_part_is_refused_and_runs_nothing(
    exported: Path, tmp_path: Path
) -> None:
    assert parts(exported)
    for name in parts(exported):
        mark, path = tmp_path / "mark", tmp_path / "evil.pt2"
        with zipfile.ZipFile(exported) as source, zipfile.ZipFile(path, "w") as target:
            for info in source.infolist():
                evil = info.filename == name
                data = pickle.dumps(Evil(mark)) if evil else source.read(info)
                target.writestr(info, data)
        with pytest.raises(FileFormatError, match="is refused"):
            export_classifier(Wanted("export", str(path)))
        assert not mark.exists()
