"""A trained network made ready to run: batch norms folded, and every structured layer computed in its fastest way here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.batch_norm_folding import LINEAR_MAPS, NORMS, STRUCTURED, fold_batch_norms_
from sconv_search.channel_order import Writer, reorder_, writer
from sconv_search.compressor import swapped
from sconv_search.dataflow import Dataflow, traced
from sconv_search.realisations import DENSE, Realisation, realisations

Run = Callable[[], object]
Prepare = Callable[[nn.Module, Tensor], Run]
"""From a module and its input to what is timed: one forward in the way in which the network will be run."""
Timer = Callable[[Mapping[str, Run]], Mapping[str, Sequence[float]]]
"""From runs by name to seconds a run, some of each."""

WHOLE = "whole network"
NOISE = 1.02
"""A network that takes up to so many times as long as its dense form counts as no slower."""
ROUNDS = 7
MEASURED_SECONDS = 0.005
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
LOW_PRECISION_TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class SiteChoice:
    """How one structured layer is computed, and why.

    Args:
        site: the layer's name; of the last row ``whole network``, which is measured against its form with dense layers.
        chosen: key of the realisation in ``milliseconds``.
        milliseconds: median time of each realisation, at the shape that the layer reads from the example.
    """

    site: str
    chosen: str
    milliseconds: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Time of the chosen realisation over that of the dense layer; at most 1 of a layer."""
        return self.milliseconds[self.chosen] / self.milliseconds[DENSE]

    @property
    def reason(self) -> str:
        """Why it was chosen, in words."""
        if self.chosen != DENSE:
            return f"{1 / self.ratio:.2f} times as fast as dense"
        others = {name: taken for name, taken in self.milliseconds.items() if name != DENSE}
        nearest = min(others, key=lambda name: others[name])
        return f"dense is fastest; {nearest} takes {others[nearest] / self.milliseconds[DENSE]:.2f} times as long"


def eager(module: nn.Module, x: Tensor) -> Run:
    """One forward as PyTorch runs it by itself; waits for a GPU."""

    def run() -> None:
        with torch.no_grad():
            module(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)

    return run


def compiled(module: nn.Module, x: Tensor) -> Run:
    """One forward as ``torch.compile`` makes it."""
    return eager(torch.compile(module, dynamic=False), x)  # type: ignore[arg-type]  # a callable like the module


def timed_in_turn(runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """Seconds a run, ``ROUNDS`` of each, in turn (A B A B ...): a slow spell of the machine meets all. Each is warmed up."""
    repeats = {}
    for name, run in runs.items():
        run()
        repeats[name] = 1
        while _seconds(run, repeats[name]) < MEASURED_SECONDS:
            repeats[name] *= 2
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(_seconds(run, repeats[name]) / repeats[name])
    return found


def _seconds(run: Run, repeats: int) -> float:
    began = perf_counter()
    for _ in range(repeats):
        run()
    return perf_counter() - began


def optimize_for_inference(
    network: nn.Module, example: Tensor, *, prepare: Prepare = eager, timer: Timer = timed_in_turn
) -> tuple[nn.Module, list[SiteChoice]]:
    """A network that computes the same, faster: for inference alone, on this device, at about the example's shape.

    Batch norms are folded into the layers before them. Each structured layer's realisations are measured at the shape that it
    reads from the example; the fastest is kept, the dense layer where none is faster. If the whole is slower than with all of
    these layers dense, that is what is returned. Layers of other methods are ordinary ones already, and stay.

    Args:
        network: not modified. Its forward is run on the example; what it does there, it should do on all inputs.
        example: (N, ...) on the network's device, in the type and memory format of use.
        prepare: how the network will be run: ``eager``, ``compiled``, or a runtime of your own.
        timer: measures runs; another one than the clock serves tests.

    Returns:
        The network, without gradients, and what was chosen: a row for each structured layer, and one for the whole network
        if there are any.

    Raises:
        RuntimeError: outputs on the example are not those of the network, as happens if it draws random numbers.
    """
    folded = swapped(network, {}).eval().requires_grad_(False)
    wanted = _output(folded, example)
    fold_batch_norms_(folded, example)
    flow = traced(folded, example, (*LINEAR_MAPS, *NORMS))
    sites = {name: module for name, module in folded.named_modules() if type(module) in STRUCTURED and module in flow.read}
    rows, taken = _measured(flow, sites, prepare, timer)
    dense = swapped(folded, {name: taken[name][DENSE].module for name in sites})
    result = _assembled(folded, flow, {row.site: taken[row.site][row.chosen] for row in rows})
    if sites:
        result, whole = _whole(result, dense, example, prepare, timer)
        rows.append(whole)
    _require_same(wanted, _output(result, example))
    return result.requires_grad_(False), rows


def _measured(
    flow: Dataflow, sites: Mapping[str, nn.Module], prepare: Prepare, timer: Timer
) -> tuple[list[SiteChoice], dict[str, dict[str, Realisation]]]:
    """The choice at each site, and all of its realisations; layers alike in form and input are measured once."""
    known: dict[object, dict[str, float]] = {}
    rows, taken = [], {}
    for name, layer in sites.items():
        x = flow.read[layer]
        taken[name] = realisations(layer, x, sortable=writer(flow, layer) is not None)
        key = _form(layer, x, taken[name])
        if key not in known:
            runs = {way: prepare(copy.deepcopy(one.module), x) for way, one in taken[name].items()}
            known[key] = {way: 1000 * median(seconds) for way, seconds in timer(runs).items()}
        rows.append(SiteChoice(site=name, chosen=fastest(known[key]), milliseconds=known[key]))
    return rows, taken


def _form(layer: nn.Module, x: Tensor, found: Mapping[str, Realisation]) -> object:
    """What a layer's time depends on: all but the values of its weights."""
    sizes = tuple((name, tuple(tensor.shape)) for name, tensor in (*layer.named_parameters(), *layer.named_buffers()))
    return repr(layer), sizes, x.shape, x.stride(), x.dtype, tuple(found), tuple(repr(one.module) for one in found.values())


def fastest(milliseconds: Mapping[str, float]) -> str:
    """The key of the least time; ``dense`` unless another is less."""
    return min(milliseconds, key=lambda name: (milliseconds[name], name != DENSE))


def _assembled(folded: nn.Module, flow: Dataflow, chosen: Mapping[str, Realisation]) -> nn.Module:
    """The network with these realisations at their sites, and channels sorted by the layers before where they want it so."""
    names = {module: name for name, module in folded.named_modules()}
    writers: dict[str, Writer] = {}
    for name, one in chosen.items():
        found = writer(flow, folded.get_submodule(name))
        if one.order is not None and found is not None:
            writers[name] = found
    result = swapped(folded, {name: one.module for name, one in chosen.items()})
    for name, found in writers.items():
        order = chosen[name].order
        assert order is not None
        reorder_([result.get_submodule(names[layer]) for layer in (found.layer, *found.between)], order)
    return result


def _whole(
    result: nn.Module, dense: nn.Module, example: Tensor, prepare: Prepare, timer: Timer
) -> tuple[nn.Module, SiteChoice]:
    """The faster of the two networks; the dense one where it is faster beyond noise."""
    own = "fastest realisations"
    seconds = timer({own: prepare(result, example), DENSE: prepare(dense, example)})
    taken = {name: 1000 * median(values) for name, values in seconds.items()}
    chosen = own if taken[own] <= NOISE * taken[DENSE] else DENSE
    return result if chosen == own else dense, SiteChoice(site=WHOLE, chosen=chosen, milliseconds=taken)


def _output(network: nn.Module, example: Tensor) -> Any:
    with torch.no_grad():
        return network(example)


def _require_same(wanted: Any, found: Any) -> None:
    """Refuses a network whose outputs on the example have changed by more than rounding."""
    for before, after in zip(pytree.tree_leaves(wanted), pytree.tree_leaves(found), strict=True):
        if isinstance(before, Tensor) and before.is_floating_point():
            error = float((after - before).abs().max() / before.abs().max().clamp_min(1e-30))
            if not error <= TOLERANCE.get(before.dtype, LOW_PRECISION_TOLERANCE):
                raise RuntimeError(
                    f"the network made ready differs from the given one by {error:.1e} of the largest output on the example; "
                    "does its forward draw random numbers or change its state?"
                )


def choice_table(rows: Sequence[SiteChoice]) -> str:
    """The choices as a table of text, one row a line."""
    cells = [("site", "chosen", "ms", "dense ms", "ratio", "why")]
    for row in rows:
        own, dense = row.milliseconds[row.chosen], row.milliseconds[DENSE]
        cells.append((row.site, row.chosen, f"{own:.3f}", f"{dense:.3f}", f"{row.ratio:.2f}", row.reason))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
