"""``ss.compress``: a trained network made to fit a budget in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sconv_search.budget import Budgets
from sconv_search.compressor import swapped
from sconv_search.cost.counting import counting_free, measure_cost, require_forward
from sconv_search.cost.input_shape import takes
from sconv_search.cost.network_inputs import Inputs, first_of
from sconv_search.data.loaders.batches import first_inputs
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.decoder import greedy
from sconv_search.studies import methods as mixed
from sconv_search.studies.method_registry import METHODS
from sconv_search.studies.monitor import Monitor, monitor_of
from sconv_search.studies.oneshot.arguments import (
    budget_text,
    of_one_input,
    require_fit,
    require_iterable,
    require_kinds,
)
from sconv_search.studies.oneshot.damages import DAMAGE_INPUTS
from sconv_search.studies.oneshot.options import options_of
from sconv_search.studies.spec import Selection

FITTED_INPUTS = 256
DEFAULT_METHODS = ("structured_conv",)


class Compressed(nn.Module):
    """What ``compress`` adds to the network that it returns, for static tools: the network keeps its own class."""

    plan: CompressionPlan
    cost: Cost
    dense_cost: Cost
    example: Inputs
    network_name: str | None


def compress(
    network: nn.Module,
    example: Inputs | CompressionPlan,
    budget: str | Mapping[str, str] | CompressionPlan | Tensor | None = None,
    reference: nn.Module | None = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    data: Iterable[Any] | None = None,
    inputs: Callable[[Any], Inputs] | None = None,
    samples: int = FITTED_INPUTS,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    multiple: int = 1,
    count_free: Sequence[str] = (),
    calibration: Tensor | None = None,
    progress: bool | Monitor | None = None,
) -> Compressed:
    """A new network within a budget, or by a plan; the argument is not modified.

    Which layers give what follows from the damage that each option is predicted to do, see ``options_of``. With data
    the layers are then fitted, one after the other, to the outputs of the dense network; labels are not read.

    Args:
        network: a trained network.
        example: what it is called with: a tensor, a tuple of positional arguments or a dict of arguments by keyword; or
            the shape of one input, without the batch. Of a batch, the first input is taken: costs and budgets are those
            of one input. With a plan in its place, the call is ``compress(network, plan, calibration, reference)``,
            whose calibration is a tensor of inputs (N, ...).
        budget: the most that the network may cost: a share of the dense one ``"50%"`` or an amount ``"41M"`` of its
            FLOPs, of other quantities ``"macs=40%"``, several of them ``{"macs": "40%", "params": "60%"}``; or a plan.
        methods: keys of ``METHODS`` from which every site takes one, or classes as ``"package.module:Class"``.
        data: batches, such as a ``DataLoader``; the first ``samples`` inputs of them are used.
        inputs: what of a batch the network is called with; by default the batch itself, or its first entry.
        samples: inputs that the layers are fitted to.
        include: patterns of the names of layers that may be compressed; by default all.
        exclude: patterns of the names of layers that may not.
        multiple: ranks and channel counts are multiples of this.
        count_free: operators without a known cost that count nothing, see ``measure_cost``.
        progress: whether a bar shows what is being done, by default on a terminal; or what shows it.

    Returns:
        The network, in evaluation mode, with the attributes ``plan``, ``cost``, ``dense_cost`` and ``example``.

    Raises:
        KeyError: a method or a site is unknown; the nearest are named.
        ValueError: the budget is not understood or cannot be met, the forward fails on the example, a pattern matches
            no layer, or the data holds no batch.
    """
    if isinstance(example, CompressionPlan):
        given = budget if isinstance(budget, Tensor) else calibration
        return cast(Compressed, mixed.compress(network, example, given, reference))
    if budget is None or isinstance(budget, Tensor):
        raise ValueError("compress needs a budget, such as budget='50%', or a plan")
    require_kinds(network, example, inputs, samples)
    if isinstance(budget, CompressionPlan) and (tuple(methods) != DEFAULT_METHODS or include or exclude):
        raise ValueError("a plan names its layers and their methods; leave out methods=, include= and exclude=")
    budget = budget if isinstance(budget, CompressionPlan) else budget_text(budget)
    monitor = monitor_of(progress)
    methods = tuple(map(METHODS.add, [methods] if isinstance(methods, str) else methods))
    dense = swapped(network, {}).eval()
    require_forward(dense, example)
    example = of_one_input(dense, example)
    takes(dense, example)
    with counting_free(count_free):
        fitted = None
        if data is not None:
            require_iterable(data)
            with monitor.bar("reading the data"):
                fitted = first_inputs(data, samples, inputs, _device(network))
            require_fit(dense, fitted)
        if isinstance(budget, CompressionPlan):
            plan = budget
        else:
            plan = _planned(
                dense,
                example,
                budget,
                methods,
                Selection(include=tuple(include), exclude=tuple(exclude), multiple=multiple),
                fitted,
                monitor,
            )
        with monitor.bar("fitting the layers" if fitted is not None else "compressing the layers"):
            small = cast(Compressed, mixed.compress(dense, plan, fitted, reference).eval())
        small.plan, small.example = plan, example
        small.cost, small.dense_cost = measure_cost(small, example), measure_cost(dense, example)
    return small


def _planned(
    network: nn.Module,
    example: Inputs,
    budget: str,
    methods: Sequence[str],
    selection: Selection,
    fitted: Inputs | None,
    monitor: Monitor,
) -> CompressionPlan:
    budgets = Budgets.parse(budget, dense=measure_cost(network, example))
    if any(limit.quantity == "latency_ms" for limit in budgets.limits) or budgets.ranged:
        raise ValueError(
            f"budget {budget!r} needs a study, which measures times or a front; use `sconv-search"
            " search`, or sconv_search.Study"
        )
    read = None if fitted is None else first_of(fitted, DAMAGE_INPUTS)
    space = options_of(network, example, methods, selection, monitor, inputs=read)
    space.require_reachable(budgets)
    return greedy(space, budgets)


def _device(network: nn.Module) -> torch.device:
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))
