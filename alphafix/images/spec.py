"""What `--data SPEC` means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alphafix.errors import InputError
from alphafix.images.data import PLACEHOLDER, SPLITS, FolderData, ImageData, ListData

LISTS = (".txt", ".csv")


def open_data(
    spec: str,
    *,
    root: Path | None = None,
    prefixes: Mapping[str, str] | None = None,
) -> ImageData:
    """Open the data set that ``spec`` names.

    Args:
        spec: A folder with ``train/CLASS/image.jpg`` or with ``train.txt`` or ``train.csv``; or
            the path of such a folder or file, with ``{split}`` in it.
        root: For lists: the folder that their paths are relative to.
        prefixes: For lists: beginnings of paths to replace.

    Raises:
        InputError: If there is no such data.
    """
    prefixes = prefixes or {}
    if Path(spec).suffix.lower() in LISTS:
        return ListData(spec, root, prefixes)
    if PLACEHOLDER in spec:
        return FolderData(spec)
    if not Path(spec).is_dir():
        raise InputError(
            f"the data {spec} is not there",
            expected="a folder with train/CLASS/image.jpg or train.txt, or a list file",
            todo="correct --data",
        )
    for suffix in LISTS:
        if any((Path(spec) / f"{split}{suffix}").is_file() for split in SPLITS):
            return ListData(f"{spec}/{PLACEHOLDER}{suffix}", root, prefixes)
    return FolderData(f"{spec}/{PLACEHOLDER}")
