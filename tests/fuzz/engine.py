"""Inputs, one after the other, each within limits; what is no error of our own is a finding."""

from __future__ import annotations

import random
import resource
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from alphafix.errors import AlphafixError
from alphafix.images.source import BadImageError
from tests.fuzz.readers import Reader

SECONDS = 2.0
BYTES = 1 << 30

OURS = (AlphafixError, BadImageError)


class TooSlow(BaseException):
    """An input took more processor time than it may."""


def limit_memory() -> None:
    """Let this process take `BYTES` more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@dataclass(frozen=True)
class Finding:
    """An input that ended in something else than a result or one error of ours.

    Attributes:
        what: The exception's type and the line of the package that it came through last.
        input: The bytes.
        trace: The traceback.
    """

    what: str
    input: bytes
    trace: str


def try_one(reader: Reader, path: Path, data: bytes) -> Finding | None:
    """Read one input."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    path.write_bytes(reader.wrap(data))
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        reader.read(path)
    except OURS as error:
        str(error)
    except (Exception, TooSlow) as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        frames = traceback.extract_tb(error.__traceback__)
        inside = [f for f in frames if "/alphafix/" in f.filename] or frames[-1:]
        where = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}"
        return Finding(
            f"{type(error).__name__} in {where}", data, "".join(traceback.format_exception(error))
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


_NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_TOKENS = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"-1",
    b"1e999",
    b"NaN",
    b"4611686018427387904",
    b"9" * 400,
    b"[" * 300,
    b'{"a":' * 60,
    b"\\ud800",
    b"\\u0000",
    b"../",
    b"a" * 300,
    b"*x",
    b"&x",
    b"\x00",
    b"\xff" * 8,
    b"PK\x03\x04",
    b"\x80\x02",
    b"(]}",
    b"R.",
)


def mutated(seeds: list[bytes], random: random.Random) -> bytes:
    """One of the seeds, changed in a few places."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 32)))
        kind = random.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at:end] = random.randbytes(end - at)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * random.choice((1, 2, 50))
        elif kind == 4:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(_NUMBERS) & ((1 << 8 * size) - 1)
            data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))
        elif kind == 5:
            data[at : random.choice((at, end))] = random.choice(_TOKENS)
        elif kind == 6:
            _replace_word(data, random)
        else:
            other = random.choice(seeds)
            start = random.randrange(len(other) + 1)
            data[at:end] = other[start : start + random.choice((4, 16, 64))]
    return bytes(data)


def _replace_word(data: bytearray, random: random.Random) -> None:
    """Change a number or a word of text as a whole."""
    at = random.randrange(len(data) + 1)
    word = b'0123456789.-+eE"abcdfghijklmnopqrstuvwxyz_'
    start = end = at
    while start > 0 and data[start - 1] in word and at - start < 40:
        start -= 1
    while end < len(data) and data[end] in word and end - at < 40:
        end += 1
    data[start:end] = random.choice(_TOKENS)


def mutations(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds themselves, then changed ones without end."""
    yield from seeds
    rng = random.Random(seed)
    while True:
        yield mutated(seeds, rng)
