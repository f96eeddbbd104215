"""Reuse of freed memory, which glibc returns to Linux to be zeroed."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sticker_pipeline.core.files.space import GIB, MIB

# man 3 mallopt; numbers of malloc.h, part of glibc's ABI.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_OWN_BLOCK = 32 * MIB  # glibc's maximum; larger blocks go back at once
KEPT = GIB  # free bytes at the end of a heap


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep up to KEPT freed bytes in the block, then return them.

    A U-Net step frees and allocates the same blocks hundreds of times. Peak memory stays. Does nothing without glibc.
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
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None  # musl has none
