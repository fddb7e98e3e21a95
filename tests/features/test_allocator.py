"""Memory that is kept: fewer pages are asked of the system, and it is given back at the end."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest

from alphafix.features.allocator import kept_memory

ROUNDS = 10
MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)


def faults_of_batches() -> int:
    """Page faults of filling 64 MiB, again and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        b"x" * (64 * MIB)  # not NumPy, which asks for huge pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_kept_memory__is_asked_for_once() -> None:
    outside = faults_of_batches()
    with kept_memory():
        inside = faults_of_batches()
    assert inside < outside / 4
    assert faults_of_batches() > outside / 2  # the usual ways are back


def test_kept_memory__is_given_back_at_the_end() -> None:
    with kept_memory():
        faults_of_batches()
        held = resident()
    assert resident() < held - 32 * MIB


def test_kept_memory__ends_with_an_error_too() -> None:
    outside = faults_of_batches()
    with pytest.raises(KeyError), kept_memory():
        raise KeyError
    assert faults_of_batches() > outside / 2
