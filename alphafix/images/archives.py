"""WebDataset archives: tar files whose members of one stem are one sample.

The archives are indexed by their headers, each when it is its turn, and read at random; so an
extraction can go on in the middle of one. That needs plain tar files on a file system (local
or mounted); the `webdataset` package, which streams, could only start an archive again.
"""

from __future__ import annotations

import functools
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alphafix.errors import InputError, MissingPackageError, option
from alphafix.images.data import PLACEHOLDER, PathData
from alphafix.images.folders import SUFFIXES
from alphafix.images.source import OPEN, BadImageError, Content, ImageSource, Sample, sha256
from alphafix.reading.boundary import reading
from alphafix.reading.schema import parse_json

IMAGES = frozenset(suffix[1:] for suffix in SUFFIXES)

# WebDataset's own name for a class id.
LABEL = "cls"


@dataclass(frozen=True)
class Member:
    """Where a member's data is in its archive."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Record:
    """The members of one sample, by extension."""

    key: str
    members: Mapping[str, Member]


# An index is some MB for the usual 10,000 samples; loading runs a little ahead of writing.
@functools.lru_cache(maxsize=4)
def index_archive(path: Path) -> tuple[Record, ...]:
    """Read the headers of an archive.

    Raises:
        FileFormatError: If it is no whole, plain tar file.
        InputError: If it cannot be read.
    """
    what = "a whole tar file that is not compressed (images are already)"
    todo = "copy it again; unpack .tar.gz to .tar with gunzip"
    with reading(path, what, todo=todo), tarfile.open(path, "r:") as archive:
        return tuple(_records(archive, path.stat().st_size))


def _records(archive: tarfile.TarFile, size: int) -> Iterator[Record]:
    key, members, end = "", dict[str, Member](), 0
    for entry in archive:
        # A size below zero would lead back to what was read before, without end.
        start, end = end, entry.offset_data + (entry.size if entry.isreg() else 0)
        if entry.size < 0 or not start <= entry.offset_data <= end <= size:
            raise tarfile.ReadError(f"{entry.name} does not lie within the file")
        if not entry.isfile():
            continue
        folder, _, name = entry.name.rpartition("/")
        stem, _, extension = name.partition(".")
        own = f"{folder}/{stem}" if folder else stem
        if own != key and members:
            yield Record(key, members)
            members = {}
        key = own
        members[extension.lower()] = Member(entry.name, entry.offset_data, entry.size)
    if members:
        yield Record(key, members)


@dataclass(frozen=True)
class ArchiveSource(ImageSource):
    """Images in tar files, one group each.

    Attributes:
        paths: The archives.
        ids: Class ids by name, or None where labels are numbers.
        image_key: Extension of the image members; any image's by default.
        label_key: Extension of the label members, or a name in the ``json`` members.
        open_set: Whether labels are to be ignored.
    """

    paths: tuple[Path, ...]
    ids: Mapping[str, int] | None = None
    image_key: str | None = None
    label_key: str = LABEL
    open_set: bool = False

    @property
    def groups(self) -> int:
        """Number of archives."""
        return len(self.paths)

    @property
    def known_size(self) -> int | None:
        """Unknown: archives are opened one after the other."""
        return None

    def size(self, group: int) -> int:
        """Number of samples of one archive."""
        return len(index_archive(self.paths[group]))

    def fingerprint(self) -> str:
        """Hash of the archives' names and sizes."""
        lines = [f"{path.name} {os.stat(path).st_size}\n" for path in self.paths]
        return sha256("".join(lines).encode())

    def sample(self, group: int, index: int) -> Sample:
        """Read one sample.

        Raises:
            InputError: If it has no label, or one that is no class.
        """
        path = self.paths[group]
        record = index_archive(path)[index]
        name = f"{path.stem}/{record.key}"
        with path.open("rb") as file:
            label = OPEN if self.open_set else self._label(name, record, file)
            return Sample(name, label, self._image(record, file))

    def _image(self, record: Record, file: io.BufferedReader) -> Content:
        wanted = {self.image_key} if self.image_key else IMAGES
        found = [member for ext, member in record.members.items() if ext in wanted]
        if len(found) != 1:
            return BadImageError(
                f"{len(found)} images among its members ({', '.join(record.members)})"
            )
        name = PurePosixPath(found[0].name)
        if name.is_absolute() or ".." in name.parts:
            return BadImageError(f"its name leaves the archive: {found[0].name}")
        return _read(file, found[0])

    def _label(self, name: str, record: Record, file: io.BufferedReader) -> int:
        text: object = None
        if self.label_key in record.members:
            text = _read(file, record.members[self.label_key]).decode(errors="replace").strip()
        elif "json" in record.members:
            text = _json_value(_read(file, record.members["json"]), self.label_key)
        if self.ids is not None and text in self.ids:
            return self.ids[str(text)]
        try:
            return int(str(text))
        except ValueError as error:
            raise InputError(
                f"the sample {name} has no class",
                got=f"{self.label_key} is {text!r}; members {', '.join(record.members)}",
                expected=f"a member {self.label_key} with a class id",
                todo=f"name the label with {option('label_key')}, and the classes with "
                f"{option('class_map')} if the labels are names",
            ) from error


def _read(file: io.BufferedReader, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _json_value(data: bytes, key: str) -> object:
    try:
        found = parse_json(data)
    except ValueError:
        return None
    return found.get(key) if isinstance(found, dict) else None


def expand(pattern: str) -> tuple[Path, ...]:
    """Paths of a pattern such as ``train-{000..146}.tar`` (several with ``::``).

    Raises:
        MissingPackageError: If there are braces and webdataset is not installed.
        InputError: If one of the files is not there.
    """
    if "://" in pattern or pattern.startswith("pipe:"):
        raise InputError(
            "archives are read from a file system",
            got=pattern,
            expected="paths of local or mounted .tar files",
            todo="copy or mount them; a run that is to survive interruptions reads at random",
        )
    parts = pattern.split("::")
    if "{" in pattern:
        try:
            from braceexpand import braceexpand
        except ImportError as error:
            raise MissingPackageError(
                "patterns with braces need webdataset, which is not installed",
                got=pattern,
                todo="pip install 'alphafix[webdataset]', or name the files",
            ) from error
        parts = [name for part in parts for name in braceexpand(part)]
    paths = tuple(Path(part) for part in parts)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(paths)} archives are not there",
            got=str(missing[0]),
            expected="a file",
            todo=f"correct the pattern in {option('data')}",
        )
    return paths


@dataclass(frozen=True)
class ArchiveData(PathData):
    """WebDataset archives; the pattern may have braces, too.

    Attributes:
        image_key: Extension of the images, if the user gave it.
        label_key: Extension of the labels, or their name in the json, if the user gave it.
    """

    image_key: str | None = None
    label_key: str | None = None

    def paths(self, split: str) -> tuple[Path, ...]:
        """Archives of a split."""
        return expand(self.pattern.replace(PLACEHOLDER, split))

    def has(self, split: str) -> bool:
        """Whether the archives are there."""
        try:
            return len(self.paths(split)) > 0
        except InputError:
            if split == "train" or self.single:
                raise  # what is missing is worth knowing
            return False

    def source(self, split: str, classes: tuple[str, ...] | None) -> ImageSource:
        """Open the archives."""
        ids = None if classes is None else {name: i for i, name in enumerate(classes)}
        return ArchiveSource(
            self.paths(split), ids, self.image_key, self.label_key or LABEL, split == "open"
        )
