"""Layers compressed one after the other, each fitted to what the dense network gives for what the compressed one reads.

A layer that is fitted to the dense network's inputs does not know the errors of the layers before it. Here the
calibration inputs run through both networks side by side. At each site the best dense kernel from the compressed
network's patches x to the dense layer's outputs y is found first, ``W' = W + (Cov(y, x) - W Cov(x)) (Cov(x) +
ridge)^-1``; a method then compresses that layer with the moments of x. Its fit of any last part behind a fixed map P of
the patch is that to y, because ``W' Cov(x) P^T = Cov(y, x) P^T``. Means go into the layer's bias, or into the running
means of batch norms.

A least-squares fit to wrong inputs puts out less variance than the dense layer: all of it that it cannot tell is left
out. Layer after layer the outputs fade, until nothing passes the activations. So where much is left wrong, the layers
are fitted once more, with batch norms that give back half of the variance that is missing, and the better of both
networks is kept. To give back all of it amplifies the errors, too.

Source of the asymmetric target: Zhang, Zou, He, Sun, Accelerating Very Deep Convolutional Networks for Classification
and Detection, TPAMI 2016, section 3.3; the batch norms' statistics and the ridge by held-out inputs are this project's
own.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sconv_search.calibration.moments import Moments, input_moments
from sconv_search.calibration.side_by_side import OutOfStep, SideBySide, bare_layer
from sconv_search.compressor import Build, site, swapped
from sconv_search.copying import copied
from sconv_search.cost.network_inputs import output_tensors
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind

CHUNKS = 16
"""Parts of the inputs, which run side by side."""
GIVEN_BACK = 0.5
"""Power of the ratio of variances by which batch norms' running variances follow.

Top-1 of 1,500 CIFAR-10 validation images, 512 fitted to, by the powers 0, 0.5 and 1: ResNet-20, the paper's plan A
85.7, 86.0, 85.9, spatial SVD at a quarter of its options 75.9, 77.4, 77.1; ResNet-56 by spatial SVD 84.9, 85.3, 86.0;
of 750 photos, 250 fitted to, EfficientNet-Lite0 at 70 % of its FLOPs by structured convolutions and weight SVD 46.0,
77.6, 75.3.
"""
FADED = 0.1
"""Of the squares of the network's outputs: where more is left wrong, a fit that gives variance back is tried."""
MOST_LEFT_WRONG = 0.5
"""Where more is, layers fitted by themselves are tried."""


class FittedAlone(RuntimeWarning):
    """Layers were fitted by themselves, to the network's own inputs; batch norms keep their statistics."""


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
        return swapped(network, {name: build(bare_layer(network, name), None) for name, build in builds.items()})
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

    Both networks compute each image once, or twice where much is left wrong, see the module; meanwhile they hold what a
    forward of all images holds between two layers. The running means of all batch norms are moved by what the means of
    their inputs differ. Layers that a run does not call exactly once are fitted by themselves to the network's own
    inputs.

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
    parts = inputs.to(weight.device).split(_part(inputs))

    def fitted(given_back: float) -> _Fit:
        sequence = SideBySide(start, target or network, ordered, once, normed, kept or {}, given_back)
        with torch.no_grad():
            sequence.run(parts)
        return _Fit(sequence, _left_wrong((made, wanted) for _, made, wanted in sequence.outputs))

    try:
        best = fitted(0.0)
        if best.left_wrong > FADED:
            best = min(best, fitted(GIVEN_BACK), key=lambda fit: fit.left_wrong)
    except OutOfStep as error:
        warnings.warn(f"layers are fitted by themselves, not one after the other: {error}", FittedAlone, 2)
        return swapped(network, _fitted_alone(network, builds, inputs))
    return _better(best, network, builds, inputs)


class _Fit(NamedTuple):
    """A fit in sequence, and the share of the outputs' squares that it leaves wrong."""

    sequence: SideBySide
    left_wrong: float


def _better(best: _Fit, network: nn.Module, builds: Mapping[str, Build], inputs: Tensor) -> nn.Module:
    """The network fitted in sequence; where that leaves most of the outputs wrong, and layers fitted by themselves
    leave less, those.
    """
    if best.left_wrong <= MOST_LEFT_WRONG:
        return best.sequence.result()
    alone = swapped(network, _fitted_alone(network, builds, inputs))
    evaluated = copied(alone).eval()
    with torch.no_grad():
        left_alone = _left_wrong((evaluated(x.clone()), wanted) for x, _, wanted in best.sequence.outputs)
    if not left_alone < best.left_wrong:
        return best.sequence.result()
    warnings.warn(
        f"layers are fitted by themselves, which leaves {left_alone:.0%} of the outputs' squares wrong; one after the"
        f" other they left {best.left_wrong:.0%}",
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
    return {name: build(bare_layer(network, name), moments.get(name)) for name, build in builds.items()}


def as_it_is(layer: nn.Module, moments: Moments | None) -> nn.Module:
    """Builds a layer that is to stay dense: in sequence its best kernel for what it reads is found before; by itself,
    it is left alone.
    """
    return copy.deepcopy(layer)


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
