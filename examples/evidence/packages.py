"""Packages of the npm registry as folders: fetched once by npm, then read offline.

`npm pack` verifies what it fetches by the registry's checksum; no script of a package is run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from alphafix.errors import InputError, MissingPackageError


@dataclass(frozen=True)
class Package:
    """A package of npm, of which some files are needed.

    Attributes:
        name: Like "openmoji" or "@iconify/json".
        version: Exact.
        wanted: Beginnings of the paths of files, within the package.
        megabytes: How much npm fetches, all files of it.
    """

    name: str
    version: str
    wanted: tuple[str, ...]
    megabytes: int

    def place(self, folder: Path) -> Path:
        """Where it is, of the folder of all packages."""
        return folder / f"{self.name.replace('@', '').replace('/', '-')}-{self.version}"


def announce(made: str, packages: Sequence[Package], folder: Path) -> None:
    """Say, before it begins, what is made, and what npm fetches for that.

    Args:
        made: What is made, and where.
        packages: What it needs.
        folder: Of all packages.
    """
    lacking = [package for package in packages if not package.place(folder).is_dir()]
    if lacking:
        size = sum(package.megabytes for package in lacking)
        count = f"{len(lacking)} package{'s' if len(lacking) > 1 else ''}"
        made += f"; for that npm fetches {count}, about {size} MB, into {folder.absolute()}"
    print(made, file=sys.stderr, flush=True)


def npm_package(package: Package, folder: Path) -> Path:
    """Unpack files of a package, unless they are there.

    Args:
        package: What is needed.
        folder: Of all packages.

    Returns:
        The package's folder.

    Raises:
        MissingPackageError: If there is no npm.
        InputError: If npm fails.
    """
    place = package.place(folder)
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        archive = _fetched(f"{package.name}@{package.version}", Path(made))
        with tarfile.open(archive) as opened:
            members = [
                member
                for member in opened
                if member.isfile() and member.name.partition("/")[2].startswith(package.wanted)
            ]
            opened.extractall(Path(made) / "unpacked", members, filter="data")
        (Path(made) / "unpacked" / "package").rename(place)
    return place


def _fetched(spec: str, folder: Path) -> Path:
    command = ["npm", "pack", "--loglevel=error", "--ignore-scripts", spec]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MissingPackageError(
            f"npm is not installed, which fetches the package {spec}",
            todo="install Node.js with npm (https://nodejs.org), or give --data a folder where the "
            "package is already",
        ) from None
    except subprocess.CalledProcessError as error:
        raise InputError(
            f"npm could not fetch {spec}",
            got=_reason(error.stderr) or f"exit code {error.returncode}",
            todo="check the network and npm's registry (npm config get registry)",
        ) from None
    (archive,) = folder.glob("*.tgz")
    return archive


def _reason(said: str) -> str:
    """What npm says of a failure, without where in its own code that was, and its log."""
    lines = takewhile(lambda line: not re.match(r"npm \S+ +at ", line), said.splitlines())
    return "\n".join(line for line in lines if "complete log of this run" not in line)
