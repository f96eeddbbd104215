"""Freed memory is kept for the next tensor: glibc would give it back to Linux, and have it filled with zeros again."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sticker_pipeline.core.files.space import GIB, MIB

# man 3 mallopt: the options by their numbers in malloc.h, which are part of glibc's ABI.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_OWN_BLOCK = 32 * MIB  # larger blocks go back at once, whatever is set: glibc's maximum
KEPT = GIB  # free bytes at the end of a heap before they go back


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, this process keeps up to KEPT freed bytes; behind, it gives back what is free.

    A step of a U-Net frees and takes the same blocks hundreds of times. The most that a process takes does not change.
    With another C library than glibc nothing is done.
    """
    libc = _glibc()
    if libc:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_OWN_BLOCK)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        if libc:
            libc.malloc_trim(0)


def _glibc() -> Any:
    """glibc, where this process has it."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None  # musl has none
