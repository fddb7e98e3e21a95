"""Images elsewhere: class folders, lists and archives at addresses such as ``s3://bucket/photos``."""

from __future__ import annotations

import contextlib
import os
import posixpath
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from alphafix import remote
from alphafix.errors import InputError, counted
from alphafix.images.archives import LABEL, ArchiveData, ArchiveSource, named
from alphafix.images.data import ImageData
from alphafix.images.fingerprints import Fingerprint
from alphafix.images.folders import SUFFIXES
from alphafix.images.labels import Reading, Written
from alphafix.images.listing import FileListing
from alphafix.images.lists import ListData
from alphafix.images.names import PLACEHOLDER, USUAL
from alphafix.images.source import OPEN, ImageSource, Sample
from alphafix.values.arrays import IntArray
from alphafix.values.texts import Texts

VERSIONS = "size and version of the remote files"
NAMES = "names of the remote files, whose content is not asked for"


@dataclass(frozen=True)
class RemoteFiles(ImageSource):
    """Image files at addresses, in a fixed order, each read when its turn comes.

    Attributes:
        base: Address that the paths are relative to.
        paths: N paths; they are the sample ids too. One may be an address itself.
        labels: int64 of shape N.
        versions: What the server says of each file, or none where it was not asked.
        listed: Whether a list names the files.
    """

    base: str
    paths: Texts
    labels: IntArray
    versions: tuple[str, ...] = ()
    listed: bool = False

    def size(self, group: int) -> int:
        """N."""
        return len(self.paths)

    def sample(self, group: int, index: int) -> Sample:
        """Read one file.

        Raises:
            InputError: If it cannot be read: what is elsewhere may be there a minute later, so
                that it is not left out as a bad image.
        """
        path = self.paths[index]
        return Sample(path, int(self.labels[index]), remote.read(self._address(path)))

    def label(self, group: int, index: int) -> int:
        """Label of one sample."""
        return int(self.labels[index])

    @property
    def known_labels(self) -> IntArray:
        """All labels."""
        return self.labels

    @property
    def file_paths(self) -> Iterable[str]:
        """Addresses of the images of a list."""
        return map(self._address, self.paths) if self.listed else ()

    def _address(self, path: str) -> str:
        return path if remote.is_address(path) else f"{self.base}/{path}"

    def fingerprint(self) -> Fingerprint:
        """Hash of paths, labels and what the server says of the files."""
        known = "\n".join(self.versions).encode()
        start = Fingerprint(self.base, VERSIONS if self.versions else NAMES)
        return start.with_parts(self.paths.data, self.paths.ends, self.labels, known)

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """The same of some of them."""
        paths = "".join(f"{self.paths[i]}\0" for i in index)
        known = "\n".join(self.versions[index.start : index.stop]).encode()
        start = Fingerprint(self.base, VERSIONS if self.versions else NAMES)
        return start.with_parts(paths.encode(), self.labels[index.start : index.stop], known)


@dataclass(frozen=True)
class RemoteFolderData(ImageData):
    """Class folders at an address: ADDRESS/SPLIT/CLASS/image.jpg.

    Attributes:
        address: The folder of the splits, or a pattern with ``{split}``.
        endings: Endings of image files, in lower case.
    """

    address: str
    endings: frozenset[str] = SUFFIXES

    @property
    def _before(self) -> str:
        return self.address.partition(PLACEHOLDER)[0].rstrip("/")

    @cached_property
    def _all(self) -> list[tuple[str, remote.Entry]]:
        """All images below the address, with their paths from there."""
        before = len(self._before) + 1
        found = [(one.address[before:], one) for one in remote.entries(self._before)]
        images = [pair for pair in found if posixpath.splitext(pair[0])[1].lower() in self.endings]
        if not images:
            raise InputError(
                f"{self._before} holds no images",
                got=f"{counted(len(found), 'file')}",
                expected="SPLIT/CLASS/image.jpg below it",
            )
        return images

    def there(self) -> tuple[str, ...]:
        """Folders of splits."""
        return tuple(dict.fromkeys(path.partition("/")[0] for path, _ in self._all if "/" in path))

    def place(self, name: str) -> str:
        """The address of a split."""
        return f"{self._before}/{name}"

    def _of(self, name: str) -> list[tuple[str, remote.Entry]]:
        """Images of a split, their paths from its folder on; classes in string order."""
        start = f"{name}/"
        return [(path[len(start) :], one) for path, one in self._all if path.startswith(start)]

    def written(self, name: str, *, whole: bool = False) -> Written:
        """Names of the class folders."""
        names = tuple(sorted({path.partition("/")[0] for path, _ in self._of(name) if "/" in path}))
        return Written(names, "folder names", dict.fromkeys(names, self.place(name)), named=True)

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """List the folder."""
        found = self._of(name)
        if reading is None:
            labels = np.full(len(found), OPEN, dtype=np.int64)
        else:
            found = [pair for pair in found if "/" in pair[0]]
            names = sorted({path.partition("/")[0] for path, _ in found})
            table = dict(zip(names, reading.table(names).tolist(), strict=True))
            # Classes in the order of their ids; within one, as `alphafix.images.folders` has them.
            found.sort(key=lambda pair: (table[pair[0].partition("/")[0]], _key(pair[0])))
            labels = np.array([table[path.partition("/")[0]] for path, _ in found], dtype=np.int64)
        return RemoteFiles(
            self.place(name),
            Texts.pack(path for path, _ in found),
            labels,
            tuple(f"{one.size} {one.version}" for _, one in found),
        )


def _key(path: str) -> list[tuple[int, str]]:
    """Sorts files before folders, at every depth."""
    *folders, file = path.split("/")
    return [*((1, folder) for folder in folders), (0, file)]


def _there(extra: Iterable[str], first: Callable[[str], str]) -> tuple[str, ...]:
    """Names of splits, of the usual ones and ``extra``, whose first file is at its address.

    Raises:
        InputError: If the server refuses all of them: then it does not hide one, but shuts out.
    """
    known = tuple(dict.fromkeys([*sum(USUAL.values(), ()), *extra]))
    found = tuple(name for name in known if remote.exists(first(name), hidden=True))
    if not found:
        remote.exists(first(known[0]))
    return found


@dataclass(frozen=True)
class RemoteListData(ListData):
    """Lists of images, of which the lists, the images or both are at addresses."""

    def path(self, name: str) -> Path:
        """A copy of the list of a split, if it is elsewhere."""
        if not remote.is_address(self.pattern):
            return super().path(name)
        return remote.fetched(self.pattern.replace(PLACEHOLDER, name))

    def exists(self, name: str) -> bool:
        """Whether the list is there."""
        if not remote.is_address(self.pattern):
            return super().exists(name)
        return remote.exists(self.place(name), hidden=True)

    def place(self, name: str) -> str:
        """The address."""
        return self.pattern.replace(PLACEHOLDER, name)

    def there(self) -> tuple[str, ...]:
        """Names of lists that are there, of the usual ones; or what a column says."""
        if not remote.is_address(self.pattern):
            return super().there()
        if self._column:
            return self._column
        if self.single:
            return ()
        return _there(self.extra, self.place)

    def source(self, split: str, name: str, reading: Reading | None) -> ImageSource:
        """The images that the list names."""
        found = super().source(split, name, reading)
        assert isinstance(found, FileListing)
        if self.root is not None:
            base = remote.address_of(self.root) if remote.is_address(self.root) else None
        else:
            base = remote.beside(self.pattern) if remote.is_address(self.pattern) else None
        if base is None:
            return found
        return RemoteFiles(base, found.paths, found.labels, listed=True)


@dataclass(frozen=True)
class RemoteArchives(ArchiveSource):
    """Tar files at addresses: each is fetched when its turn comes, and the next one meanwhile.

    Attributes:
        addresses: The archives.
    """

    addresses: tuple[str, ...] = ()

    @cached_property
    def _known(self) -> tuple[remote.Entry, ...]:
        return tuple(map(remote.entry, self.addresses))

    def path(self, group: int) -> Path:
        """A copy of an archive; the next of this process is fetched meanwhile."""
        found = remote.fetched(self.addresses[group], self._known[group])
        _ahead.start(self, group)
        return found

    def fingerprint(self) -> Fingerprint:
        """What the server says of the archives."""
        known = "".join(
            f"{name} {one.size} {one.version}\n"
            for name, one in zip(self._names, self._known, strict=True)
        )
        return Fingerprint("", VERSIONS).with_parts(known.encode())

    def part_fingerprint(self, group: int, index: range) -> Fingerprint:
        """What the server says of the archive."""
        own = f"{self._names[group]} {index} {self.image_key} {self.label_key}"
        reading = "" if self.reading is None else self.reading.digest()
        one = self._known[group]
        known = f"{own} {reading} {one.size} {one.version}"
        return Fingerprint("", VERSIONS).with_parts(known.encode())


class _Ahead:
    """One thread that fetches the archive whose turn comes next."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None
        self._step = int(os.environ.get("WORLD_SIZE", "1"))

    def start(self, source: RemoteArchives, group: int) -> None:
        """Fetch what comes after ``group``, by the step at which archives were asked for."""
        address = source.addresses[group]
        if self._last is not None and self._last[0] == address:
            return
        if self._last is not None and group > self._last[1]:
            self._step = group - self._last[1]
        self._last = (address, group)
        following = group + self._step
        if following < len(source.addresses):
            threading.Thread(target=self._fetch, args=(source, following), daemon=True).start()

    @staticmethod
    def _fetch(source: RemoteArchives, group: int) -> None:
        with contextlib.suppress(Exception):  # who needs it asks again, and is told
            remote.fetched(source.addresses[group], source._known[group])


_ahead = _Ahead()


@dataclass(frozen=True)
class RemoteArchiveData(ArchiveData):
    """WebDataset archives at addresses."""

    def _addresses(self, name: str) -> Iterator[str]:
        yield from named(self.pattern.replace(PLACEHOLDER, name))

    def exists(self, name: str) -> bool:
        """Whether the first archive is there."""
        return remote.exists(self._first(name), hidden=True)

    def _first(self, name: str) -> str:
        """Address of the first archive of a split."""
        return next(self._addresses(name))

    def there(self) -> tuple[str, ...]:
        """Usual names of splits whose archives are there."""
        if self.single:
            return ()
        return _there(self.extra, self._first)

    def _open(self, name: str, reading: Reading | None) -> ArchiveSource:
        addresses = tuple(self._addresses(name))
        return RemoteArchives(
            paths=tuple(map(Path, addresses)),
            reading=reading,
            image_key=self.image_key,
            label_key=self.label_key or LABEL,
            addresses=addresses,
        )
