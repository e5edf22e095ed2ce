"""Freed memory is kept: a large tensor made again and again is given pages once."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from sconv_search.system.malloc import keep_freed_memory
assert sys.argv[1] == "no" or keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(8):
    faults()
print(sum(faults() for _ in range(16)))
"""


def faults(keep: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, keep], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_a_large_tensor_made_again_gets_no_new_pages() -> None:
    system, kept = faults("no"), faults("yes")
    assert system > 16 * 10_000, "without, the system gives them each time"
    # Not each time: where a small tensor has taken the front of the freed memory, the next large one does not fit.
    assert kept < system / 3


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from sconv_search.system.malloc import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert keep_freed_memory() is False
