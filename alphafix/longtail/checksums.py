"""Whether lists are the published ones: a manifest's hashes, or a sha256sum-style file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from alphafix.errors import FileFormatError, InputError, option
from alphafix.files import read_object
from alphafix.reading.boundary import reading

# Hash functions by the length of their hexadecimal digests (sha256sum, sha1sum, md5sum).
_KINDS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}

_LINE = re.compile(r"([0-9a-fA-F]+) [ *]?(.+)")


def read_checksums(path: Path) -> Mapping[str, str]:
    """Digests in lower-case hexadecimal by the name of the list.

    Args:
        path: A manifest that `alphafix make-lt` wrote (or any JSON object with
            ``"sha256": {name: digest}``), or lines of digest and name as of sha256sum.

    Raises:
        InputError: If the file cannot be read.
        FileFormatError: If it holds no checksums.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is not there",
            expected="a file with checksums",
            todo=f"correct {option('verify')}",
        )
    found = _of_manifest(path) if path.suffix == ".json" else _of_lines(path)
    bad = [name for name, digest in found.items() if len(digest) not in _KINDS]
    if bad or not found:
        raise FileFormatError(
            f"{path} holds no checksums",
            got=f"{bad[0]}: {found[bad[0]]!r}" if bad else "nothing",
            expected='a manifest with "sha256", or lines of a SHA-256 (SHA-1, MD5) and a name',
            todo=f"correct {option('verify')}",
        )
    return found


def verify(checksums: Mapping[str, str], folder: Path) -> tuple[str, ...]:
    """Compare lists with their checksums.

    Args:
        checksums: Digests by name.
        folder: Where the lists are.

    Returns:
        Names of the lists, all of which are as they should be.

    Raises:
        InputError: If a list differs or is missing; each one is named.
    """
    differing = []
    for name, digest in checksums.items():
        current = _digest(folder / name, _KINDS[len(digest)])
        if current != digest:
            differing.append(f"{name} is {current}, not {digest}")
    if differing:
        raise InputError(
            f"{len(differing)} of {len(checksums)} lists in {folder} are not the recorded ones",
            got="; ".join(differing),
            expected="lists with these checksums",
            todo="fetch or make the lists again",
        )
    return tuple(checksums)


def _digest(path: Path, kind: str) -> str:
    if not path.is_file():
        return "missing"
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _of_manifest(path: Path) -> dict[str, str]:
    found = read_object(path).get("sha256")
    if not isinstance(found, dict):
        return {}
    return {str(name): str(digest).lower() for name, digest in found.items()}


def _of_lines(path: Path) -> dict[str, str]:
    with reading(path, "lines of a checksum and a name in UTF-8"):
        lines = path.read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            found[match[2]] = match[1].lower()
        elif line.strip():
            found[line.strip()] = ""
    return found
