"""Freed memory stays with the process, and is taken again without new pages."""

import subprocess
import sys

import pytest

# Blocks of 1 MiB, which are written and freed; pages that were new (minor faults) in later rounds are printed.
ROUNDS = """
import ctypes, resource, sys
from sticker_pipeline.heap import keep_freed_memory

if "keep" in sys.argv:
    assert keep_freed_memory() and keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def work():
    blocks = [libc.malloc(2**20) for _ in range(64)]
    for block in blocks:
        ctypes.memset(block, 1, 2**20)
    for block in blocks:
        libc.free(block)

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_pages_that_were_freed_are_taken_again() -> None:
    def new_pages(*arguments: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", ROUNDS, *arguments], text=True))

    pages = 5 * 64 * 2**20 // 4096
    assert new_pages() > 0.9 * pages  # what happens without the setting
    assert new_pages("keep") < 0.01 * pages
