"""Layers compressed one after the other, each fitted to what the dense network gives for what the compressed one reads.

A layer that is fitted to the dense network's inputs does not know the errors of the layers before it. Here the
calibration inputs run through both networks side by side. At each site the best dense kernel from the compressed
network's patches x to the dense layer's outputs y is found first, ``W' = W + (Cov(y, x) - W Cov(x)) (Cov(x) +
ridge)^-1``; a method then compresses that layer with the moments of x. Its fit of any last part behind a fixed map P of
the patch is that to y, because ``W' Cov(x) P^T = Cov(y, x) P^T``. Means go into the layer's bias, or into the running
means of batch norms.

A least-squares fit to wrong inputs puts out less variance than the dense layer: all of it that it cannot tell is left
out. Layer after layer, the outputs fade, until nothing passes the activations. So batch norms give back a part of what
variance is missing: the running variance follows the inputs' to the power ``GIVEN_BACK``. All of it (1) amplifies the
errors, too. Half is better than none (0) for every plan tried, and than all for half of them; top-1 of 1,500 CIFAR-10
validation images, 512 fit to, powers 0, 0.5 and 1: ResNet-20, the paper's plan A 85.7, 86.0, 85.9; its spatial SVD at a
quarter of the options 75.9, 77.4, 77.1; ResNet-56, spatial SVD 84.9, 85.3, 86.0, structured 27.9, 33.5, 40.3;
EfficientNet-Lite0 at 70 % of its FLOPs by structured convolutions and weight SVD (750 photos, 250 fit to) 46.0, 77.7,
75.5.

Source of the asymmetric target: Zhang, Zou, He, Sun, Accelerating Very Deep Convolutional Networks for Classification
and Detection, TPAMI 2016, section 3.3; the batch norms' statistics and the ridge by held-out inputs are this project's
own.

Legend: g groups, O outputs and F = C * taps patch features of one group, n patches.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sconv_search.calibration.moments import Layer, Moments, grouped_kernel, input_moments, patches_and_outputs
from sconv_search.calibration.retargeting import Pairs, retargeted
from sconv_search.calibration.stepped_run import Stepped, SteppedRun
from sconv_search.compressor import Build, site, swapped
from sconv_search.copying import copied, without_hooks
from sconv_search.cost.network_inputs import output_tensors
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind

CHUNKS = 16
"""Parts of the inputs, which run side by side."""
HELD_OUT = 4
"""Every so manieth part decides about the ridge."""
GIVEN_BACK = 0.5
"""Power of the ratio of variances that batch norms take over."""
MOST_RATIO = 10.0
"""Greatest factor of a running variance, either way: of channels that hardly vary, ratios mean nothing."""
MOST_LEFT_WRONG = 0.5
"""Of the squares of the network's outputs: beyond, layers fitted by themselves are tried."""


class FittedAlone(RuntimeWarning):
    """Layers were fitted by themselves, to the network's own inputs; batch norms keep their statistics."""


class _OutOfStep(Exception):
    """The two networks, or two parts of the inputs, do not reach the same layers in the same order."""


def compress_layers(
    network: nn.Module,
    builds: Mapping[str, Build],
    inputs: Tensor | None,
    *,
    in_sequence: bool = True,
    once: bool = False,
) -> nn.Module:
    """A copy of the network with its named layers replaced by what their builds make.

    Args:
        builds: by name of a layer of the network.
        inputs: (N, ...) to fit to; without any, layers follow from their weights alone.
        in_sequence: see ``fit_in_sequence``; else each layer is fitted to what it reads in the network as given, whose
            moments are remembered, so that another choice for a layer costs no run of the network.
        once: there will be no other choice for layers of this network: no moments are remembered.
    """
    if inputs is None:
        return swapped(network, {name: build(_layer(network, name), None) for name, build in builds.items()})
    return (
        fit_in_sequence(network, builds, inputs)
        if in_sequence
        else swapped(network, _fitted_alone(network, builds, inputs, once=once))
    )


def fit_in_sequence(
    network: nn.Module,
    builds: Mapping[str, Build],
    inputs: Tensor,
    *,
    target: nn.Module | None = None,
    kept: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A copy of the network with its named layers replaced by what their builds make, fitted in the order in which they
    run.

    Both networks compute each image once; meanwhile they hold what a forward of all images holds between two layers.
    The running means of all batch norms are moved by what the means of their inputs differ, and the running variances
    follow half-way, see the module. Layers that a run does not
    call exactly once are fitted by themselves to the network's own inputs.

    Args:
        builds: by name of a layer of the network.
        inputs: (N, ...).
        target: the dense network, whose outputs are to be met; the network itself if it is not given.
        kept: of layers and batch norms that have fewer channels than in the target, the positions of theirs.

    Warns:
        FittedAlone: which layers run depends on the inputs, or channels went that ``kept`` does not tell of; or layers
            fitted by themselves leave less of the outputs wrong.
        RuntimeWarning: some layers never run.

    Raises:
        ValueError: there is no input.
    """
    if not len(inputs):
        raise ValueError(f"calibration needs inputs (N, ...) with N >= 1, got {tuple(inputs.shape)}")
    weight = next(network.parameters(), inputs)
    # of two, where they run together: a layer may be called once for each input
    once, normed = _surroundings(network, inputs[: min(2, _part(inputs))].to(weight.device))
    apart = {name: build for name, build in builds.items() if name not in once}
    start = swapped(network, _fitted_alone(network, apart, inputs))
    ordered = {name: build for name, build in builds.items() if name in once}
    if not ordered and target in (None, network):
        return start
    sequence = _Sequence(start, target or network, ordered, once, normed, kept or {})
    try:
        with torch.no_grad():
            sequence.run(inputs.to(weight.device))
    except _OutOfStep as error:
        warnings.warn(f"layers are fitted by themselves, not one after the other: {error}", FittedAlone, 2)
        return swapped(network, _fitted_alone(network, builds, inputs))
    return _better(sequence, network, builds, inputs)


def _better(sequence: _Sequence, network: nn.Module, builds: Mapping[str, Build], inputs: Tensor) -> nn.Module:
    """The network fitted in sequence; where that leaves most of the outputs wrong, and layers fitted by themselves
    leave less, those.

    A least-squares fit to inputs that are wrong themselves shrinks what it gives. Where each of many layers loses much
    and no batch norm gives that back, little is left in the end.
    """
    left = _left_wrong((made, wanted) for _, made, wanted in sequence.outputs)
    if left <= MOST_LEFT_WRONG:
        return sequence.result()
    alone = swapped(network, _fitted_alone(network, builds, inputs))
    evaluated = copied(alone).eval()
    with torch.no_grad():
        left_alone = _left_wrong((evaluated(x.clone()), wanted) for x, _, wanted in sequence.outputs)
    if not left_alone < left:
        return sequence.result()
    warnings.warn(
        f"layers are fitted by themselves, which leaves {left_alone:.0%} of the outputs' squares wrong; one after the"
        f" other they left {left:.0%}",
        FittedAlone,
        3,
    )
    return alone


def _left_wrong(pairs: Iterable[tuple[Any, Any]]) -> float:
    """The squared error of outputs over the squares of those that are wanted; 0 where there are none."""
    wrong = whole = 0.0
    for outputs in pairs:
        for made, wanted in zip(*map(output_tensors, outputs), strict=True):
            if wanted.is_floating_point():
                wrong += float((made.double() - wanted.double()).square().sum())
                whole += float(wanted.double().square().sum())
    return wrong / whole if whole else 0.0


def _fitted_alone(
    network: nn.Module, builds: Mapping[str, Build], inputs: Tensor, *, once: bool = False
) -> dict[str, nn.Module]:
    builds = {name: build for name, build in builds.items() if build is not as_it_is}
    known = [name for name in builds if layer_kind(site(network, name)) in LAYER_KINDS]
    moments = input_moments(network, known, inputs, once=once)
    return {name: build(_layer(network, name), moments.get(name)) for name, build in builds.items()}


def as_it_is(layer: nn.Module, moments: Moments | None) -> nn.Module:
    """Builds a layer that is to stay dense: in sequence its best kernel for what it reads is found before; by itself,
    it is left alone.
    """
    return copy.deepcopy(layer)


def _layer(network: nn.Module, name: str) -> nn.Module:
    """A layer as builds get it: hooks stay where it stands in the network, and what is built is called beside it."""
    return without_hooks(site(network, name))


def _part(inputs: Tensor) -> int:
    """How many inputs run together."""
    return -(-len(inputs) // CHUNKS)


def _surroundings(network: nn.Module, example: Tensor) -> tuple[set[str], set[str]]:
    """Modules that are called exactly once, and those of them whose output goes straight into a batch norm."""
    observed = copied(network).eval()
    own: dict[nn.Module, tuple[Any, int]] = {}
    calls, makers, normed = Counter[nn.Module](), dict[int, tuple[nn.Module, Tensor, int]](), set[nn.Module]()

    def enter(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        if isinstance(module, _BatchNorm) and given and id(given[0]) in makers:
            maker, made, version = makers[id(given[0])]
            if made is given[0] and made._version == version:
                normed.add(maker)

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Any) -> None:
        own[module] = (made, made._version if isinstance(made, Tensor) else 0)

    def leave(module: nn.Module, given: tuple[Tensor, ...], made: Any) -> None:
        before, version = own[module]
        changed = before is not made or (
            isinstance(made, Tensor) and made._version != version
        )  # by the network's hooks
        if isinstance(made, Tensor) and not changed and not any(made is x for x in given):
            # of nested modules the innermost, which ends first
            makers.setdefault(id(made), (module, made, made._version))

    for module in observed.modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(note, prepend=True)
        module.register_forward_hook(leave)
    with torch.no_grad():
        observed(example.clone())
    modules = dict(observed.named_modules(remove_duplicate=False))
    once = {name for name, module in modules.items() if calls[module] == 1}
    return once, {name for name in once if modules[name] in normed}


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


class _Sequence:
    """Two networks side by side, and what was built so far.

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
    ) -> None:
        self._start, self._builds, self._normed, self._kept = start, builds, normed, kept
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

    def run(self, inputs: Tensor) -> None:
        """Fits all sites in the order in which the networks reach them."""
        parts = inputs.split(_part(inputs))
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
                    raise _OutOfStep(f"some inputs pass {name} more than once")
                if name in self._builds:
                    self._fit(name, runs)
                else:
                    self._move_statistics(name, runs)
            self.outputs = [(x, run.output, dense.output) for x, (dense, run) in zip(parts, runs, strict=True)]
        if missing := [name for name in self._builds if name not in self._built]:
            raise _OutOfStep(f"some inputs do not pass {', '.join(missing)}")

    def _fit(self, name: str, runs: Sequence[tuple[SteppedRun, SteppedRun]]) -> None:
        dense, layer = self._target.original(name), _layer(self._start, name)
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
        wanted, wanted_variance = _channel_statistics([dense.x for dense, _ in runs])
        moved, moved_variance = _channel_statistics([run.x for _, run in runs])
        if name in self._kept:
            kept = self._kept[name].to(wanted.device)
            wanted, wanted_variance = wanted[kept], wanted_variance[kept]
        _require_same(name, len(wanted), len(moved))
        norm, before = self._compressed.original(name), self._target.original(name)
        assert isinstance(norm.running_mean, Tensor)
        assert isinstance(norm.running_var, Tensor)
        least = torch.finfo(wanted.dtype).tiny
        factors = (moved_variance.clamp(min=least) / wanted_variance.clamp(min=least)).pow(GIVEN_BACK)
        factors = factors.clamp(1 / MOST_RATIO, MOST_RATIO)
        # so that the mean of what the batch norm gives is the dense one's, also where that differs from its bias
        aside = wanted - norm.running_mean
        self._shifts[name] = (moved - factors.sqrt() * aside - norm.running_mean).to(norm.running_mean.dtype)
        self._factors[name] = factors.to(norm.running_var.dtype)
        norm.running_mean += self._shifts[name]
        norm.running_var *= self._factors[name]
        for dense, run in runs:
            dense.resume(before(dense.x))
            run.resume(norm(run.x))


def _require_same(name: str, wanted: int, left: int) -> None:
    if wanted != left:
        raise _OutOfStep(f"{name} has {left} channels in place of {wanted}, and which is not known")


def _channel_statistics(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, (C,) in float64; of two passes, as in one the squares would cancel. A copy of
    one part is held at a time.
    """
    positions = sum(x.numel() // x.shape[1] for x in parts)
    mean = torch.stack([_by_channel(x).sum(1) for x in parts]).sum(0) / positions
    squares = [(_by_channel(x) - mean[:, None]).square_().sum(1) for x in parts]
    return mean, torch.stack(squares).sum(0) / positions


def _by_channel(x: Tensor) -> Tensor:
    return x.double().transpose(0, 1).flatten(1)


def _reached(runs: Sequence[tuple[SteppedRun, SteppedRun]]) -> str | None:
    names = {run.name for pair in runs for run in pair}
    if len(names) > 1:
        raise _OutOfStep(f"at one time, runs are at {', '.join(sorted(str(name) for name in names))}")
    return names.pop()
