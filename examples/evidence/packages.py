"""Packages of the npm registry as folders: fetched once by npm, then read offline.

`npm pack` verifies what it fetches by the registry's checksum; no script of a package is run.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from itertools import takewhile
from pathlib import Path

from alphafix.errors import InputError, MissingPackageError


def npm_package(name: str, version: str, wanted: tuple[str, ...], folder: Path) -> Path:
    """Unpack files of a package, unless they are there.

    Args:
        name: Like "openmoji" or "@iconify/json".
        version: Exact.
        wanted: Beginnings of the paths of files, within the package.
        folder: Of all packages.

    Returns:
        The package's folder.

    Raises:
        MissingPackageError: If there is no npm.
        InputError: If npm fails.
    """
    place = folder / f"{name.replace('@', '').replace('/', '-')}-{version}"
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        archive = _fetched(f"{name}@{version}", Path(made))
        with tarfile.open(archive) as opened:
            members = [
                member
                for member in opened
                if member.isfile() and member.name.partition("/")[2].startswith(wanted)
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
