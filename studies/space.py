"""Measures a network's search space: the cost of every option on its layer, and how far it moves the outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.batch_norm import batch_norms
from sconv_search.compressor import site
from sconv_search.measurement import example_input, measure_cost
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space import Option, SearchSpace
from sconv_search.training import predict
from studies.methods import compress, method_named
from studies.monitor import Monitor
from studies.start import Start

CALIBRATION_IMAGES = 256


def measured_space(start: Start, methods: Sequence[str], monitor: Monitor) -> SearchSpace:
    """Every option of every site with its cost and predicted damage; options that save nothing here are left out.

    The damage is the Kullback-Leibler divergence, in nat, of the outputs from the dense network's on training images,
    batch norms taking the batch's own statistics: a compressed layer's shift and scale are mended later, its loss is not.
    """
    network, shape = start.network, start.task.input_shape
    choices = _choices(network, methods)
    shapes = input_shapes(network, shape, choices)
    images = start.data.train.images[:CALIBRATION_IMAGES]
    dense = _log_probabilities(network, start, images)
    whole, total, done = measure_cost(network, shape), sum(map(len, choices.values())), 0
    sites: dict[str, tuple[Option, ...]] = {}
    with monitor.bar(f"measuring {total} options of {len(choices)} layers") as step:
        for name, offered in choices.items():
            own = _cost_of_calls(site(network, name), shapes[name])
            options = []
            for choice in offered:
                built = compress(network, CompressionPlan(sites={name: choice}))
                alone = not method_named(choice.method).reshapes_neighbours
                cost = _cost_of_calls(site(built, name), shapes[name]) - own if alone else measure_cost(built, shape) - whole
                if cost.flops < 0:
                    moved = F.kl_div(_log_probabilities(built, start, images), dense, reduction="batchmean", log_target=True)
                    options.append(Option(choice=choice, cost=cost, damage=max(0.0, float(moved))))
                step(done := done + 1, total)
            sites[name] = tuple(options)
    return SearchSpace(dense=whole, sites={name: found for name, found in sites.items() if found})


def _choices(network: nn.Module, methods: Sequence[str]) -> dict[str, list[Choice]]:
    choices: dict[str, list[Choice]] = {}
    for name in methods:
        for place, structures in method_named(name).options(network).items():
            choices.setdefault(place, []).extend(Choice(method=name, structure=structure) for structure in structures)
    return choices


def input_shapes(
    network: nn.Module, shape: Sequence[int], names: Sequence[str] | dict[str, list[Choice]]
) -> dict[str, list[tuple[int, ...]]]:
    """Shapes, without the batch, of the inputs of each call of the named modules for one input of the network."""
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    observed = copy.deepcopy(network).eval()

    def watch(name: str) -> None:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name].append(tuple(inputs[0].shape[1:]))

        observed.get_submodule(name).register_forward_pre_hook(note)

    for name in seen:
        watch(name)
    with torch.no_grad():
        observed(example_input(observed, shape))
    return seen


def _cost_of_calls(layer: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Cost:
    """A layer's cost over all its calls; its parameters count once. A layer that is never called costs its parameters."""
    costs = [measure_cost(layer, shape) for shape in shapes]
    params = sum(weight.numel() for weight in layer.parameters())
    return Cost(macs=sum(cost.macs for cost in costs), adds=sum(cost.adds for cost in costs), params=params)


def _log_probabilities(network: nn.Module, start: Start, images: Tensor) -> Tensor:
    """Log-probabilities (N, classes) with batch norms on the batch's statistics; the network is not modified."""
    observed = copy.deepcopy(network).eval()
    for norm in batch_norms(observed):
        norm.train()
    return F.log_softmax(predict(observed, start.data, images, batch=len(images)), dim=1)
