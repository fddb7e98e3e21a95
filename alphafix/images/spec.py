"""What `--data SPEC` means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alphafix.errors import InputError
from alphafix.images.data import (
    PLACEHOLDER,
    SPLITS,
    ArchiveData,
    ArrayData,
    FolderData,
    ImageData,
    ListData,
)

LISTS = (".txt", ".csv")
ARRAYS = (".npz", ".npy")
KINDS = ("folder", "list", "csv", "wds", "hf", "numpy")


def open_data(
    spec: str,
    *,
    root: Path | None = None,
    prefixes: Mapping[str, str] | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
) -> ImageData:
    """Open the data set that ``spec`` names.

    Args:
        spec: A folder with ``train/CLASS/image.jpg`` or with ``train.txt`` or ``train.csv``; or
            the path of such a folder or file, of tar files or of NumPy arrays, with
            ``{split}`` in it. A kind before it (``wds:``, ``hf:``, ...) says what it is where
            the name does not.
        root: For lists: the folder that their paths are relative to.
        prefixes: For lists: beginnings of paths to replace.
        image_key: For archives and Hugging Face data sets: what holds the image.
        label_key: For archives and Hugging Face data sets: what holds the class.

    Raises:
        InputError: If there is no such data.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in KINDS:
        kind, rest = _kind_of(spec), spec
    if kind == "hf":
        from alphafix.images.hub import HubData

        return HubData(rest, image_key, label_key)
    if kind == "wds":
        return ArchiveData(rest, image_key, label_key)
    if kind == "numpy":
        return ArrayData(rest)
    if kind in ("list", "csv"):
        return ListData(
            _with_split(rest, "." + {"list": "txt"}.get(kind, kind)), root, prefixes or {}
        )
    return FolderData(rest if PLACEHOLDER in rest else f"{rest}/{PLACEHOLDER}")


def _kind_of(spec: str) -> str:
    """What a specification without a kind is, by its name and by what is there."""
    suffix = Path(spec).suffix.lower()
    if suffix == ".tar":
        return "wds"
    if suffix in ARRAYS:
        return "numpy"
    if suffix in LISTS:
        return "csv" if suffix == ".csv" else "list"
    if PLACEHOLDER in spec:
        return "folder"
    if not Path(spec).is_dir():
        raise InputError(
            f"the data {spec} is not there",
            expected="a folder with train/CLASS/image.jpg or train.txt, a list file, tar files, "
            "or NumPy arrays",
            todo="correct --data",
        )
    for suffix in LISTS:
        if any((Path(spec) / f"{split}{suffix}").is_file() for split in SPLITS):
            return "csv" if suffix == ".csv" else "list"
    return "folder"


def _with_split(path: str, suffix: str) -> str:
    return f"{path}/{PLACEHOLDER}{suffix}" if Path(path).is_dir() else path
