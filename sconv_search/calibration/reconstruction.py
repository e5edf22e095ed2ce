"""Block reconstruction: each block of a compressed network is trained to give what the dense network's block gives.

The blocks are trained one after the other, each on what it reads in the network compressed and trained so far, by
unlabeled images. The two networks run side by side, as in ``sequential_fit``, so that each image passes each block's
neighbors once.

Source: Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang, Gu, BRECQ: Pushing the Limit of Post-Training Quantization by Block
Reconstruction, ICLR 2021, which does it for quantized networks.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration.blocks import block_of
from sconv_search.calibration.stepped_run import Stepped, SteppedRun
from sconv_search.compressor import layers, site, swapped, transposed_layers
from sconv_search.copying import copied, without_hooks
from sconv_search.cost.network_inputs import Inputs
from sconv_search.cost.packing import PREFIX, PackedNetwork
from sconv_search.system.cache import network_content

CHUNK = 64
"""Images that run through the networks at once."""
HELD_OUT = 8
"""Every so manieth part of the images judges whether a block became better."""
Progress = Callable[[int, int], None]
"""Called with the steps done and those in all."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """How blocks are trained.

    Args:
        steps: of each block.
        seconds: for all blocks together; training ends with the steps or with these, whichever comes first. Only
            without them is the result the same at each call.
        batch: images a step.
        rate: the greatest learning rate of Adam; it falls to 0 along a cosine.
        seed: of the order of the images.

    Raises:
        ValueError: a value is not positive.
    """

    steps: int = 200
    seconds: float | None = None
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Reconstruction.{name} must be greater than 0, got {value}")


def reconstruct(
    compressed: nn.Module,
    dense: nn.Module,
    images: Inputs,
    how: Reconstruction = Reconstruction(),
    *,
    progress: Progress | None = None,
) -> nn.Module:
    """A copy of the compressed network whose blocks are trained, in order, to give what those of the dense network
    give.

    Batch norms keep their statistics; all weights of a block are trained. A block is left as it was where training does
    not lower its error on images that are held out (every eighth part of them, where there are so many), and where it
    and what it reads are as in the dense network.

    Args:
        compressed: a network that ``compress`` made of the dense one.
        images: the network's inputs, (N, ...), without labels; a tuple or dict of them for networks of several.
        progress: called after each step.

    Warns:
        RuntimeWarning: some blocks do not run once, read or give more than one tensor, or give tensors of another shape
            than the dense network's; they are left as they were.

    Raises:
        ValueError: there are no images, or the two networks do not run their blocks in the same order.
    """
    if not isinstance(images, Tensor):
        small, large = (PackedNetwork(network, images) for network in (compressed, dense))
        trained = reconstruct(small, large, small.packed(images), how, progress=progress)
        return trained.get_submodule(PREFIX.rstrip(".")).train(compressed.training)
    if not len(images):
        raise ValueError(f"reconstruction needs images (N, ...) with N >= 1, got {tuple(images.shape)}")
    device = next(compressed.parameters(), images).device
    images = images.to(device)
    blocks, left_out = trainable_blocks(compressed, dense, images[:2])  # a block may run once for each image
    if left_out:
        warnings.warn(
            "blocks left as they were: " + "; ".join(f"{name} {why}" for name, why in left_out.items()),
            RuntimeWarning,
            2,
        )
    trainer = _Trainer(how, len(blocks), progress)
    return swapped(compressed, _trained(compressed, dense, images, blocks, trainer)).train(compressed.training)


def trainable_blocks(compressed: nn.Module, dense: nn.Module, example: Tensor) -> tuple[list[str], dict[str, str]]:
    """The blocks that can be trained, in the order in which they run, and why others cannot."""
    names = [*layers(dense), *transposed_layers(dense)]
    block_by_layer = {name: block_of(name, names) for name in names}
    around = {
        block
        for block in block_by_layer.values()
        if any(other.startswith(f"{block}.") for other in block_by_layer.values())
    }
    blocks = dict.fromkeys(name if block in around else block for name, block in block_by_layer.items())
    seen, wanted = _calls(compressed, blocks, example), _calls(dense, blocks, example)
    faults = {name: fault for name in blocks if (fault := _fault(seen.get(name, []), wanted.get(name, [])))}
    return [name for name in seen if name not in faults], faults


def _calls(network: nn.Module, names: Iterable[str], example: Tensor) -> dict[str, list[tuple[bool, Any]]]:
    """Of each block in the order of first calls: whether it read one tensor alone, and what it gave."""
    observed, seen = copied(network).eval(), dict[str, list[tuple[bool, Any]]]()

    def watch(name: str) -> None:
        def leave(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            alone = len(positional) == 1 and not named and isinstance(positional[0], Tensor)
            seen[name].append((alone, output))

        def enter(module: nn.Module, positional: tuple[Any, ...]) -> None:
            seen.setdefault(name, [])

        site(observed, name).register_forward_pre_hook(enter)
        site(observed, name).register_forward_hook(leave, with_kwargs=True)

    for name in names:
        watch(name)
    with torch.no_grad():
        observed(example.clone())
    return seen


def _fault(calls: list[tuple[bool, Any]], wanted: list[tuple[bool, Any]]) -> str | None:
    if len(calls) != 1 or len(wanted) != 1:
        return f"runs {len(calls)} times"
    (alone, output), (_, goal) = calls[0], wanted[0]
    if not alone or not isinstance(output, Tensor) or not isinstance(goal, Tensor):
        return "does not read and give one tensor"
    return None if output.shape == goal.shape else f"gives {tuple(output.shape)} in place of {tuple(goal.shape)}"


def _trained(
    compressed: nn.Module, dense: nn.Module, images: Tensor, blocks: Sequence[str], trainer: _Trainer
) -> dict[str, nn.Module]:
    trained: dict[str, nn.Module] = {}
    target, moved = Stepped(dense, blocks), Stepped(compressed, blocks)
    with ExitStack() as stack:
        parts = images.split(CHUNK)
        wanted, runs = ([stack.enter_context(SteppedRun(side, part)) for part in parts] for side in (target, moved))
        for name in blocks:
            if (other := next((run.name for run in (*wanted, *runs) if run.name != name), name)) != name:
                raise ValueError(f"block {name!r} of the one network runs when {other!r} of the other does")
            inputs, goals = [run.x for run in runs], []
            block, before = without_hooks(copy.deepcopy(site(compressed, name))).eval(), target.original(name)
            same = all(run.x.equal(other.x) for run, other in zip(runs, wanted, strict=True))
            with torch.no_grad():
                goals = [before(run.x) for run in wanted]
            if same and network_content(block) == network_content(before):
                trainer.skip()
            else:
                trained[name] = block = trainer.train(block, inputs, goals)
            for run, goal in zip(wanted, goals, strict=True):
                run.resume(goal)
            del goals
            with torch.no_grad():
                for run in runs:
                    run.resume(block(run.x))
    return trained


class _Trainer:
    """Trains one block after the other within one budget."""

    def __init__(self, how: Reconstruction, blocks: int, progress: Progress | None) -> None:
        self._how, self._blocks, self._progress = how, blocks, progress or (lambda done, total: None)
        self._done, self._begun = 0, time.monotonic()
        self._generator = torch.Generator().manual_seed(how.seed)

    def skip(self) -> None:
        """A block needs no training; its share of the seconds goes to the others."""
        self._done += 1
        self._progress(self._done * self._how.steps, self._blocks * self._how.steps)

    def train(self, block: nn.Module, inputs: Sequence[Tensor], goals: Sequence[Tensor]) -> nn.Module:
        """A trained copy of the block, or the block itself where that is better on the parts that are held out."""
        held = range(HELD_OUT - 1, len(inputs), HELD_OUT)
        kept = [index for index in range(len(inputs)) if index not in held]
        trained = copy.deepcopy(block)
        self._fit_(trained, [inputs[index] for index in kept], [goals[index] for index in kept])
        self.skip()
        judged = list(held) or kept
        errors = [sum(_error(model, inputs[index], goals[index]) for index in judged) for model in (block, trained)]
        return trained if errors[1] < errors[0] else block

    def _fit_(self, block: nn.Module, inputs: Sequence[Tensor], goals: Sequence[Tensor]) -> None:
        how, weights = self._how, [weight.requires_grad_(True) for weight in block.parameters()]
        scale = 1 / max(float(torch.stack([goal.square().mean() for goal in goals]).mean()), 1e-30)
        optimizer = torch.optim.Adam(weights, lr=how.rate)
        count, order = sum(map(len, inputs)), torch.empty(0, dtype=torch.long)
        share, begun = self._seconds(), time.monotonic()
        for step in range(how.steps):
            passed = max(step / how.steps, (time.monotonic() - begun) / share)
            if passed >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = how.rate * (1 + math.cos(math.pi * passed)) / 2
            if len(order) < min(how.batch, count):
                order = torch.randperm(count, generator=self._generator)
            chosen, order = order[: how.batch], order[how.batch :]
            loss = scale * F.mse_loss(block(_rows(inputs, chosen)), _rows(goals, chosen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self._progress(self._done * how.steps + step + 1, self._blocks * how.steps)

    def _seconds(self) -> float:
        """Of the next block: an equal part of what is left."""
        if self._how.seconds is None:
            return math.inf
        left = self._how.seconds - (time.monotonic() - self._begun)
        return max(left, 1e-9) / (self._blocks - self._done)


def _rows(parts: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """Images of the parts, all but the last of which are of one size, by their places in all."""
    size = len(parts[0])
    rows = torch.stack([parts[index // size][index % size] for index in chosen.tolist()])
    channels_last = rows.dim() == 4 and parts[0].is_contiguous(memory_format=torch.channels_last)
    return rows.contiguous(memory_format=torch.channels_last) if channels_last else rows


@torch.no_grad()
def _error(block: nn.Module, x: Tensor, goal: Tensor) -> float:
    return float((block(x.clone()) - goal).square().sum())
