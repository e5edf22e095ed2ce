"""What a search would do, found out without data and without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.cost.input_shape import takes
from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.decoder import fill
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies.methods import compress, method_named
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.studies.search.runner import checked_budget, reachable
from sconv_search.studies.selection import offered
from sconv_search.studies.space.couplings import measured_couplings
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import CostTable
from sconv_search.studies.space.narrowed_costs import measured_narrowings
from sconv_search.studies.space.pruned_costs import pruned_costs
from sconv_search.studies.space.sites import left_out, require_offers
from sconv_search.studies.space.widths import channels_dropped, left_by_pruning, mixable, unmixed
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import ListedData, Task
from sconv_search.training.input_checks import require_batches, require_fit
from sconv_search.training.schedule import Schedule

WEIGHT = 1e-3


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """A search that was not begun.

    Args:
        cost: of the dense network.
        options: site -> number of options there.
        skipped: layer with weights that is no site -> why.
        reachable: what can be reached of each budgeted quantity, and what the budget asks for, in words.
        plan: one that fits the budget; None where none does.
        plan_cost: what it costs.
        data: the files that are expected, in words; None where no file is.
        missing: what of the data is missing, or wrong with it; None where nothing is.
        there: what a folder of photos holds, in words; None where nothing is said of it.
        notes: what the reader of the folder wants said, such as files that were skipped.
    """

    task: str
    network: str
    input_shape: tuple[int, ...] | str
    metric: str
    cost: Cost
    methods: tuple[str, ...]
    options: Mapping[str, int]
    skipped: Mapping[str, str]
    reachable: tuple[str, ...]
    plan: CompressionPlan | None
    plan_cost: Cost | None
    trials: int
    search_schedule: Schedule
    confirm_schedule: Schedule
    data: str | None
    missing: str | None
    there: str | None = None
    notes: tuple[str, ...] = ()


def dry_run(task: Task, spec: StudySpec, folder: Path | None, monitor: Monitor, *, weights: bool = False) -> DryRun:
    """Builds the task's network and a plan; of each layer, the cheapest option and a middle one are built and measured.

    Args:
        folder: where the data is looked for.
        weights: whether start weights are given, so that no score may come from what they have seen.

    Raises:
        KeyError: a method is unknown.
        ValueError: the budget is not understood or is one of latency, which takes a search's time to measure, a pattern
            matches no site, no layer can be compressed, or an operator has no cost.
    """
    if spec.times:
        raise ValueError(
            "a dry run counts operations and measures no time; leave budgets and objectives of latency_ms out"
        )
    with counting_free(spec.count_free):
        return _dry_run(task, spec, folder, monitor, weights=weights)


def _dry_run(task: Task, spec: StudySpec, folder: Path | None, monitor: Monitor, *, weights: bool) -> DryRun:
    network = _featureless(task.network())
    takes(network, task.input_shape)
    dense = measure_cost(network, task.input_shape)
    budgets = checked_budget(spec, network, task.input_shape, dense)
    with monitor.bar("asking the methods for their options"):
        every = offered(network, spec.methods, spec.selection)
    choices = mixable(network, every)
    require_offers(network, choices, spec.methods, spec.selection)
    space = _counted(network, task.input_shape, choices, dense, monitor)
    fits = all(limit.excess(space.floor(limit)) <= 0 for limit in budgets.limits)
    plan = fill(space, {}, budgets.at(1.0)) if fits else None
    return DryRun(
        task=spec.task,
        network=type(network).__name__,
        input_shape=task.shape,
        metric=task.metric.name,
        cost=space.dense,
        methods=spec.methods,
        options={name: len(options) for name, options in choices.items()},
        skipped={**left_out(network, choices, spec.methods, spec.selection), **unmixed(network, every)},
        reachable=tuple(reachable(space, budgets)),
        plan=plan,
        plan_cost=None if plan is None else space.cost(plan),
        trials=spec.trials,
        search_schedule=spec.search_schedule,
        confirm_schedule=spec.confirm_schedule,
        **_data(task, spec, network, folder, weights=weights),
    )


def _data(task: Task, spec: StudySpec, network: nn.Module, folder: Path | None, *, weights: bool) -> dict[str, Any]:
    """What is expected, missing or wrong, and there; photos of a folder are listed, those of tables decoded."""
    if task.layout is not None:
        return {"data": task.layout.words, "missing": task.layout.missing(folder)}
    if not isinstance(task.data, ListedData):
        return {"data": None, "missing": None}
    found: dict[str, Any] = {"data": task.data.expected(), "missing": None}
    schedules = {"search": spec.search_schedule, "confirmation": spec.confirm_schedule}
    try:
        seen = weights or task.data.is_trained()
        data = task.data(folder, seen)
        counts = {"training": data.train, "validation": data.validation, "test": data.test}
        there = ", ".join(f"{len(split):,} {name}" for name, split in counts.items())
        found |= {"there": f"{there} images of {data.train.classes} classes", "notes": data.notes}
        require_batches(data, schedules if seen else {**schedules, "dense network": task.dense_schedule})
        require_fit(task.name, task.input_shape, network, data)
    except (ValueError, OSError) as error:
        return {**found, "missing": str(error)}
    return found


def require_reachable(task: Task, spec: StudySpec, monitor: Monitor) -> None:
    """Refuses a budget that no plan meets, by the network's architecture alone, before a dense network is trained.

    A look at two options of each layer mostly shows a plan that fits; where it shows none, all options are counted.
    Budgets of latency, and plans that are given, are left to the search, which measures them.

    Raises:
        KeyError, ValueError: as ``dry_run``, or the budget cannot be met.
    """
    if spec.times or spec.plans:
        return
    with counting_free(spec.count_free):
        _require_reachable(task, spec, monitor)


def _require_reachable(task: Task, spec: StudySpec, monitor: Monitor) -> None:
    network = _featureless(task.network())
    dense = measure_cost(network, task.input_shape)
    budgets = checked_budget(spec, network, task.input_shape, dense)
    choices = mixable(network, offered(network, spec.methods, spec.selection))
    for few in (True, False):
        space = _counted(network, task.input_shape, choices, dense, monitor, few=few)
        try:
            space.require_reachable(budgets)
            return
        except ValueError:
            if not few:
                raise


@torch.no_grad()
def _featureless(network: nn.Module) -> nn.Module:
    """The network with all weights alike: costs do not depend on them, and choosing channels of random ones takes a
    minute.
    """
    for weight in network.parameters():
        weight.fill_(WEIGHT)
    return network.eval()


def _counted(
    network: nn.Module,
    shape: Inputs,
    choices: Mapping[str, Sequence[Choice]],
    dense: Cost,
    monitor: Monitor,
    *,
    few: bool = True,
) -> SearchSpace:
    """The space of two options a site, or of all; what they damage is not known, and taken to be what they save."""
    shapes, costs = input_shapes(network, shape, choices), CostTable()
    asked = {name: tuple(dict.fromkeys((own[0], own[len(own) // 2]))) if few else own for name, own in choices.items()}
    pruned = pruned_costs(network, shape, asked, dense, monitor)
    sites: dict[str, tuple[Option, ...]] = {}
    with monitor.bar(f"counting {'two' if few else 'all'} options of {counted(len(choices), 'layer')}") as step:
        for done, (name, site_options) in enumerate(asked.items(), start=1):
            layer, options = network.get_submodule(name), []
            for choice in site_options:
                if not method_named(choice.method).reshapes_neighbors:
                    cost = costs.of(layer, choice, shapes[name])
                elif (name, choice) in pruned:
                    cost = pruned[name, choice]
                else:
                    cost = measure_cost(compress(network, CompressionPlan(sites={name: choice})), shape) - dense
                dropped = channels_dropped(network, name, choice)
                if cost.flops < 0:
                    options.append(Option(choice=choice, cost=cost, damage=-cost.flops / dense.flops, dropped=dropped))
            sites[name] = tuple(options)
            step(done, len(choices))
    widths, _ = left_by_pruning(network, {name: [option.choice for option in own] for name, own in sites.items()})
    narrowings, unknown = measured_narrowings(network, shapes, sites, widths, monitor)
    known = {name: tuple(o for o in own if (name, o.choice.method) not in unknown) for name, own in sites.items()}
    offers = {name: options for name, options in known.items() if options}
    couplings, offers = measured_couplings(network, shape, offers, dense, monitor)
    return SearchSpace(dense=dense, sites=offers, couplings=couplings, narrowings=narrowings)
