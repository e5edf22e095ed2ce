"""Ways in which a network is run, and their times by the clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# Seconds by the clock, measured again where other guests of a shared host took the processors meanwhile.

STATISTICS = Path("/proc/stat")
STOLEN_COLUMN = 8
"""Of a processor's line in ``STATISTICS`` (proc(5)): the time in which it wanted to work, and the host let another
guest.
"""
BUSY_COLUMNS = (1, 2, 3, 6, 7, STOLEN_COLUMN)
"""Work of users, nice work, the system's, interrupts, and other guests': all but idle time and what is counted
twice.
"""
TOLERATED = 0.02
"""The share of a measurement that may be stolen, as that of its last digits."""
ATTEMPTS = 3
"""Where two of three measurements are disturbed, one of three attempts is mostly not, and a median of several sees
none.
"""


def seconds_of(run: Callable[[], object], calls: int = 1, *, attempts: int = ATTEMPTS) -> float:
    """Seconds that so many calls take together, by the clock.

    On a virtual machine, of which other guests took more than ``TOLERATED`` of that time, they are measured again, up
    to ``attempts`` times; then the seconds of the attempt that lost least are given.
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


def other_work() -> Callable[[], float | None]:
    """Starts to watch; what it returns gives the share of the processors' time since then that went to other processes.

    Of the processors that this process may use; other guests of the host count, too. None where the system does not
    say, which Linux alone does. Ticks are hundredths of a second, so it means something from tenths of a second on.
    """
    busy, own, began = _busy_seconds(), process_time(), perf_counter()

    def share() -> float | None:
        now = _busy_seconds()
        if busy is None or now is None:
            return None
        others = (now - busy) - (process_time() - own)
        return min(1.0, max(0.0, others / (max(perf_counter() - began, 1e-9) * len(os.sched_getaffinity(0)))))

    return share


def _busy_seconds() -> float | None:
    """Seconds that all work took since the start of the machine, of all processors that this process may use."""
    try:
        lines = STATISTICS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    own = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    rows = [words for words in map(str.split, lines) if words and words[0] in own]
    ticks = sum(int(words[column]) for words in rows for column in BUSY_COLUMNS if column < len(words))
    return ticks / os.sysconf("SC_CLK_TCK")


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


Run = Callable[[], object]
Prepare = Callable[[nn.Module, Tensor], Run]
"""From a module and its input to what is timed: one forward in the way in which the network will be run."""
Timer = Callable[[Mapping[str, Run]], Mapping[str, Sequence[float]]]
"""From runs by name to seconds a run, some of each."""

ROUNDS = 7
MEASURED_SECONDS = 0.005
HOPELESS = 1.5
"""What takes so many times as long as the fastest, warmed up and in the first round, is not the fastest."""


def eager(module: Callable[[Tensor], object], x: Tensor) -> Run:
    """One forward as PyTorch runs it by itself; waits for a GPU."""

    def run() -> None:
        with torch.no_grad():
            module(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)

    return run


def compiled_call(module: nn.Module, *, whole: bool = False) -> Callable[[Tensor], Any]:
    """The module's forward as ``torch.compile`` makes it, at the first call with inputs of a shape.

    Each has a function of its own: of one, torch compiles eight forms at most, then runs it as it is.

    Args:
        whole: refuse what torch could only compile in parts, before any of it runs.
    """

    def forward(x: Tensor) -> Any:
        return module(x)

    own = FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    return torch.compile(own, dynamic=False, fullgraph=whole)


def compiled(module: nn.Module, x: Tensor) -> Run:
    """One forward as ``torch.compile`` makes it."""
    return eager(compiled_call(module), x)


def timed_in_turn(runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """Seconds a run, ``ROUNDS`` of each, in turn (A B A B ...): a slow spell of the machine meets all. Each is warmed
    up.
    """
    return _rounds(runs, _warmed_up(runs), ROUNDS)


def screened_in_turn(runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """As ``timed_in_turn``, for finding the fastest: what is ``HOPELESS`` twice is measured no further."""
    warm = _warmed_up(runs)
    first = _rounds(runs, warm, 1)
    least = {name: min(*first[name], warm[name].seconds) for name in runs}
    hopeful = {name: run for name, run in runs.items() if least[name] <= HOPELESS * min(least.values())}
    more = _rounds(hopeful, warm, ROUNDS - 1)
    return {name: first[name] + more.get(name, [warm[name].seconds]) for name in runs}


class _Warm(NamedTuple):
    """Calls that last long enough for the clock, and what one of them took."""

    calls: int
    seconds: float


def _warmed_up(runs: Mapping[str, Run]) -> dict[str, _Warm]:
    warm = {}
    for name, run in runs.items():
        run()
        calls = 1
        while (seconds := seconds_of(run, calls)) < MEASURED_SECONDS:
            calls *= 2
        warm[name] = _Warm(calls, seconds / calls)
    return warm


def _rounds(runs: Mapping[str, Run], warm: Mapping[str, _Warm], count: int) -> dict[str, list[float]]:
    """Seconds a run, so many of each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            seconds[name].append(seconds_of(run, warm[name].calls) / warm[name].calls)
    return seconds
