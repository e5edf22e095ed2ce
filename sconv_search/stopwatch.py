"""Seconds by the clock, measured again where other guests of a shared host took the processors meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

STATISTICS = Path("/proc/stat")
STOLEN_COLUMN = 8
"""Of a processor's line in ``STATISTICS`` (proc(5)): the time in which it wanted to work, and the host let another guest."""
TOLERATED = 0.02
"""The share of a measurement that may be stolen, as that of its last digits."""
ATTEMPTS = 3
"""Where two of three measurements are disturbed, one of three attempts is mostly not, and a median of several sees none."""


def seconds_of(run: Callable[[], object], calls: int = 1, *, attempts: int = ATTEMPTS) -> float:
    """Seconds that so many calls take together, by the clock.

    On a virtual machine, of which other guests took more than ``TOLERATED`` of that time, they are measured again, up to
    ``attempts`` times; then the seconds of the attempt that lost least are given.
    """
    disturbed = []
    for _ in range(attempts):
        stolen, began = stolen_seconds(), perf_counter()
        for _ in range(calls):
            run()
        seconds = perf_counter() - began
        lost = stolen_seconds() - stolen
        if lost <= TOLERATED * seconds:
            return seconds
        disturbed.append((lost, seconds))
    return min(disturbed)[1]


def warm_up(run: Callable[[], object], seconds: float) -> None:
    """Runs it for so long, at least once."""
    began = perf_counter()
    while True:
        run()
        if perf_counter() - began >= seconds:
            return


def stolen_seconds() -> float:
    """Seconds since the start of the machine that its host gave to others, of all processors that this process may use.

    Zero where the system does not count them: on other systems than Linux, or a machine that is nobody's guest.
    """
    try:
        lines = STATISTICS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = sum(int(words[STOLEN_COLUMN]) for words in map(str.split, lines) if words and words[0] in own)
    return ticks / os.sysconf("SC_CLK_TCK")
