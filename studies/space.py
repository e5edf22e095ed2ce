"""Measures a network's search space: the cost of every option on its layer, and how far it moves the outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.batch_norm import batch_norms
from sconv_search.compressor import site
from sconv_search.latency import measure_latencies_ms
from sconv_search.measurement import cost_of_calls, example_input, measure_cost
from sconv_search.memo import architecture
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space import Option, SearchSpace
from sconv_search.training import predict
from studies.couplings import measured_couplings
from studies.given_plans import with_given
from studies.methods import compress, method_named
from studies.monitor import Monitor
from studies.narrowings import measured_narrowings
from studies.selection import EVERYTHING, Selection, offered
from studies.start import Start, calibration_inputs
from studies.widths import channels_dropped, left_by_pruning, mixable

Kept = Callable[[str, tuple[Option, ...]], None]
"""Called with each site's options as soon as they are measured."""
ERROR_INPUTS = 8
LATENCY_ROUNDS = 7


def measured_space(
    start: Start,
    methods: Sequence[str],
    monitor: Monitor,
    selection: Selection = EVERYTHING,
    *,
    given: Sequence[CompressionPlan] = (),
    latency_batch: int | None = None,
    known: Mapping[str, tuple[Option, ...]] | None = None,
    keep: Kept | None = None,
) -> SearchSpace:
    """Every option of every site with its cost and predicted damage; offers that save nothing here are left out.

    Where some methods prune channels, so are those of other methods whose cost on what pruning leaves is not known.

    The damage is the Kullback-Leibler divergence, in nat, of the outputs from the dense network's on the training images
    that the methods fit themselves to, batch norms taking the batch's own statistics: a compressed layer's shift and scale
    are mended later, its loss is not.

    Args:
        given: plans whose choices are options too, whatever they save.
        latency_batch: inputs of a forward whose time is measured too, for latency budgets; None leaves it out.
        known: sites that an interrupted measurement finished; they are not measured again.
        keep: receives each site that is finished.

    Raises:
        ValueError: a given plan has a choice whose cost beside pruned channels is not known.
    """
    network, shape = start.network, start.task.input_shape
    every = with_given(offered(network, methods, selection), given, network, methods, selection)
    choices = mixable(network, every)
    wanted = {(name, choice) for plan in given for name, choice in plan.sites.items()}
    whole = dense_cost(network, shape, latency_batch)
    measuring = _Measuring(start, input_shapes(network, shape, choices), whole, latency_batch, wanted)
    sites, total, done = dict(known or {}), sum(map(len, choices.values())), 0
    with monitor.bar(f"measuring {total} options of {len(choices)} layers") as step:
        for name, alternatives in choices.items():
            if name not in sites:
                sites[name] = measuring.options(name, alternatives, lambda count: step(done + count, total))
                if keep is not None:
                    keep(name, sites[name])
            step(done := done + len(alternatives), total)
    offers = {name: sites[name] for name in choices}
    widths, _ = left_by_pruning(network, every)
    narrowings, unknown = measured_narrowings(network, measuring.shapes, offers, widths, monitor)
    for (name, method), reason in unknown.items():
        monitor.say(f"left out {method} at {name}, whose cost beside pruned channels is not known: {reason}")
        offers[name] = tuple(option for option in offers[name] if option.choice.method != method)
    offers = {name: options for name, options in offers.items() if options}
    for name, choice in wanted:
        if choice not in choices.get(name, ()) or (name, choice.method) in unknown:
            raise ValueError(
                f"a plan to be tried first has {choice} at {name!r}, whose cost beside pruned channels is not known"
            )
    couplings = measured_couplings(network, shape, offers, whole, monitor)
    return SearchSpace(dense=whole, sites=offers, couplings=couplings, narrowings=narrowings)


def dense_cost(network: nn.Module, shape: tuple[int, ...], latency_batch: int | None) -> Cost:
    """The network's cost, with the time of a forward of so many inputs where that is asked for."""
    counted = measure_cost(network, shape)
    return counted if latency_batch is None else replace(counted, latency_ms=_latencies([network], [shape], latency_batch)[0])


class _Measuring:
    """Measures options of one network, each built alone."""

    def __init__(
        self, start: Start, shapes: Mapping[str, Sequence[tuple[int, ...]]], whole: Cost, latency_batch: int | None,
        wanted: Collection[tuple[str, Choice]],
    ) -> None:  # fmt: skip
        self._start, self.shapes, self._whole, self._latency_batch = start, shapes, whole, latency_batch
        self._images, self._inputs = start.data.calibration, calibration_inputs(start)
        self._dense, self._costs = _log_probabilities(start.network, start, self._images), CostTable()
        self._wanted = wanted
        self._latencies: dict[Hashable, list[float]] = {}

    def options(self, name: str, alternatives: Sequence[Choice], step: Callable[[int], None]) -> tuple[Option, ...]:
        """The choices of one site that save operations, or are wanted, and whose outputs are finite."""
        network, found, layers = self._start.network, [], []
        read_N = _layer_input(network, name, self._start.data.normalized(self._images[:ERROR_INPUTS]))
        for count, choice in enumerate(alternatives, start=1):
            built = compress(network, CompressionPlan(sites={name: choice}), self._inputs)
            alone = not method_named(choice.method).reshapes_neighbours
            cost = self._cost(name, choice, built) if alone else measure_cost(built, self._start.task.input_shape) - self._whole
            if cost.flops < 0 or (name, choice) in self._wanted:
                error = _relative_error(site(network, name), site(built, name), read_N) if alone else None
                dropped = channels_dropped(network, name, choice)
                damage = self._damage(built)
                if math.isfinite(damage):
                    found.append(Option(choice=choice, cost=cost.counted(), damage=damage, error=error, dropped=dropped))
                    layers.append(site(built, name) if alone else built)
            step(count)
        if self._latency_batch is None:
            return tuple(found)
        times = self._times(name, found, layers, whole=True) | self._times(name, found, layers, whole=False)
        return tuple(replace(option, cost=replace(option.cost, latency_ms=times[option.choice])) for option in found)

    def _cost(self, name: str, choice: Choice, built: nn.Module) -> Cost:
        return self._costs.difference(site(self._start.network, name), site(built, name), choice, self.shapes[name])

    def _damage(self, built: nn.Module) -> float:
        moved = _log_probabilities(built, self._start, self._images)
        divergence = float(F.kl_div(moved, self._dense, reduction="batchmean", log_target=True))
        return divergence if math.isnan(divergence) else max(0.0, divergence)

    def _times(self, name: str, options: Sequence[Option], built: Sequence[nn.Module], *, whole: bool) -> dict[Choice, float]:
        """The time beyond the dense layer's of the options that replace it, or beyond the network's of those that prune it.

        Options of one architecture are measured once.
        """
        assert self._latency_batch is not None
        pairs = zip(options, built, strict=True)
        timed = {o.choice: module for o, module in pairs if method_named(o.choice.method).reshapes_neighbours is whole}
        layer = site(self._start.network, name)
        dense, shapes = (self._start.network, [self._start.task.input_shape]) if whole else (layer, self.shapes[name])
        key = (name if whole else architecture(layer), tuple(shapes), tuple(timed))
        if timed and key not in self._latencies:
            own, *others = _latencies([dense, *timed.values()], shapes, self._latency_batch)
            self._latencies[key] = [ms - own for ms in others]
        return dict(zip(timed, self._latencies[key], strict=True)) if timed else {}


def _latencies(networks: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]], batch: int) -> list[float]:
    """Median milliseconds of each network, measured in turn, over all calls with inputs of these shapes."""
    taken = [measure_latencies_ms(networks, shape, batch=batch, rounds=LATENCY_ROUNDS) for shape in shapes]
    return [sum(median(rounds) for rounds in calls) for calls in zip(*taken, strict=True)] if taken else [0.0] * len(networks)


@torch.no_grad()
def _layer_input(network: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """What the named module reads at its first call, with batch norms on the batch's statistics."""
    seen: list[Tensor] = []
    observed = _on_batch_statistics(network)
    site(observed, name).register_forward_pre_hook(
        lambda module, given, named: seen.append(next(iter((*given, *named.values())))), with_kwargs=True
    )
    observed(inputs)
    return seen[0] if seen else inputs[:0]


@torch.no_grad()
def _relative_error(layer: nn.Module, built: nn.Module, read_N: Tensor) -> float | None:
    """Norm of what the layer's outputs change by, over that of the outputs; None for a layer that is never called."""
    if not len(read_N):
        return None
    wanted = layer(read_N)
    return float((built(read_N) - wanted).norm() / wanted.norm().clamp_min(1e-12))


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


def _log_probabilities(network: nn.Module, start: Start, images: Tensor) -> Tensor:
    """Log-probabilities (predictions, classes) with batch norms on the batch's statistics; the network is not modified."""
    observed = _on_batch_statistics(network)
    logits = predict(observed, start.data, images, batch=len(images))
    return F.log_softmax(logits.movedim(1, -1).flatten(0, -2), dim=1)


def _on_batch_statistics(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch norms take the batch's own statistics."""
    observed = copy.deepcopy(network).eval()
    for norm in batch_norms(observed):
        norm.train()
    return observed
