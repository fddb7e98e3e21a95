"""The kinds of data, and which of them a specification such as ``wds:train-{000..146}.tar`` is.

A new kind is a file with an `ImageData` (and, as a rule, an `ImageSource` of its own), and an
entry in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alphafix.errors import InputError, option
from alphafix.images.archives import ArchiveData
from alphafix.images.arrays import ArrayData
from alphafix.images.data import ImageData
from alphafix.images.folders import SUFFIXES, FolderData, read_endings
from alphafix.images.hub import HubData
from alphafix.images.lists import ListData, has_lists
from alphafix.images.names import PLACEHOLDER, given_names
from alphafix.images.remote_files import RemoteArchiveData, RemoteFolderData, RemoteListData
from alphafix.images.tables import LISTS, Columns
from alphafix.reading.boundary import real
from alphafix.remote import fetched, is_address


@dataclass(frozen=True)
class Details:
    """What else the user says of the data.

    Attributes:
        root: For lists: the folder that their paths are relative to.
        prefixes: For lists: beginnings of paths to replace.
        image_key: For lists, archives and Hugging Face data sets: what holds the image.
        label_key: For the same: what holds the class.
        names: Names of splits, beside the usual ones.
        endings: For folders: endings of image files, in lower case.
    """

    root: Path | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)
    image_key: str | None = None
    label_key: str | None = None
    names: tuple[str, ...] = ()
    endings: frozenset[str] = SUFFIXES

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Details:
        """Read them from options, given or recorded; prefixes are texts ``OLD=NEW``.

        Raises:
            InputError: If a prefix or a name of a split has another form.
        """
        parts = [text.partition("=") for text in options.get("prefix_map") or ()]
        wrong = [old for old, equals, _ in parts if not equals]
        if wrong:
            raise InputError(
                f"{option('prefix_map')} is not understood", got=wrong[0], expected="OLD=NEW"
            )
        root = options.get("root")
        return cls(
            root=None if root is None else Path(root),
            prefixes={old: new for old, _, new in parts},
            image_key=options.get("image_key"),
            label_key=options.get("label_key"),
            names=tuple(given_names(options.get("split_name") or ()).values()),
            endings=read_endings(options.get("endings")),
        )


def _open_folder(place: str, details: Details) -> ImageData:
    if is_address(place):
        return RemoteFolderData(place, details.endings)
    pattern = place if PLACEHOLDER in place else str(Path(place) / PLACEHOLDER)
    return FolderData(pattern, details.names, details.endings)


def _listed(usual: str) -> Callable[[str, Details], ImageData]:
    def open_list(place: str, details: Details) -> ImageData:
        if is_address(place) or (details.root is not None and is_address(details.root)):
            columns = Columns(details.image_key, details.label_key)
            return RemoteListData(place, details.names, details.root, details.prefixes, columns)
        suffix = usual if usual != ".txt" else has_lists(Path(place)) or usual
        path = str(Path(place) / (PLACEHOLDER + suffix)) if Path(place).is_dir() else place
        columns = Columns(details.image_key, details.label_key)
        return ListData(path, details.names, details.root, details.prefixes, columns)

    return open_list


KINDS: Mapping[str, Callable[[str, Details], ImageData]] = {
    "folder": _open_folder,
    "list": _listed(".txt"),
    "csv": _listed(".csv"),
    "wds": lambda place, details: (RemoteArchiveData if is_address(place) else ArchiveData)(
        place, details.names, details.image_key, details.label_key
    ),
    "hf": lambda place, details: HubData(place, details.image_key, details.label_key),
    "numpy": lambda place, details: ArrayData(
        str(fetched(place)) if is_address(place) else place, details.names
    ),
}

# What a name's suffix says without a kind before it.
_SUFFIXES = {**dict.fromkeys(LISTS, "list"), ".tar": "wds", ".npz": "numpy", ".npy": "numpy"}


def open_data(spec: str, details: Details | None = None) -> ImageData:
    """Open the data set that ``spec`` names.

    Args:
        spec: A folder with ``train/CLASS/image.jpg`` or with ``train.txt`` or ``train.csv``; or
            the path of such a folder or file, of tar files or of NumPy arrays, with
            ``{split}`` in it. A kind before it (``wds:``, ``hf:``, ...) says what it is where
            the name does not.
        details: What else the user says of it.

    Raises:
        InputError: If there is no such data.
    """
    kind, colon, place = spec.partition(":")
    if not colon or kind not in KINDS:
        kind, place = _kind_of(spec), spec
    return KINDS[kind](place, details or Details())


def _kind_of(spec: str) -> str:
    """What a specification without a kind is, by its name and by what is there."""
    suffix = Path(spec).suffix.lower()
    if suffix in _SUFFIXES and not Path(spec).is_dir():
        return _SUFFIXES[suffix]
    if PLACEHOLDER in spec or is_address(spec):
        return "folder"
    if not Path(spec).is_dir():
        raise InputError(
            f"the data {spec} is not there",
            expected="a folder with train/CLASS/image.jpg or train.txt, a list file, tar files, "
            "or NumPy arrays",
            todo=f"correct {option('data')}",
        )
    return "list" if has_lists(Path(spec)) is not None else "folder"


def resolved(spec: str) -> str:
    """The specification of a data set with its place from the root, links followed."""
    kind, colon, place = spec.partition(":")
    if not colon or kind not in KINDS:
        kind, colon, place = "", "", spec
    return spec if is_address(place) else f"{kind}{colon}{real(Path(place))}"
