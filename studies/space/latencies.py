"""How long what may stand at a site takes on this device, made ready for inference: what latency budgets count."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import median

from torch import nn

from sconv_search.compressor import site
from sconv_search.copying import without_hooks
from sconv_search.cost.network_inputs import Inputs, is_shape
from sconv_search.inference.latency import drawn_input, measure_ready_latencies_ms
from sconv_search.inference.layer_times import layer_times_ms, narrowed_times_ms, sortable_sites
from sconv_search.layer_kinds import KINDS
from sconv_search.plan import Choice
from sconv_search.search_space.space import Option
from sconv_search.studies.methods import method_named
from sconv_search.studies.space.input_shapes import input_shapes, read_by
from sconv_search.system.cache import architecture

ROUNDS = 7


def whole_ms(networks: Sequence[nn.Module], shape: Inputs, batch: int) -> list[float]:
    """Median milliseconds of a forward of each network, made ready, measured in turn."""
    return [median(taken) for taken in measure_ready_latencies_ms(networks, shape, batch=batch, rounds=ROUNDS)]


class Latencies:
    """Times options of one network; those of one architecture are measured once.

    Args:
        inputs: the shape of one input of the network, or an example.
        shapes: site -> shapes, without the batch, of the inputs of each of its calls.
    """

    def __init__(
        self, network: nn.Module, inputs: Inputs, shapes: Mapping[str, Sequence[tuple[int, ...]]], batch: int
    ) -> None:
        self._network, self._inputs, self._shapes, self._batch = network, inputs, shapes, batch
        layers = [name for name, read in shapes.items() if read]
        self._sortable = set() if not is_shape(inputs) else sortable_sites(network, inputs, layers)  # type: ignore[arg-type]  # of numbers
        self._known: dict[Hashable, list[float]] = {}

    def timed(self, name: str, options: Sequence[Option], built: Sequence[nn.Module]) -> list[Option]:
        """The site's options with their time beyond the dense layer's, or those of all layers that they make narrower.

        Whole networks differ by less than a machine drifts between two measurements: of nine groups of channels, the
        numbers that seemed fastest, 40 % less time together, took off 8 %.

        Args:
            built: of each option the layer; where it drops channels of neighbors too, the whole network.
        """
        beyond: dict[Choice, float] = {}
        for whole in (True, False):
            pairs = zip(options, built, strict=True)
            alike = {
                o.choice: timed_option
                for o, timed_option in pairs
                if method_named(o.choice.method).reshapes_neighbors is whole
            }
            if alike:
                beyond |= zip(alike, self._beyond(name, alike, whole=whole), strict=True)
        return [replace(option, cost=replace(option.cost, latency_ms=beyond[option.choice])) for option in options]

    def _beyond(self, name: str, built: Mapping[Choice, nn.Module], *, whole: bool) -> list[float]:
        layer = site(self._network, name)
        key = (name,) if whole else (architecture(layer), tuple(self._shapes[name]), name in self._sortable)
        known = (key, tuple(built))
        if known not in self._known:
            modules = list(built.values())
            dense, taken = self._of_networks(modules) if whole else self._of_layers(name, modules)
            self._known[known] = [ms - dense for ms in taken]
        return self._known[known]

    def _of_networks(self, built: Sequence[nn.Module]) -> tuple[float, list[float]]:
        names = _narrowed(self._network, built)
        if names is None:
            dense, *others = whole_ms([self._network, *built], self._inputs, self._batch)
            return dense, others
        total, sums = 0.0, [0.0] * len(built)
        for name in names:
            layer, narrow = site(self._network, name), [site(network, name) for network in built]
            for shape in self._read[name]:
                dense, others = self._of_widths(layer, narrow, shape)
                total += dense
                sums = [before + more for before, more in zip(sums, others, strict=True)]
        return total, sums

    @cached_property
    def _read(self) -> dict[str, list[tuple[int, ...]]]:
        """The shapes that every layer of a known kind is given."""
        layers = [name for name, module in self._network.named_modules() if isinstance(module, KINDS)]
        return input_shapes(self._network, self._inputs, layers)

    def _of_widths(
        self, layer: nn.Module, narrow: Sequence[nn.Module], shape: tuple[int, ...]
    ) -> tuple[float, list[float]]:
        key = (shape, *(architecture(without_hooks(one)) for one in (layer, *narrow)))
        if key not in self._known:
            every = [layer, *narrow]
            inputs = [drawn_input(one, read_by(one, [shape])[0], self._batch) for one in every]
            dense, others = narrowed_times_ms(layer, narrow, inputs)
            self._known[key] = [dense, *others]
        dense, *others = self._known[key]
        return dense, others

    def _of_layers(self, name: str, built: Sequence[nn.Module]) -> tuple[float, list[float]]:
        layer = site(self._network, name)
        inputs = [drawn_input(layer, shape, self._batch) for shape in self._shapes[name]]
        return layer_times_ms(layer, built, inputs, sortable=name in self._sortable)


def _narrowed(network: nn.Module, built: Sequence[nn.Module]) -> list[str] | None:
    """The layers that have another shape in one of the networks; None where these differ in more than that."""
    names: dict[str, None] = {}
    modules = dict(network.named_modules())
    for other in built:
        if [*modules] != [name for name, _ in other.named_modules()]:
            return None
        for name, module in other.named_modules():
            shapes = [[own.shape for own in one.parameters(recurse=False)] for one in (module, modules[name])]
            if type(module) is not type(modules[name]):
                return None
            if shapes[0] != shapes[1]:
                if isinstance(module, KINDS):
                    names[name] = None
                elif any(len(shape) > 1 for shape in shapes[0]):
                    return None
    return [*names]
