"""Freed memory stays with the process and is reused without new pages; it is returned at the end."""

import subprocess
import sys

import pytest

# Blocks of 1 MiB, which are written and freed. Prints the pages that were new in later rounds (minor faults), and the
# bytes resident afterwards.
ROUNDS = """
import contextlib, ctypes, psutil, resource, sys
from sticker_pipeline.core.process.heap import freed_memory_kept

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def work():
    blocks = [libc.malloc(2**20) for _ in range(64)]
    for block in blocks:
        ctypes.memset(block, 1, 2**20)
    for block in blocks:
        libc.free(block)

with freed_memory_kept() if "kept" in sys.argv else contextlib.nullcontext():
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, psutil.Process().memory_info().rss)
print(psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_pages_that_were_freed_are_taken_again_and_go_back_at_the_end() -> None:
    def measured(*arguments: str) -> list[int]:
        command = [sys.executable, "-c", ROUNDS, *arguments]
        return [int(number) for number in subprocess.check_output(command, text=True).split()]

    pages = 5 * 64 * 2**20 // 4096
    new, _, _ = measured()
    assert new > 0.9 * pages  # what happens without the setting
    new, inside, behind = measured("kept")
    assert new < 0.01 * pages
    assert inside - behind > 60 * 2**20
