"""Measures a network's search space: the cost of every option on its layer, and how far it moves the outputs."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.batch_norm import batch_norms
from sconv_search.compressor import site
from sconv_search.measurement import example_input, measure_cost
from sconv_search.memo import architecture
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space import Option, SearchSpace
from sconv_search.training import predict
from studies.methods import compress, method_named
from studies.monitor import Monitor
from studies.selection import EVERYTHING, Selection, offered
from studies.start import CALIBRATION_IMAGES, Start, calibration_inputs


def measured_space(start: Start, methods: Sequence[str], monitor: Monitor, selection: Selection = EVERYTHING) -> SearchSpace:
    """Every option of every site with its cost and predicted damage; options that save nothing here are left out.

    The damage is the Kullback-Leibler divergence, in nat, of the outputs from the dense network's on the training images
    that the methods fit themselves to, batch norms taking the batch's own statistics: a compressed layer's shift and scale
    are mended later, its loss is not.
    """
    network, shape = start.network, start.task.input_shape
    choices = offered(network, methods, selection)
    shapes = input_shapes(network, shape, choices)
    images, inputs = start.data.train.images[:CALIBRATION_IMAGES], calibration_inputs(start)
    dense = _log_probabilities(network, start, images)
    whole, total, done = measure_cost(network, shape), sum(map(len, choices.values())), 0
    sites: dict[str, tuple[Option, ...]] = {}
    costs = CostTable()
    with monitor.bar(f"measuring {total} options of {len(choices)} layers") as step:
        for name, alternatives in choices.items():
            options = []
            for choice in alternatives:
                built = compress(network, CompressionPlan(sites={name: choice}), inputs)
                alone = not method_named(choice.method).reshapes_neighbours
                if alone:
                    cost = costs.difference(site(network, name), site(built, name), choice, shapes[name])
                else:
                    cost = measure_cost(built, shape) - whole
                if cost.flops < 0:
                    moved = F.kl_div(_log_probabilities(built, start, images), dense, reduction="batchmean", log_target=True)
                    options.append(Option(choice=choice, cost=cost, damage=max(0.0, float(moved))))
                step(done := done + 1, total)
            sites[name] = tuple(options)
    return SearchSpace(dense=whole, sites={name: found for name, found in sites.items() if found})


def input_shapes(network: nn.Module, shape: Sequence[int], names: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
    """Shapes, without the batch, of the inputs of each call of the named modules for one input of the network."""
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    observed = copy.deepcopy(network).eval()

    def watch(name: str) -> None:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], named_inputs: dict[str, Tensor]) -> None:
            first = next(iter((*inputs, *named_inputs.values())))
            seen[name].append(tuple(first.shape[1:]))

        observed.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)

    for name in seen:
        watch(name)
    with torch.no_grad():
        observed(example_input(observed, shape))
    return seen


class CostTable:
    """What a choice saves on its layer; measured once for all layers of one architecture, as weights do not matter."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Cost] = {}

    def difference(self, layer: nn.Module, built: nn.Module, choice: Choice, shapes: Sequence[tuple[int, ...]]) -> Cost:
        """Cost of the built layer minus the dense layer's, over calls with inputs of these shapes."""
        same = (architecture(layer), tuple(shapes))
        for key, module in ((same, layer), ((*same, choice), built)):
            if key not in self._known:
                self._known[key] = cost_of_calls(module, shapes)
        return self._known[*same, choice] - self._known[same]


def cost_of_calls(layer: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Cost:
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
