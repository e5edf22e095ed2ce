"""A dense and a compressed network that run side by side, while the layers of the one are fitted to the outputs of the
other.

Legend: g groups, O outputs and F = C * taps patch features of one group, n patches.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sconv_search.calibration.moments import Layer, Moments, grouped_kernel, patches_and_outputs
from sconv_search.calibration.retargeting import Pairs, retargeted
from sconv_search.calibration.stepped_run import Stepped, SteppedRun
from sconv_search.compressor import Build, site, swapped
from sconv_search.copying import without_hooks
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind

HELD_OUT = 4
"""Every so manieth part decides about the ridge."""
MOST_RATIO = 100.0
"""Of variances, either way: of channels that hardly vary, ratios mean nothing."""


class OutOfStep(Exception):
    """The two networks, or two parts of the inputs, do not reach the same layers in the same order."""


class SideBySide:
    """Two networks side by side, and what was built so far.

    Args:
        start: the network to be compressed, all of whose other layers are as they will be.
        target: whose outputs are to be met.
        builds: by name of a layer.
        once: modules that are called exactly once.
        normed: those of them whose output goes straight into a batch norm.
        kept: of layers and batch norms that have fewer channels than in the target, the positions of theirs.
        given_back: how much of the variance that fits leave out batch norms give back, from 0 to 1: the power of the
            ratio of the variances of what they read, by which their running variances are multiplied.

    Attributes:
        outputs: of each part of the inputs the part, and what the compressed and the dense network gave for it.
    """

    def __init__(
        self,
        start: nn.Module,
        target: nn.Module,
        builds: Mapping[str, Build],
        once: set[str],
        normed: set[str],
        kept: Mapping[str, Tensor],
        given_back: float,
    ) -> None:
        self._start, self._builds, self._normed, self._kept = start, builds, normed, kept
        self._given_back = given_back
        norms = [name for name, module in start.named_modules() if name in once and _keeps_statistics(module)]
        self._target, self._compressed = (Stepped(network, [*builds, *norms]) for network in (target, start))
        self._built: dict[str, nn.Module] = {}
        self._shifts: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}
        self.outputs: list[tuple[Tensor, Any, Any]] = []

    def result(self) -> nn.Module:
        """The network with all that was built, and its batch norms' statistics moved."""
        result = swapped(self._start, self._built)
        for name, shift in self._shifts.items():
            norm = site(result, name)
            assert isinstance(norm.running_mean, Tensor)
            assert isinstance(norm.running_var, Tensor)
            norm.running_mean += shift
            norm.running_var *= self._factors[name]
        return result

    def run(self, parts: Sequence[Tensor]) -> None:
        """Fits all sites in the order in which the networks reach them.

        Args:
            parts: of the inputs, each of which runs by itself.

        Raises:
            OutOfStep: the sites cannot be fitted in sequence.
        """
        with ExitStack() as stack:
            runs = [
                (
                    stack.enter_context(SteppedRun(self._target, part)),
                    stack.enter_context(SteppedRun(self._compressed, part)),
                )
                for part in parts
            ]
            while (name := _reached(runs)) is not None:
                if name in self._built or name in self._shifts:
                    raise OutOfStep(f"some inputs pass {name} more than once")
                if name in self._builds:
                    self._fit(name, runs)
                else:
                    self._move_statistics(name, runs)
            self.outputs = [(x, run.output, dense.output) for x, (dense, run) in zip(parts, runs, strict=True)]
        if missing := [name for name in self._builds if name not in self._built]:
            raise OutOfStep(f"some inputs do not pass {', '.join(missing)}")

    def _fit(self, name: str, runs: Sequence[tuple[SteppedRun, SteppedRun]]) -> None:
        dense, layer = self._target.original(name), bare_layer(self._start, name)
        known = layer_kind(layer) in LAYER_KINDS
        fitted: Pairs | None = None
        held: Pairs | None = None
        same, total = True, sum(len(run.x) for _, run in runs)
        for index, (wanted, run) in enumerate(runs):
            x, y = run.x, dense(wanted.x)
            same = same and x.shape == wanted.x.shape and x.equal(wanted.x)
            if known and isinstance(layer, Layer):
                sums = self._pairs(name, layer, x, y, share=len(x) / total)
                if index % HELD_OUT == HELD_OUT - 1:
                    held = sums.plus(held)
                else:
                    fitted = sums.plus(fitted)
            wanted.resume(y)
        if fitted is not None and isinstance(layer, Layer):
            built = self._built_in(name, layer, fitted, held, same)
        else:
            built = self._builds[name](layer, None)
        self._built[name] = built
        evaluated = copy.deepcopy(built).eval()
        for _, run in runs:
            run.resume(evaluated(run.x))

    def _pairs(self, name: str, layer: Layer, x: Tensor, y: Tensor, *, share: float) -> Pairs:
        channels = -1 if isinstance(layer, nn.Linear) else y.dim() - layer.weight.dim() + 1
        y = y if name not in self._kept else y.index_select(channels, self._kept[name].to(y.device))
        _require_same(name, y.shape[channels], len(layer.weight))
        total: Pairs | None = None
        for patches, outputs in patches_and_outputs(layer, x, y, share=share):
            if patches.dtype != torch.float64:
                patches, outputs = patches.float(), outputs.float()
            total = Pairs(
                patches.double().sum(1),
                (patches.mT @ patches).double(),
                outputs.double().sum(1),
                (outputs.mT @ patches).double(),
                patches.shape[1],
            ).plus(total)
        assert total is not None
        return total

    def _built_in(self, name: str, layer: Layer, fitted: Pairs, held: Pairs | None, same: bool) -> nn.Module:
        centered = layer.bias is not None or name in self._normed
        whole = fitted.plus(held)
        second, _ = whole.averages(centered=centered)
        x, y, kernel = whole.x / whole.positions, whole.y / whole.positions, grouped_kernel(layer).flatten(2)
        goal = layer
        if not same:
            kernel = retargeted(kernel, fitted, held, centered=centered)
            goal = copy.deepcopy(layer)
            goal.weight.copy_(kernel.reshape(layer.weight.shape))
            if goal.bias is not None:
                goal.bias.copy_((y - (kernel @ x[..., None])[..., 0]).flatten())
        moved = Moments(x, second + x[:, :, None] * x[:, None] if centered else second, whole.positions)
        # the batch norm takes the means: without them the layer needs no bias to shift
        if centered and layer.bias is None:
            moved = Moments(torch.zeros_like(x), second, whole.positions)
        return self._builds[name](goal, moved)

    def _move_statistics(self, name: str, runs: Sequence[tuple[SteppedRun, SteppedRun]]) -> None:
        read, left = [dense.x for dense, _ in runs], [run.x for _, run in runs]
        norm, before = self._compressed.original(name), self._target.original(name)
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        wanted, moved = _means(read), _means(left)
        kept = self._kept.get(name, torch.arange(len(wanted))).to(wanted.device)
        _require_same(name, len(kept), len(moved))
        factors = torch.ones_like(moved)
        if self._given_back:
            least = torch.finfo(moved.dtype).tiny
            variances = _variances(read, wanted)[kept].clamp(min=least), _variances(left, moved).clamp(min=least)
            factors = (variances[1] / variances[0]).clamp(1 / MOST_RATIO, MOST_RATIO).pow(self._given_back)
        # the mean of what the batch norm gives is to be the dense one's, also where that differs from its bias
        stored = norm.running_var.double()
        wider = (stored * factors + norm.eps) / (stored + norm.eps)
        aside = (wanted[kept] - norm.running_mean) * (1 - wider.sqrt())
        # exactly 0 where both networks read the same: nothing changed, and nothing is to change by rounding
        self._shifts[name] = (moved - wanted[kept] + aside).to(norm.running_mean.dtype)
        self._factors[name] = factors.to(norm.running_var.dtype)
        norm.running_mean += self._shifts[name]
        norm.running_var *= self._factors[name]
        for dense, run in runs:
            dense.resume(before(dense.x))
            run.resume(norm(run.x))


def _require_same(name: str, wanted: int, left: int) -> None:
    if wanted != left:
        raise OutOfStep(f"{name} has {left} channels in place of {wanted}, and which is not known")


def _means(parts: Sequence[Tensor]) -> Tensor:
    """Of each channel, (C,) in float64; a copy of one part is held at a time."""
    return torch.stack([_by_channel(x).sum(1) for x in parts]).sum(0) / _positions(parts)


def _variances(parts: Sequence[Tensor], means: Tensor) -> Tensor:
    squares = [(_by_channel(x) - means[:, None]).square_().sum(1) for x in parts]
    return torch.stack(squares).sum(0) / _positions(parts)


def _positions(parts: Sequence[Tensor]) -> int:
    return sum(x.numel() // x.shape[1] for x in parts)


def _by_channel(x: Tensor) -> Tensor:
    return x.double().transpose(0, 1).flatten(1)


def _reached(runs: Sequence[tuple[SteppedRun, SteppedRun]]) -> str | None:
    names = {run.name for pair in runs for run in pair}
    if len(names) > 1:
        raise OutOfStep(f"at one time, runs are at {', '.join(sorted(str(name) for name in names))}")
    return names.pop()


def bare_layer(network: nn.Module, name: str) -> nn.Module:
    """A layer as builds get it: hooks stay where it stands in the network, and what is built is called beside it."""
    return without_hooks(site(network, name))


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None
