"""How much memory a piece of work takes at its peak (Linux)."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch.profiler import ProfilerActivity, profile

Result = TypeVar("Result")


def peak_mib(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """The result, its seconds, and by how much the process's memory rose above where it began, in MiB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what the heap has kept hides what is taken
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _status("VmRSS"), time.perf_counter()
    result = work()
    return result, time.perf_counter() - began, (_status("VmHWM") - before) / 1024


def live_peak_mib(work: Callable[[], object]) -> float:
    """The most that tensors made during the work take at one time, in MiB: without what allocator and libraries
    keep.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    taken = peak = 0
    assert profiled.profiler is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda one: one.start_ns()):
        taken += event.nbytes()
        peak = max(peak, taken)
    return peak / 2**20


def _status(key: str) -> int:
    match = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1])
