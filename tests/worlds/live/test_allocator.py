"""Memory that is kept is not taken anew: in a process of its own, because it changes the whole process."""

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource
def move():
    chunks = [b"x" * (1 << 20) for _ in range(16)]
move()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    move()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEPT = "from kuberml.worlds.live.allocator import keep_memory; keep_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_pages_are_taken_once() -> None:
    faults = int(subprocess.check_output([sys.executable, "-c", KEPT + ROUNDS]))
    assert faults < 1000  # each round takes 4,096 pages
