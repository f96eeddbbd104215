"""Freed memory is kept for the next tensor: glibc would give it back to Linux, and have it filled with zeros again."""

import ctypes
import sys
from functools import cache

from sticker_pipeline.space import GIB, MIB

# man 3 mallopt: the options by their numbers in malloc.h, which are part of glibc's ABI.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_OWN_BLOCK = 32 * MIB  # larger blocks go back at once, whatever is set: glibc's maximum
KEPT = GIB  # free bytes at the end of a heap before they go back


@cache
def keep_freed_memory() -> bool:
    """Have this process keep up to KEPT freed bytes; returns whether its C library is glibc, and did.

    A step of a U-Net frees and takes the same blocks hundreds of times. The most that a process takes does not change.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_OWN_BLOCK) and mallopt(M_TRIM_THRESHOLD, KEPT))
