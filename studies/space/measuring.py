"""Measures a network's search space: the cost of every option on its layer, and how far it moves the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration.moments import KEPT_BYTES, input_moments, moment_bytes
from sconv_search.calibration.replay import Given, called_once, outputs_before, replay_
from sconv_search.compressor import site
from sconv_search.copying import copied, without_hooks
from sconv_search.cost.counting import cost_of_calls, measure_cost, on_shapes
from sconv_search.cost.network_inputs import Inputs, called, first_of
from sconv_search.cost.packing import PREFIX, PackedNetwork
from sconv_search.data.splits import DataSet
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies.context import StudyContext, calibration_inputs
from sconv_search.studies.methods import compress, method_named
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.selection import EVERYTHING, offered
from sconv_search.studies.space.couplings import measured_couplings
from sconv_search.studies.space.damage import OutputError
from sconv_search.studies.space.given_plans import with_given
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.latencies import Latencies, whole_ms
from sconv_search.studies.space.narrowed_costs import measured_narrowings
from sconv_search.studies.space.pruned_costs import pruned_costs
from sconv_search.studies.space.widths import channels_dropped, left_by_pruning, mixable
from sconv_search.studies.spec import Selection
from sconv_search.system.cache import architecture, unwritten
from sconv_search.training.batch_norm import batch_norms
from sconv_search.training.metrics import class_logits

Kept = Callable[[str, tuple[Option, ...]], None]
"""Called with each site's options as soon as they are measured."""
ERROR_INPUTS = 8
DAMAGE_PIXELS = 2**22
"""Positions of the inputs on which damage is read: 256 CIFAR images, 83 of ImageNet's."""


def measured_space(
    context: StudyContext,
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

    The damage is how far the outputs move from the dense network's: of classes, their Kullback-Leibler divergence in
    nat; of a user's own loader, the relative squared error, which serves outputs of any kind. It is read on the
    training inputs that the methods fit themselves to (the first of them that have ``DAMAGE_PIXELS`` together, at
    least two), batch norms taking the batch's own statistics: a compressed layer's shift and scale are mended later,
    its loss is not.

    Args:
        given: plans whose choices are options too, whatever they save.
        latency_batch: inputs of a forward whose time is measured too, for latency budgets; None leaves it out.
        known: sites that an interrupted measurement finished; they are not measured again.
        keep: receives each site that is finished.

    Raises:
        ValueError: a given plan has a choice whose cost beside pruned channels is not known.
    """
    network, shape = context.network, context.task.input_shape
    with monitor.bar("asking the methods for their options"):
        every, choices = asked(network, methods, selection, given)
    wanted = wanted_of(given)
    whole = dense_cost(network, shape, latency_batch)
    shapes = input_shapes(network, shape, choices)
    latencies = None if latency_batch is None else Latencies(network, shape, shapes, latency_batch)
    sites, total, done = dict(known or {}), sum(map(len, choices.values())), 0
    waiting = {name: own for name, own in choices.items() if name not in sites}
    pruned = pruned_costs(network, shape, waiting, whole, monitor)
    measuring = SiteMeasuring(context, shapes, whole, latencies, wanted, pruned)
    with monitor.bar("reading what the layers are given"):
        measuring.read_moments(waiting)
    with monitor.bar(f"measuring {total} options of {len(choices)} layers") as step:
        for name, alternatives in choices.items():
            if name not in sites:
                sites[name] = measuring.options(name, alternatives, lambda count: step(done + count, total))
                if keep is not None:
                    keep(name, sites[name])
            step(done := done + len(alternatives), total)
    offers = {name: sites[name] for name in choices}
    widths, _ = left_by_pruning(network, every)
    narrowings, unknown = measured_narrowings(network, shapes, offers, widths, monitor)
    for (name, method), reason in unknown.items():
        monitor.say(f"left out {method} at {name}, whose cost beside pruned channels is not known: {reason}")
        offers[name] = tuple(option for option in offers[name] if option.choice.method != method)
    offers = {name: options for name, options in offers.items() if options}
    for name, choice in wanted:
        if choice not in choices.get(name, ()) or (name, choice.method) in unknown:
            raise ValueError(
                f"a plan to be tried first has {choice} at {name!r}, whose cost beside pruned channels is not known"
            )
    couplings, offers = measured_couplings(network, shape, offers, whole, monitor)
    return SearchSpace(dense=whole, sites=offers, couplings=couplings, narrowings=narrowings)


def dense_cost(network: nn.Module, shape: Inputs, latency_batch: int | None) -> Cost:
    """The network's cost, with the time of a forward of so many inputs where that is asked for."""
    counted = measure_cost(network, shape)
    return (
        counted if latency_batch is None else replace(counted, latency_ms=whole_ms([network], shape, latency_batch)[0])
    )


def asked(
    network: nn.Module, methods: Sequence[str], selection: Selection, given: Sequence[CompressionPlan]
) -> tuple[dict[str, list[Choice]], dict[str, list[Choice]]]:
    """The choices of every site, those of given plans among them; and of these, what can be mixed in one plan."""
    every = with_given(offered(network, methods, selection), given, network, methods, selection)
    return every, mixable(network, every)


def wanted_of(given: Sequence[CompressionPlan]) -> set[tuple[str, Choice]]:
    """The choices that stay options whatever they save."""
    return {(name, choice) for plan in given for name, choice in plan.sites.items()}


class SiteMeasuring:
    """Measures options of one network, each built alone.

    Args:
        shapes: of the inputs of each site's calls, see ``input_shapes``.
        whole: the dense network's cost.
        latencies: measures times; None leaves them out.
        wanted: choices that are options whatever they save.
        pruned: costs of choices that change other layers too, as far as they are known without building them.
    """

    def __init__(
        self,
        context: StudyContext,
        shapes: Mapping[str, Sequence[tuple[int, ...]]],
        whole: Cost,
        latencies: Latencies | None,
        wanted: Collection[tuple[str, Choice]],
        pruned: Mapping[tuple[str, Choice], Cost],
    ) -> None:
        self._pruned = pruned
        self._context, self._shapes, self._whole, self._latencies = context, shapes, whole, latencies
        self._inputs = calibration_inputs(context)
        self._read = context.data.calibration_inputs(max(2, DAMAGE_PIXELS // context.data.positions))
        observed = _on_batch_statistics_(copied(context.network))
        if isinstance(context.data, DataSet):
            self._distance: OutputError | _Divergence = _Divergence(observed, self._read)
        else:
            self._distance = OutputError(observed, self._read)
        self._costs = CostTable()
        two = first_of(self._read, 2)  # a layer may be called once for each input
        self._once = called_once(context.network, lambda network: called(network, two))
        self._before: dict[str, Given] = {}
        self._wanted = wanted

    def read_moments(self, choices: Mapping[str, Sequence[Choice]]) -> None:
        """One pass over the calibration inputs for all layers, of which the options find the results remembered."""
        wanted, total = [], 0
        for name, alternatives in choices.items():
            layer = site(self._context.network, name)
            if layer_kind(layer) in LAYER_KINDS and not all(map(_reshapes, alternatives)):
                total += moment_bytes(layer)
                if total <= KEPT_BYTES:
                    wanted.append(name)
        network = self._context.network
        if isinstance(self._inputs, Tensor):
            input_moments(network, wanted, self._inputs)
        elif self._inputs is not None:
            packed = PackedNetwork(network, self._inputs)
            input_moments(packed, [PREFIX + name for name in wanted], packed.packed(self._inputs))

    def options(self, name: str, alternatives: Sequence[Choice], step: Callable[[int], None]) -> tuple[Option, ...]:
        """The choices of one site that save operations, or are wanted, and whose outputs are finite."""
        with unwritten(self._context.network):
            return self._options(name, alternatives, step)

    def _options(self, name: str, alternatives: Sequence[Choice], step: Callable[[int], None]) -> tuple[Option, ...]:
        network, measured, layers = self._context.network, [], []
        all_reshape = all(map(_reshapes, alternatives))
        read_N = None if all_reshape else _layer_input(network, name, first_of(self._read, ERROR_INPUTS))
        before: dict[str, Given] = {}
        if not all_reshape and not self._distance.by_layers:
            # all up to the last site, mostly the layer before
            known = replay_(_on_batch_statistics_(copied(network)), self._before)
            before = self._before = outputs_before(known, name, self._predicted, self._once)
        for count, choice in enumerate(alternatives, start=1):
            built = compress(network, CompressionPlan(sites={name: choice}), self._inputs, in_sequence=False)
            alone = not _reshapes(choice)
            cost = self._cost(name, choice, built) if alone else self._pruned_cost(name, choice, built)
            if cost.flops < 0 or (name, choice) in self._wanted:
                error = None
                if alone and read_N is not None:
                    error = _relative_error(site(network, name), site(built, name), read_N)
                dropped = channels_dropped(network, name, choice)
                timed_whole = not alone and self._latencies is not None
                damage = self._damage_of_(copied(built) if timed_whole else built, before if alone else {})
                if math.isfinite(damage):
                    measured.append(
                        Option(choice=choice, cost=cost.counted(), damage=damage, error=error, dropped=dropped)
                    )
                    if self._latencies is not None:
                        layers.append(site(built, name) if alone else built)
            step(count)
        return tuple(measured if self._latencies is None else self._latencies.timed(name, measured, layers))

    def _cost(self, name: str, choice: Choice, built: nn.Module) -> Cost:
        return self._costs.difference(site(self._context.network, name), site(built, name), choice, self._shapes[name])

    def _pruned_cost(self, name: str, choice: Choice, built: nn.Module) -> Cost:
        known = self._pruned.get((name, choice))
        return measure_cost(built, self._context.task.input_shape) - self._whole if known is None else known

    @torch.no_grad()
    def _predicted(self, network: nn.Module) -> object:
        return called(network, self._read)

    def _damage_of_(self, built: nn.Module, before: Mapping[str, Given]) -> float:
        """The damage of a network that is nobody else's, and of no use afterward."""
        return self._distance.of(_on_batch_statistics_(replay_(built, before)))


class _Divergence:
    """The Kullback-Leibler divergence, in nat, of class probabilities from a network's."""

    by_layers = False

    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        self._inputs = inputs
        self._dense = _log_probabilities(network, inputs)

    def of(self, network: nn.Module) -> float:
        """Its mean over the predictions."""
        moved = _log_probabilities(network, self._inputs)
        divergence = float(F.kl_div(moved, self._dense, reduction="batchmean", log_target=True))
        return divergence if math.isnan(divergence) else max(0.0, divergence)


def _reshapes(choice: Choice) -> bool:
    return method_named(choice.method).reshapes_neighbors


@torch.no_grad()
def _layer_input(network: nn.Module, name: str, inputs: Inputs) -> Tensor:
    """What the named module reads at its first call, with batch norms on the batch's statistics."""
    seen: list[Tensor] = []
    observed = _on_batch_statistics_(copied(network))
    site(observed, name).register_forward_pre_hook(
        lambda module, given, named: seen.append(next(iter((*given, *named.values())))), with_kwargs=True
    )
    called(observed, inputs)
    return seen[0] if seen else torch.zeros(0)


@torch.no_grad()
def _relative_error(layer: nn.Module, built: nn.Module, read_N: Tensor) -> float | None:
    """Norm of what the layer's outputs change by, over that of the outputs; None for a layer that is never called."""
    if not len(read_N):
        return None
    layer, built = without_hooks(layer), without_hooks(built)  # which saw what it reads before
    wanted = layer(read_N)
    return float((built(read_N) - wanted).norm() / wanted.norm().clamp_min(1e-12))


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

    def of(self, layer: nn.Module, choice: Choice, shapes: Sequence[tuple[int, ...]]) -> Cost:
        """The same for a layer that is compressed only if its like was not measured yet; on shapes alone where they
        suffice.
        """
        same = (architecture(layer), tuple(shapes))
        if (*same, choice) not in self._known:

            def measured(alone: nn.Module) -> Cost:
                built = compress(alone, CompressionPlan(sites={"0": choice}))
                return self.difference(alone[0], site(built, "0"), choice, shapes)  # type: ignore[index]  # the Sequential

            on_shapes(nn.Sequential(layer), measured)  # the rest of the network need not be copied for it
        return self._known[*same, choice] - self._known[same]


@torch.no_grad()
def _log_probabilities(network: nn.Module, inputs: Inputs) -> Tensor:
    """Log-probabilities (predictions, classes)."""
    logits = class_logits(called(network, inputs).float())
    return F.log_softmax(logits.movedim(1, -1).flatten(0, -2), dim=1)


def _on_batch_statistics_(network: nn.Module) -> nn.Module:
    """The network, put into evaluation mode, but that batch norms take the batch's own statistics."""
    network.eval()
    for norm in batch_norms(network):
        norm.train()
    return network
