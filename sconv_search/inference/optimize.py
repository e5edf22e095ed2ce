"""A trained network made ready to run: batch norms folded, and every structured layer computed in its fastest way
here.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.compressor import swapped
from sconv_search.cost.network_inputs import Inputs
from sconv_search.cost.packing import PREFIX, PackedNetwork
from sconv_search.cost.timing import Prepare, Run, Timer, eager, screened_in_turn
from sconv_search.inference.batch_norm_folding import NORMS, fold_batch_norms_
from sconv_search.inference.channel_order import Writer, common_writer, reorder_
from sconv_search.inference.dataflow import Dataflow, flows_of
from sconv_search.inference.implementations import DENSE, Implementation, implementations
from sconv_search.inference.surroundings import surrounded_runs
from sconv_search.layer_kinds import reads_single_input
from sconv_search.structured.kinds import LINEAR_MAPS, STRUCTURED
from sconv_search.structured.linear import StructuredLinear
from sconv_search.system.cache import KEPT_BYTES, Memo, architecture
from sconv_search.system.memory_format import lay_out_, layout

# Layers that read one input alone, (C, space...) without the batch axis, as torch's convolutions and linear layers may.


class SingleInput(nn.Module):
    """A module of batches, for a single input.

    Args:
        module: (N, C, space...) -> (N, O, space...).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(C, space...) -> (O, space...)."""
        return self.module(x.unsqueeze(0)).squeeze(0)  # type: ignore[no-any-return]


LayerTimes = tuple[Mapping[str, float]]
"""Milliseconds of each implementation of one layer, in a tuple of its own, as ``Memo`` wants it."""

WHOLE, FASTEST = "whole network", "fastest implementations"
ONE_WAY = 2
"""So many networks with all layers in one way are measured beside the one with each in its fastest: between two others
a layer does not show all that its own neighbors make of it."""
NOISE = 1.02
"""A network that takes up to so many times as long as its dense form counts as no slower."""
LONG_S, MOST_TIMES = 1.0, 10
"""The last comparison is repeated until its runs have taken so long, or so many times. Seven rounds of a network that
takes 6 ms are over in the blink of a machine's slow spell: ResNet-56 by OpenVINO in bf16 was once made 1.18 times
slower than dense.
"""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
LOW_PRECISION_TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class SiteChoice:
    """How one structured layer is computed, and why.

    Args:
        site: the layer's name; of the last row ``whole network``, which is measured against its form with dense layers.
        chosen: key of the implementation in ``milliseconds``.
        milliseconds: median time of each implementation between two small pointwise layers, at the shape that the layer
            reads from the example.
    """

    site: str
    chosen: str
    milliseconds: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Time of the chosen implementation over that of the dense layer; above 1 where the whole gains by it."""
        return self.milliseconds[self.chosen] / self.milliseconds[DENSE]

    @property
    def reason(self) -> str:
        """Why it was chosen, in words."""
        if self.chosen != DENSE:
            gained = f"{1 / self.ratio:.2f} times as fast as dense"
            return gained if self.ratio <= 1 else f"{gained} by itself, but the network is fastest with it"
        others = {name: taken for name, taken in self.milliseconds.items() if name != DENSE}
        nearest = min(others, key=lambda name: others[name])
        return f"dense is fastest; {nearest} takes {others[nearest] / self.milliseconds[DENSE]:.2f} times as long"


def optimize_for_inference(
    network: nn.Module,
    example: Inputs,
    *,
    prepare: Prepare = eager,
    timer: Timer = screened_in_turn,
    known: Memo[LayerTimes] | None = None,
) -> tuple[nn.Module, list[SiteChoice]]:
    """A network that computes the same, faster: for inference alone, on this device, at about the example's shape.

    Batch norms are folded into the layers before them. Each structured layer's implementations are measured at the
    shape that it reads from the example, between two small layers; the fastest is kept, the dense layer where none is
    faster. The whole is measured so, with all layers in one way, and with all of them dense; the fastest of these is
    what is returned. Layers of other methods are ordinary ones already, and stay.

    Args:
        network: not modified. Its forward is run on the example; what it does there, it should do on all inputs.
        example: (N, ...) on the network's device, in the type and memory format of use; of networks of several inputs,
            a tuple of positional arguments or a dict, which they get side by side in one tensor while they are timed.
        prepare: how the network will be run: ``eager``, ``compiled``, or a runtime of your own.
        timer: measures runs; another one than the clock serves tests.
        known: what layers took in earlier calls; layers alike are not measured again, and what is measured is added.

    Returns:
        The network, without gradients, and what was chosen: a row for each structured layer, and one for the whole
            network
        if there are any.

    Raises:
        RuntimeError: outputs on the example are not those of the network, as happens if it draws random numbers.
    """
    if not isinstance(example, Tensor):
        packed = PackedNetwork(network, example)
        made, rows = optimize_for_inference(packed, packed.packed(example), prepare=prepare, timer=timer, known=known)
        short = [replace(row, site=row.site.removeprefix(PREFIX)) for row in rows]
        return made.get_submodule(PREFIX.rstrip(".")), short
    plain = swapped(network, {}).eval().requires_grad_(False)
    wanted = _output(plain, example)
    folded = _folded(plain, example, wanted)
    flows = flows_of(folded, example, (*LINEAR_MAPS, *NORMS))
    read = flows[0].read
    sites = {name: module for name, module in folded.named_modules() if type(module) in STRUCTURED and module in read}
    rows, taken = _measured(flows, sites, prepare, timer, Memo(KEPT_BYTES) if known is None else known)
    dense = swapped(folded, {name: taken[name][DENSE].module for name in sites})
    result = dense  # of no sites: the folded network
    if sites:
        assignments = _assignments(rows)
        wholes = {name: _assembled(folded, flows, taken, ways) for name, ways in assignments.items()}
        wholes[DENSE] = dense
        whole = _whole(wholes, example, prepare, timer)
        result, chosen = wholes[whole.chosen], assignments.get(whole.chosen, {})
        rows = [*(replace(row, chosen=chosen.get(row.site, row.chosen)) for row in rows), whole]
    _require_same(wanted, _output(result, example))
    return result.requires_grad_(False), rows


def _folded(network: nn.Module, example: Tensor, wanted: Any) -> nn.Module:
    """A copy with batch norms folded; the network itself where it then fails, or gives something else, as one that
    reads attributes of its batch norms.
    """
    folded = swapped(network, {})
    fold_batch_norms_(folded, example)
    try:
        _require_same(wanted, _output(folded, example))
    except Exception:  # of any kind: the forward is the user's own
        return network
    return folded


def _measured(
    flows: Sequence[Dataflow], sites: Mapping[str, nn.Module], prepare: Prepare, timer: Timer, known: Memo[LayerTimes]
) -> tuple[list[SiteChoice], dict[str, dict[str, Implementation]]]:
    """The choice at each site, and all of its implementations; layers alike in form and input are measured once."""
    rows, taken = [], {}
    for name, layer in sites.items():
        read = flows[0].read[layer]
        single = reads_single_input(layer, read)
        x = read.unsqueeze(0) if single else read
        forms = implementations(layer, x, sortable=not single and common_writer(flows, layer) is not None)
        for form in forms.values():
            lay_out_(form.module, layout(x))  # plain kernels would be laid out anew in every forward
        taken[name] = (
            {way: replace(form, module=SingleInput(form.module)) for way, form in forms.items()} if single else forms
        )
        key = (*_form(layer, x, forms, prepare), timer)
        times = known.get(key)
        if times is None:
            modules = {way: form.module for way, form in forms.items()}
            runs = surrounded_runs(modules, x, prepare, axis=-1 if isinstance(layer, StructuredLinear) else 1)
            times = (_milliseconds(runs, timer),)
            known.put(key, times)
        rows.append(SiteChoice(site=name, chosen=fastest(times[0]), milliseconds=times[0]))
    return rows, taken


def _milliseconds(runs: Mapping[str, Run], timer: Timer) -> dict[str, float]:
    """The median of each run."""
    return {name: 1000 * median(seconds) for name, seconds in timer(runs).items()}


def _form(layer: nn.Module, x: Tensor, forms: Mapping[str, Implementation], prepare: Prepare) -> tuple[Hashable, ...]:
    """What a layer's time depends on: all but the values of its weights."""
    sizes = tuple((name, tuple(tensor.shape)) for name, tensor in (*layer.named_parameters(), *layer.named_buffers()))
    ways = tuple((name, architecture(form.module)) for name, form in forms.items())
    return architecture(layer), sizes, x.shape, x.stride(), x.dtype, x.device, ways, prepare, torch.get_num_threads()


def fastest(milliseconds: Mapping[str, float]) -> str:
    """The key of the least time; ``dense`` unless another is less."""
    return min(milliseconds, key=lambda name: (milliseconds[name], name != DENSE))


def _assignments(rows: Sequence[SiteChoice]) -> dict[str, dict[str, str]]:
    """Ways by site for whole networks that are worth measuring: each layer's fastest, and the quickest of one way for
    all.
    """
    assignments = {FASTEST: {row.site: row.chosen for row in rows}}
    alike = {
        f"all by {way}": {row.site: way if way in row.milliseconds else row.chosen for row in rows}
        for way in dict.fromkeys(way for row in rows for way in row.milliseconds if way != DENSE)
    }
    total = {name: sum(row.milliseconds[ways[row.site]] for row in rows) for name, ways in alike.items()}
    for name in sorted(alike, key=lambda run: total[run]):
        if alike[name] not in assignments.values() and len(assignments) <= ONE_WAY:
            assignments[name] = alike[name]
    return assignments


def _assembled(
    folded: nn.Module,
    flows: Sequence[Dataflow],
    taken: Mapping[str, Mapping[str, Implementation]],
    ways: Mapping[str, str],
) -> nn.Module:
    """The network with its layers computed in these ways, and channels sorted by the layers before where those want it
    so.
    """
    chosen = {name: taken[name][way] for name, way in ways.items()}
    names = {module: name for name, module in folded.named_modules()}
    writers: dict[str, Writer] = {}
    for name, form in chosen.items():
        producer = common_writer(flows, folded.get_submodule(name))
        if form.order is not None and producer is not None:
            writers[name] = producer
    # a writer may be among them
    result = swapped(folded, {name: copy.deepcopy(form.module) for name, form in chosen.items()})
    for name, producer in writers.items():
        order = chosen[name].order
        assert order is not None
        reorder_([result.get_submodule(names[layer]) for layer in (producer.layer, *producer.between)], order)
    return result


def _whole(networks: Mapping[str, nn.Module], example: Tensor, prepare: Prepare, timer: Timer) -> SiteChoice:
    """The fastest of the networks; the dense one only where it is faster beyond noise.

    These two are measured once more, for longer, which counts: the fastest of several is partly the luckiest.
    """
    own = example.clone()
    runs = {name: prepare(network, own) for name, network in networks.items()}
    taken = _milliseconds(runs, timer)
    best = fastest({name: time for name, time in taken.items() if name != DENSE})
    taken |= _long_measured({name: runs[name] for name in (best, DENSE)}, timer)
    return SiteChoice(site=WHOLE, chosen=best if taken[best] <= NOISE * taken[DENSE] else DENSE, milliseconds=taken)


def _long_measured(runs: Mapping[str, Run], timer: Timer) -> dict[str, float]:
    """The median of each run, over repeated measurements where runs are quick."""
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(MOST_TIMES):
        for name, seconds in timer(runs).items():
            milliseconds[name] += seconds
        if sum(map(sum, milliseconds.values())) >= LONG_S:
            break
    return {name: 1000 * median(seconds) for name, seconds in milliseconds.items()}


def _output(network: nn.Module, example: Tensor) -> Any:
    with torch.no_grad():
        return network(example.clone())  # a forward may write over what it is given


def _require_same(wanted: Any, outputs: Any) -> None:
    """Refuses a network whose outputs on the example have changed by more than rounding."""
    for before, after in zip(pytree.tree_leaves(wanted), pytree.tree_leaves(outputs), strict=True):
        if isinstance(before, Tensor) and before.is_floating_point():
            error = float((after - before).abs().max() / before.abs().max().clamp_min(1e-30))
            if not error <= TOLERANCE.get(before.dtype, LOW_PRECISION_TOLERANCE):
                raise RuntimeError(
                    f"the network made ready differs from the given one by {error:.1e} of the largest output on the"
                    " example; does its forward draw random numbers or change its state?"
                )


def choice_table(rows: Sequence[SiteChoice]) -> str:
    """The choices as a table of text, one row a line."""
    cells = [("site", "chosen", "ms", "dense ms", "ratio", "why")]
    for row in rows:
        own, dense = row.milliseconds[row.chosen], row.milliseconds[DENSE]
        cells.append((row.site, row.chosen, f"{own:.3f}", f"{dense:.3f}", f"{row.ratio:.2f}", row.reason))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
