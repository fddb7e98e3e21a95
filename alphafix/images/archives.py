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
from functools import cached_property
from pathlib import Path, PurePosixPath

from alphafix.errors import InputError, MissingPackageError, counted, option
from alphafix.images.data import PathData
from alphafix.images.fingerprints import FILES, Fingerprint, Stamp, fingerprint_files, stamp
from alphafix.images.folders import SUFFIXES
from alphafix.images.labels import Reading, Written
from alphafix.images.names import PLACEHOLDER
from alphafix.images.order import repeated
from alphafix.images.source import OPEN, BadImageError, Content, ImageSource, Sample
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


def index_archive(path: Path) -> tuple[Record, ...]:
    """Read the headers of an archive.

    Raises:
        FileFormatError: If it is no whole, plain tar file.
        InputError: If it cannot be read, or a sample is there twice.
    """
    return _index(path, stamp(path))


# An index is some MB for the usual 10,000 samples; loading runs a little ahead of writing.
@functools.lru_cache(maxsize=4)
def _index(path: Path, _: Stamp) -> tuple[Record, ...]:
    what = "a whole tar file that is not compressed (images are already)"
    todo = "copy it again; unpack .tar.gz to .tar with gunzip"
    with reading(path, what, todo=todo), tarfile.open(path, "r:") as archive:
        found = tuple(_records(archive, path.stat().st_size))
    doubled = repeated([record.key for record in found])
    if doubled:
        raise InputError(
            f"a sample of {path} is there more than once",
            got=f"members of {doubled[0]} at different places ({len(doubled)} such samples)",
            expected="all members of a sample one after the other, and each sample once",
            todo="write the archive again with its members sorted by name (tar --sort=name)",
        )
    return found


def _records(archive: tarfile.TarFile, size: int) -> Iterator[Record]:
    key, members, end = "", dict[str, Member](), 0
    for entry in archive:
        # A size below zero would lead back to what was read before, without end.
        start, end = end, entry.offset_data + (entry.size if entry.isreg() else 0)
        if entry.size < 0 or not start <= entry.offset_data <= end <= size:
            raise tarfile.ReadError(f"{entry.name} does not lie within the file")
        folder, _, name = entry.name.rpartition("/")
        # What a Mac writes beside each file ("._a.jpg") is no sample.
        if not entry.isfile() or name.startswith("._") or "__MACOSX" in folder.split("/"):
            continue
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
        reading: How labels become class ids; None if all samples are of no known class.
        image_key: Extension of the image members; any image's by default.
        label_key: Extension of the label members, or a name in the ``json`` members.
    """

    paths: tuple[Path, ...]
    reading: Reading | None = None
    image_key: str | None = None
    label_key: str = LABEL

    @property
    def groups(self) -> int:
        """Number of archives."""
        return len(self.paths)

    @property
    def known_size(self) -> int | None:
        """Unknown: archives are opened one after the other."""
        return None

    def path(self, group: int) -> Path:
        """An archive, on this machine."""
        return self.paths[group]

    def size(self, group: int) -> int:
        """Number of samples of one archive."""
        return len(index_archive(self.path(group)))

    def fingerprint(self) -> Fingerprint:
        """Hash of the archives."""
        names = "".join(f"{name}\n" for name in self._names)
        return fingerprint_files(lambda: self.paths).with_parts(names.encode())

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """What the file system says of the archive: its samples stay or change together."""
        own = f"{self._names[group]} {index} {self.image_key} {self.label_key}"
        reading = "" if self.reading is None else self.reading.digest()
        known = f"{own} {reading} {stamp(self.paths[group])}"
        return Fingerprint("", FILES).with_parts(known.encode())

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """What the samples' ids begin with: the archives' names, as far as they tell them apart."""
        stems = tuple(path.stem for path in self.paths)
        if not repeated(stems):
            return stems
        folder = Path(os.path.commonpath([path.parent for path in self.paths]))
        return tuple(str(path.relative_to(folder).with_suffix("")) for path in self.paths)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return {} if self.reading is None else self.reading.ids

    def sample(self, group: int, index: int) -> Sample:
        """Read one sample.

        Raises:
            InputError: If it has no label, or one that is no class.
        """
        path = self.path(group)
        record = index_archive(path)[index]
        with path.open("rb") as file:
            label = self._label(group, record, file)
            return Sample(self._name(group, record), label, self._image(record, file))

    def label(self, group: int, index: int) -> int:
        """Label of one sample, without its image."""
        path = self.path(group)
        with path.open("rb") as file:
            return self._label(group, index_archive(path)[index], file)

    def labels(self, group: int) -> Iterator[tuple[str, str]]:
        """The labels of an archive as they are written, and the samples' ids.

        Raises:
            InputError: If a sample has none.
        """
        path = self.path(group)
        with path.open("rb") as file:
            for record in index_archive(path):
                yield self._text(group, record, file), self._name(group, record)

    def _name(self, group: int, record: Record) -> str:
        return f"{self._names[group]}/{record.key}"

    def _image(self, record: Record, file: io.BufferedReader) -> Content:
        wanted = {self.image_key} if self.image_key else IMAGES
        found = [member for ext, member in record.members.items() if ext in wanted]
        if len(found) != 1:
            return BadImageError(
                f"{counted(len(found), 'image')} among its members ({', '.join(record.members)})"
            )
        name = PurePosixPath(found[0].name)
        if name.is_absolute() or ".." in name.parts:
            return BadImageError(f"its name leaves the archive: {found[0].name}")
        return _read(file, found[0])

    def _label(self, group: int, record: Record, file: io.BufferedReader) -> int:
        if self.reading is None:
            return OPEN
        text = self._text(group, record, file)
        return self.reading.class_id(text, self._ids, where=self._name(group, record))

    def _text(self, group: int, record: Record, file: io.BufferedReader) -> str:
        text: object = None
        if self.label_key in record.members:
            text = _read(file, record.members[self.label_key]).decode(errors="replace").strip()
        elif "json" in record.members:
            text = _json_value(_read(file, record.members["json"]), self.label_key)
        if isinstance(text, str | int) and not isinstance(text, bool) and str(text).strip():
            return str(text).strip()
        raise InputError(
            f"the sample {self._name(group, record)} has no class",
            got=f"{self.label_key} is {text!r}; members {', '.join(record.members)}",
            expected=f"a member {self.label_key} with a class id or a class name",
            todo=f"name the label with {option('label_key')}",
        )


def _read(file: io.BufferedReader, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _json_value(data: bytes, key: str) -> object:
    try:
        found = parse_json(data)
    except ValueError:
        return None
    return found.get(key) if isinstance(found, dict) else None


class _NoneThereError(InputError):
    """None of the archives of a pattern is there."""


def expand(pattern: str) -> tuple[Path, ...]:
    """Paths of a pattern such as ``train-{000..146}.tar`` (several with ``::``).

    Raises:
        MissingPackageError: If there are braces and webdataset is not installed.
        InputError: If one of the files is not there.
    """
    paths = tuple(map(Path, named(pattern)))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        kind = _NoneThereError if len(missing) == len(paths) else InputError
        raise kind(
            f"{len(missing)} of {len(paths)} archives are not there",
            got=str(missing[0]),
            expected="a file",
            todo=f"correct the pattern in {option('data')}",
        )
    return paths


def named(pattern: str) -> tuple[str, ...]:
    """Paths or addresses that a pattern names, there or not.

    Raises:
        MissingPackageError: If there are braces and webdataset is not installed.
        InputError: If one is named twice.
    """
    if pattern.startswith("pipe:"):
        raise InputError(
            "archives are read from files",
            got=pattern,
            expected="paths or addresses of .tar files",
            todo="copy them; a run that is to survive interruptions reads at random",
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
    doubled = repeated([str(Path(part)) for part in parts])
    if doubled:
        raise InputError(
            "an archive is named more than once",
            got=doubled[0],
            expected="each once",
            todo=f"correct the pattern in {option('data')}",
        )
    return tuple(parts)


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

    def exists(self, name: str) -> bool:
        """Whether the archives are there.

        Raises:
            InputError: If some are and some are not.
        """
        try:
            return len(self.paths(name)) > 0
        except _NoneThereError:
            return False

    def written(self, name: str, *, whole: bool = False) -> Written:
        """The labels in the first archive, or in all of them."""
        source = self._open(name, None)
        places: dict[str, str] = {}
        groups = source.groups if whole else 1
        for group in range(groups):
            for text, sample in source.labels(group):
                places.setdefault(text, sample)
        what = f"the members {source.label_key}"
        return Written(tuple(sorted(places)), what, places, whole=groups == source.groups)

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """Open the archives."""
        return self._open(name, reading)

    def _open(self, name: str, reading: Reading | None) -> ArchiveSource:
        return ArchiveSource(self.paths(name), reading, self.image_key, self.label_key or LABEL)
