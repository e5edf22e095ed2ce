"""torch's default generators for a while at a seed: dropout, and the transforms of torchvision, know no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """The CPU's default generator, and the device's own, at a seed, and afterward as they were."""
    states = [(torch.default_generator, torch.default_generator.get_state())]
    if device.type == "cuda":
        own = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        states.append((own, own.get_state()))
    for generator, _ in states:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
