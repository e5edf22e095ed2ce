"""Measured time of networks, in turn, so that the drift of a shared machine falls on all of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import nn

from sconv_search.measurement import example_input

ROUNDS = 15


@torch.no_grad()
def measure_latencies_ms(
    networks: Sequence[nn.Module], input_shape: Sequence[int], *, batch: int = 1, rounds: int = ROUNDS
) -> list[list[float]]:
    """Milliseconds of one forward of ``batch`` inputs: a list of ``rounds`` for each network, measured in turn.

    The networks run in evaluation mode and channels-last, with the threads that torch has; one warm-up round is not counted.
    """
    ready = [network.eval().to(memory_format=torch.channels_last) for network in networks]
    inputs = [example_input(network, input_shape, batch) for network in ready]
    inputs = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
    taken: list[list[float]] = [[] for _ in ready]
    for counted in range(-1, rounds):
        for index, (network, x) in enumerate(zip(ready, inputs, strict=True)):
            seconds = _seconds(network, x)
            if counted >= 0:
                taken[index].append(1000 * seconds)
    return taken


def _seconds(network: nn.Module, x: torch.Tensor) -> float:
    started = perf_counter()
    network(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return perf_counter() - started
