"""Ways in which a network is run, and their times by the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sconv_search.stopwatch import seconds_of

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
    """Seconds a run, ``ROUNDS`` of each, in turn (A B A B ...): a slow spell of the machine meets all. Each is warmed up."""
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
    found = {}
    for name, run in runs.items():
        run()
        calls = 1
        while (seconds := seconds_of(run, calls)) < MEASURED_SECONDS:
            calls *= 2
        found[name] = _Warm(calls, seconds / calls)
    return found


def _rounds(runs: Mapping[str, Run], warm: Mapping[str, _Warm], count: int) -> dict[str, list[float]]:
    """Seconds a run, so many of each."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            found[name].append(seconds_of(run, warm[name].calls) / warm[name].calls)
    return found
