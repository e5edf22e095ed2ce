"""``ss.reconstruct``: a compressed network's blocks trained to the dense network's outputs in one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.calibration.reconstruction import Reconstruction
from sconv_search.calibration.reconstruction import reconstruct as blocks_trained
from sconv_search.cost.network_inputs import Inputs, first_of
from sconv_search.data.loaders.batches import first_inputs
from sconv_search.studies.monitor import monitor_of
from sconv_search.studies.oneshot.arguments import require_alike

BUDGET_IMAGES = 25_600
"""Of each block: 400 steps of 64."""


def reconstruct(
    compressed: nn.Module,
    dense: nn.Module,
    data: Tensor | Iterable[Any],
    *,
    images: int = BUDGET_IMAGES,
    seconds: float | None = None,
    inputs: Callable[[Any], Inputs] | None = None,
    samples: int = 2048,
    batch: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    progress: bool | None = None,
) -> nn.Module:
    """A copy of a compressed network whose blocks are trained, one after the other, to give what the dense network's
    do.

    Labels are not read. Batch norms keep their statistics, and a block that training does not bring nearer on images
    that are held out stays as it was. Memory holds the samples' activations between two blocks.

    Args:
        compressed: what ``compress``, or anything else that keeps the names of blocks, made of the dense network.
        data: the network's inputs (N, ...), or batches such as a ``DataLoader``, of which the first ``samples`` inputs
            are used.
        images: budget: so many images pass through each block in training, a sample as often as that takes.
        seconds: budget of all blocks together; training ends with the one or the other, whichever comes first. Without
            seconds, equal arguments give equal networks.
        inputs: what of a batch the network is called with; by default the batch itself, or its first entry.
        samples: different inputs that are used.
        batch: images a step.
        learning_rate: the greatest of Adam; it falls to 0 along a cosine.
        seed: of the order of the images.
        progress: whether a bar shows the steps done; by default, on a terminal.

    Returns:
        The network, in the mode of the compressed one.

    Warns:
        RuntimeWarning: blocks that run more than once, or whose outputs have another shape than the dense network's,
            are left as they were.

    Raises:
        ValueError: a number is not positive, the data holds no input, the networks give outputs of other shapes or do
            not run the same blocks, or the second one is the compressed one.

    Source: Li et al., BRECQ, ICLR 2021, for quantized networks.
    """
    for name, value in (("images", images), ("samples", samples), ("batch", batch)):
        if not value > 0:
            raise ValueError(f"{name} must be greater than 0, got {value}")
    how = Reconstruction(steps=math.ceil(images / batch), seconds=seconds, batch=batch, rate=learning_rate, seed=seed)
    device = next((weight.device for weight in compressed.parameters()), torch.device("cpu"))
    given = data[:samples].to(device) if isinstance(data, Tensor) else first_inputs(data, samples, inputs, device)
    require_alike(compressed, dense, first_of(given, 1))
    with monitor_of(progress).bar("training block by block") as step:
        return blocks_trained(compressed, dense, given, how, progress=step)
