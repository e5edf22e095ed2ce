"""The network as a training runs it: compiled, where the training is long enough to pay for the compiler."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from sconv_search.cost.timing import compiled_call
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.data.splits import DataSet
from sconv_search.structured.kinds import LINEAR_MAPS, STRUCTURED
from sconv_search.training.loss import Forward
from sconv_search.training.process_group import ProcessGroup
from sconv_search.training.schedule import Schedule

STEP_OVER_FORWARD = 3
"""A training step has so many times the products of a forward: once more for the inputs' gradients, once for the
weights'.
"""
LARGEST_SIDE = 64
"""Of images, in pixels. On one thread, in bf16, a step of ResNet-20 at 32 pixels is 1.22 times as fast compiled, of its
spatial SVD 1.14 times; at 224 pixels of ResNet-18 1.03 times, of its spatial SVD 0.84, of MobileNetV2 1.04
(``benchmarks/training/compiled.py``, as are the figures below)."""
SAVED_SHARE, MACS_A_SECOND, SECONDS_A_LAYER = 0.15, 30e9, 4.0
"""Of the time of a step; products of a thread, eagerly; what the compiler takes for a layer's two passes."""
MARGIN = 3
"""So many times what the compiler takes has to be saved: other machines differ from the one that was measured."""
FEWEST_IMAGES = 50_000
"""Of fewer, what could be saved is not counted."""


class CompiledForward:
    """A network's forward, and with it its backward, by ``torch.compile``; as PyTorch runs it where that fails.

    It is compiled as one graph or not at all: of parts, one could fail to compile after another has run, and the batch
    norms would see the batch twice.

    Args:
        network: its parameters and buffers are used, not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._compiled = network, compiled_call(network, whole=True)
        self._failed = False

    def __call__(self, x: Tensor) -> Tensor:
        """(N, ...) -> the network's outputs.

        Warns:
            RuntimeWarning: it cannot be compiled here, and why; this call and all later ones are eager.
        """
        if not self._failed:
            from torch._dynamo.exc import TorchDynamoException  # here: it takes two seconds to import

            try:
                return self._compiled(x)  # type: ignore[no-any-return]
            except TorchDynamoException as error:  # before what it compiles has run
                self._failed = True
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                warnings.warn(
                    f"{type(self._network).__name__} cannot be compiled here, and trains eagerly: {reason}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._network(x)  # type: ignore[no-any-return]


def training_forward(
    network: nn.Module, data: DataSet | LoaderData, schedule: Schedule, steps: int, processes: ProcessGroup
) -> Forward:
    """What a training of so many steps calls for the network's outputs: the network, or its compiled form.

    Whether to compile is decided by the length of the training, not by the clock, so that a training repeated, or
    continued after a kill, runs the same kernels. With a user's own loader it is not compiled: batches may differ in
    shape.
    """
    if schedule.compiled == "never" or processes.shard.count > 1 or isinstance(data, LoaderData):
        return network
    if schedule.compiled == "always" or _pays(network, data, steps * schedule.batch_size):
        return CompiledForward(network)
    return network


def _pays(network: nn.Module, data: DataSet, images: int) -> bool:
    """Whether so many images train faster on a CPU by clearly more than the compiler takes."""
    if images < FEWEST_IMAGES or next(network.parameters()).device.type != "cpu":
        return False
    layers = [module for module in network.modules() if type(module) in LINEAR_MAPS]
    if any(type(layer) in STRUCTURED for layer in layers):
        return False  # eagerly their sums are products, which compiled code does not have: it takes twice as long
    x = data.normalized(data.train.take(torch.arange(1)).images)
    seconds = images * STEP_OVER_FORWARD * forward_macs(network, x) / (MACS_A_SECOND * torch.get_num_threads())
    return max(x.shape[2:]) <= LARGEST_SIDE and SAVED_SHARE * seconds > MARGIN * SECONDS_A_LAYER * len(layers)


@torch.no_grad()
def forward_macs(network: nn.Module, x: Tensor) -> int:
    """Products of a forward in evaluation mode; the network's own mode is put back."""
    from torch.utils.flop_counter import FlopCounterMode  # here: few trainings need it

    was_training = network.training
    with FlopCounterMode(display=False) as counter:
        network.eval()(x)
    network.train(was_training)
    return int(counter.get_total_flops()) // 2
