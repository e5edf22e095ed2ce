"""Ways in which a network is run, and their times by the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[], object]
Prepare = Callable[[nn.Module, Tensor], Run]
"""From a module and its input to what is timed: one forward in the way in which the network will be run."""
Timer = Callable[[Mapping[str, Run]], Mapping[str, Sequence[float]]]
"""From runs by name to seconds a run, some of each."""

ROUNDS = 7
MEASURED_SECONDS = 0.005


def eager(module: Callable[[Tensor], object], x: Tensor) -> Run:
    """One forward as PyTorch runs it by itself; waits for a GPU."""

    def run() -> None:
        with torch.no_grad():
            module(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)

    return run


def compiled(module: nn.Module, x: Tensor) -> Run:
    """One forward as ``torch.compile`` makes it.

    Each run is compiled on its own: of one function, torch compiles eight forms at most, then runs it as it is.
    """

    def forward(given: Tensor) -> Any:
        return module(given)

    own = FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    return eager(torch.compile(own, dynamic=False), x)


def timed_in_turn(runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """Seconds a run, ``ROUNDS`` of each, in turn (A B A B ...): a slow spell of the machine meets all. Each is warmed up."""
    repeats = {}
    for name, run in runs.items():
        run()
        repeats[name] = 1
        while _seconds(run, repeats[name]) < MEASURED_SECONDS:
            repeats[name] *= 2
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(_seconds(run, repeats[name]) / repeats[name])
    return found


def _seconds(run: Run, repeats: int) -> float:
    began = perf_counter()
    for _ in range(repeats):
        run()
    return perf_counter() - began
