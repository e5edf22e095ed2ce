"""Measured time of networks, in turn, so that the drift of a shared machine falls on all of them alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sconv_search.compressor import swapped
from sconv_search.cost.counting import example_input
from sconv_search.cost.network_inputs import Inputs, batch_of, is_shape
from sconv_search.cost.packing import PackedNetwork
from sconv_search.cost.timing import eager, seconds_of
from sconv_search.inference.optimize import LayerTimes, optimize_for_inference
from sconv_search.system.cache import KEPT_BYTES, Memo
from sconv_search.system.memory_format import channels_last, channels_last_

ROUNDS = 15
_LAYER_TIMES: Memo[LayerTimes] = Memo(KEPT_BYTES)
"""Of all networks that were made ready here: those of a search have the same layers again and again."""


@torch.no_grad()
def measure_latencies_ms(
    networks: Sequence[nn.Module], inputs: Inputs, *, batch: int = 1, rounds: int = ROUNDS
) -> list[list[float]]:
    """Milliseconds of one forward of ``batch`` inputs: a list of ``rounds`` for each network, measured in turn.

    The networks run in evaluation mode and channels-last, with the threads that torch has; one warm-up round is not
    counted. Networks of several tensors get them side by side in one, which is cut into them again.

    Args:
        inputs: the shape of one input, or an example.
    """
    ready = [channels_last_(network.eval()) for network in _of_one_tensor(networks, inputs)]
    given = [_input(network, inputs, batch) for network in ready]
    taken: list[list[float]] = [[] for _ in ready]
    for counted in range(-1, rounds):
        for index, (network, x) in enumerate(zip(ready, given, strict=True)):
            seconds = seconds_of(eager(network, x))
            if counted >= 0:
                taken[index].append(1000 * seconds)
    return taken


def measure_ready_latencies_ms(
    networks: Sequence[nn.Module], inputs: Inputs, *, batch: int = 1, rounds: int = ROUNDS
) -> list[list[float]]:
    """``measure_latencies_ms`` of the networks as ``optimize_for_inference`` makes them ready; they are not modified.

    Raises:
        RuntimeError: a network draws random numbers or changes its state in evaluation mode.
    """
    ready = [_ready(network, inputs, batch) for network in _of_one_tensor(networks, inputs)]
    return measure_latencies_ms(ready, inputs, batch=batch, rounds=rounds)


def _of_one_tensor(networks: Sequence[nn.Module], inputs: Inputs) -> list[nn.Module]:
    if is_shape(inputs):
        return list(networks)
    return [network if isinstance(network, PackedNetwork) else PackedNetwork(network, inputs) for network in networks]


def _input(network: nn.Module, inputs: Inputs, batch: int) -> Tensor:
    """So many inputs in one tensor: zeros of the shape, or the example's first again and again."""
    if is_shape(inputs):
        return channels_last(example_input(network, inputs, batch))  # type: ignore[arg-type]  # of whole numbers
    assert isinstance(network, PackedNetwork)
    return network.packed(batch_of(network.network, inputs, batch))


def _ready(network: nn.Module, inputs: Inputs, batch: int) -> nn.Module:
    given = channels_last_(swapped(network, {}))
    example = drawn_input(given, inputs, batch) if is_shape(inputs) else _input(given, inputs, batch)  # type: ignore[arg-type]
    ready, _ = optimize_for_inference(given, example, known=_LAYER_TIMES)
    return ready


def drawn_input(network: nn.Module, input_shape: Sequence[int], batch: int) -> Tensor:
    """Standard normal numbers of (batch, *input_shape), always the same, in the type, device and layout of a
    measurement.
    """
    x = example_input(network, input_shape, batch)
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    return channels_last(x)
