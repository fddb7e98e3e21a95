"""Memory that is kept: no large block is asked of the system, and all is given back at the end."""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from alphafix.commands.extract.allocator import kept_memory

MIB = 1 << 20
LARGE = 64 * MIB

LIBRARY = ctypes.CDLL(None)

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(LIBRARY, "mallinfo2"),
    reason="the C library is not glibc of 2.33 or later",
)


class Info(ctypes.Structure):
    """What mallinfo2(3) tells."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def large_blocks_mapped() -> int:
    """How many mappings of its own the C library makes for one large block."""
    LIBRARY.mallinfo2.restype = Info
    LIBRARY.malloc.restype = ctypes.c_void_p
    before = LIBRARY.mallinfo2().hblks
    block = ctypes.c_void_p(LIBRARY.malloc(ctypes.c_size_t(LARGE)))
    mapped = LIBRARY.mallinfo2().hblks - before
    ctypes.memset(block, 1, LARGE)
    LIBRARY.free(block)
    return int(mapped)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def in_a_new_process(body: Callable[[], None]) -> None:
    """Call ``body`` where no test before it has left free memory behind."""
    process = multiprocessing.get_context("spawn").Process(target=body)
    process.start()
    process.join()
    assert process.exitcode == 0


def block_by_block() -> None:
    assert large_blocks_mapped() == 1
    with kept_memory():
        assert large_blocks_mapped() == 0
        held = resident()
        assert large_blocks_mapped() == 0
        assert resident() < held + 32 * MIB  # the same pages again
    assert large_blocks_mapped() == 1  # the usual ways are back


def given_back() -> None:
    with kept_memory():
        large_blocks_mapped()
        held = resident()
    assert resident() < held - 32 * MIB


def ended_by_an_error() -> None:
    with pytest.raises(KeyError), kept_memory():
        raise KeyError
    assert large_blocks_mapped() == 1


def test_kept_memory__is_not_asked_of_the_system_block_by_block() -> None:
    in_a_new_process(block_by_block)


def test_kept_memory__is_given_back_at_the_end() -> None:
    in_a_new_process(given_back)


def test_kept_memory__ends_with_an_error_too() -> None:
    in_a_new_process(ended_by_an_error)
