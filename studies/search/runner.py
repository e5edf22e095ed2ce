"""The search: adopts a run's folder, measures its space, and runs trials until the study is complete."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from torch import nn

from sconv_search.budget import Budgets
from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.cost.network_inputs import Inputs
from sconv_search.data.loaders.batches import LoaderData
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.search_space.space import SearchSpace
from sconv_search.search_space.tables import SpaceArrays
from sconv_search.strict_json import shortened, shown
from sconv_search.studies.context import StudyContext
from sconv_search.studies.executors.placement import HERE, Placement
from sconv_search.studies.granularity import grouped
from sconv_search.studies.methods import METHODS, method_named
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.studies.runs.folder import RunFolder, told
from sconv_search.studies.samplers.database import StudyDatabase
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.study import Domain, Sampler
from sconv_search.studies.search.loop import SearchLoop, StoppingCriterion
from sconv_search.studies.search.proposals import Proposals
from sconv_search.studies.search.space_jobs import measured_on_cluster
from sconv_search.studies.selection import candidates, offered
from sconv_search.studies.space.given_plans import require_fit
from sconv_search.studies.space.identity import identity_sha256, require_measured_of, space_identity
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import dense_cost, measured_space
from sconv_search.studies.space.site_text import site_lines
from sconv_search.studies.space.sites import left_out, require_offers
from sconv_search.studies.space.widths import unmixed
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.trials.checkpoints import RunCheckpoints, shared_checkpoints
from sconv_search.studies.trials.trial import TrialEvaluator, trial_name
from sconv_search.training.input_checks import require_batches, require_training_step
from sconv_search.training.loop import train_
from sconv_search.training.schedule import EVERY_S

SAME_SCORE = 1e-3
"""Relative difference to which a dense network's score is the same on other machines."""


def search(
    context: StudyContext,
    spec: StudySpec,
    folder: RunFolder,
    monitor: Monitor | None = None,
    *,
    placement: Placement = HERE,
    stops: StoppingCriterion | None = None,
    checkpoint_s: float = EVERY_S,
    overwrite: bool = False,
    storage: str | None = None,
    checkpoints: str | None = None,
) -> list[TrialRecord]:
    """Runs a study, or continues the one in the folder, until it has ``spec.trials`` trainings; returns all its
    records.

    No plan over a budget is ever trained. A killed run continues with the same call: what is complete is neither lost
    nor done twice, an interrupted training goes on from its checkpoint, and with one worker the trials are those of an
    uninterrupted run. Trials that fail leave a record with the reason.

    Args:
        placement: where trials run: here, in several processes, or on a cluster.
        stops: ends the search earlier.
        checkpoint_s: seconds between checkpoints of a training; 0 writes one after every step.
        overwrite: whether another study in the folder, or one that cannot be read, is deleted; this one is continued.
        checkpoints: path or address of a folder for the trainings' checkpoints that all nodes of a cluster see; None
            keeps them in the run's folder, and on a cluster none at all.
        storage: URL of a PostgreSQL database for the Optuna study; None keeps that in the folder.

    Raises:
        KeyError: a method is unknown.
        OutOfStep: one of several processes that train together failed alone.
        TypeError: trials run in other processes, and the network or a function cannot be sent to them.
        ValueError: the budget is not understood or cannot be met, the folder holds another study, a batch is larger
            than the data, a training step fails, or no node of the cluster can be used.
        RuntimeError: three trials in a row gave nothing for one reason, ten for any, or another command works on the
            folder.
        OSError: the folder cannot be written.
    """
    monitor = monitor or Monitor()
    placement.require(context)
    checked_budget(spec, context.network, context.task.input_shape)
    score = _require_trainable(context, spec, folder, monitor)
    spec = replace(
        spec,
        weights_sha256=context.weights_sha256,
        data_sha256=context.data_sha256,
        made_of=context.made_of,
        dense_score=score,
    )
    database = None if storage is None else StudyDatabase(storage, monitor.say)
    held = nullcontext() if database is None else database.locked(folder.name)
    with folder.locked(), held, counting_free(spec.count_free):
        spec = _adopt(spec, context, folder, monitor, overwrite=overwrite)
        if database is not None:
            database.adopt(spec, overwrite=overwrite)
        if not folder.has_space:
            offers = offered(context.network, spec.methods, spec.selection)
            require_offers(context.network, offers, spec.methods, spec.selection)
        space = _space(context, spec, folder, placement, monitor)
        budgets = Budgets.parse(spec.budget, dense=space.dense, quantity=spec.quantity)
        _announce(context, spec, space, budgets, monitor)
        space.require_reachable(budgets)
        require_fit(spec.given, space, budgets)
        kept = _checkpoints(folder, checkpoints, placement, checkpoint_s, monitor)
        evaluator = TrialEvaluator(context=context, spec=spec, study=folder.name, dense=space.dense, checkpoints=kept)
        records = _run_trials(
            evaluator, folder, space, budgets, monitor, placement, stops or StoppingCriterion(), database
        )
        folder.forget_checkpoints(trial_name("*"))  # of trials that did not come again
        return records


def _checkpoints(
    folder: RunFolder, address: str | None, placement: Placement, every_s: float, monitor: Monitor
) -> RunCheckpoints | None:
    """Where the trials' trainings keep their state; None where no folder is seen by all."""
    if address is not None:
        return shared_checkpoints(address, folder.name, every_s)
    if placement.cluster is None:
        return RunCheckpoints(folder=folder.checkpoints, every_s=every_s)
    monitor.say("a trial that loses its node begins anew; with --checkpoints FOLDER, which all nodes see, it continues")
    return None


def _require_trainable(context: StudyContext, spec: StudySpec, folder: RunFolder, monitor: Monitor) -> float | None:
    """Refuses, before the space is measured, what no trial could be trained or scored with; a training of the user's
    own is not tried, a score of theirs is, on the dense network, whose score is returned.
    """
    score = _require_scored(context, monitor) if isinstance(context.data, LoaderData) else None
    if context.train is not train_:
        return score
    require_batches(context.data, {"search": spec.search_schedule, "confirmation": spec.confirm_schedule})
    if not folder.has_space:
        require_training_step(context.network, context.data, spec.search_schedule)
    return score


def _require_scored(context: StudyContext, monitor: Monitor) -> float:
    metric = context.task.metric
    with monitor.bar("scoring the dense network"):
        score = context.score(context.network, context.data, context.data.validation).value
    if not math.isfinite(score):
        raise ValueError(f"score gives {score} for the dense network; it must be a finite number")
    monitor.say(f"dense network: {metric.name} {metric.text(score)}, {metric.better} is better")
    return score


def _require_same_score(spec: StudySpec, known: StudySpec, context: StudyContext, folder: RunFolder) -> None:
    """Refuses a score that gives the same dense network another value, as on other validation data.

    One that gives another value each time is taken.

    Raises:
        ValueError: both values.
    """
    old, new = known.dense_score, spec.dense_score
    if old is None or new is None or math.isclose(old, new, rel_tol=SAME_SCORE, abs_tol=SAME_SCORE):
        return
    if context.score(context.network, context.data, context.data.validation).value == new:
        raise ValueError(
            f"the run folder {str(folder.path)!r} holds another study: the dense network scored {old:g}, scores"
            f" {new:g}; name another with --out, or replace it with --overwrite"
        )


def checked_budget(spec: StudySpec, network: nn.Module, input_shape: Inputs, dense: Cost | None = None) -> Budgets:
    """The spec's budgets for this network; cheap, so that wrong input is refused before any long work.

    Args:
        dense: the network's cost, where it is known already.

    Raises:
        KeyError: a method is unknown.
        ValueError: the budget is not understood, a pattern matches no site, the network's forward fails on the
            shape, or an operator has no cost and is not among those that count nothing.
    """
    for name in spec.methods:
        method_named(name)
    spec.selection.require_matches(candidates(network))
    dense = dense or measure_cost(network, input_shape, count_free=spec.count_free)
    if spec.times:
        dense = dense_cost(network, input_shape, spec.latency_batch)
    return Budgets.parse(spec.budget, dense=dense, quantity=spec.quantity)


def require_own(spec: StudySpec, folder: RunFolder, *, begun: bool = True) -> None:
    """Refuses a folder in which something else was computed: nothing of it is deleted or overwritten unasked.

    Args:
        begun: whether the spec holds the checksums of weights and data, so that they are compared too.

    Raises:
        ValueError: the folder holds another study's records or networks, or a file that cannot be read; it is named.
    """
    known, trained = folder.read_spec(), folder.trained
    advice = "name another with --out, or replace it with --overwrite"
    if known is None and trained:
        raise ValueError(f"the run folder {str(folder.path)!r} holds {trained} of a study, but no spec.json; {advice}")
    if known is not None and trained and (changed := spec.differences(known, begun=begun)):
        where = f"the run folder {str(folder.path)!r} holds another study"
        raise ValueError(f"{where}: {shortened('; '.join(changed), 300)}; {advice}")
    if other := folder.of_another_schema():
        raise ValueError(f"{other}; a search by another version cannot go on; {advice}")


def _adopt(
    spec: StudySpec, context: StudyContext, folder: RunFolder, monitor: Monitor, *, overwrite: bool
) -> StudySpec:
    """Makes the folder this study's, or makes sure that it is; returns the spec that it holds."""
    try:
        require_own(spec, folder)
        if folder.trained and (begun := folder.read_spec()) is not None:
            _require_same_score(spec, begun, context, folder)
            if begun.dense_score is not None:
                spec = replace(spec, dense_score=begun.dense_score)
    except ValueError as error:
        if not overwrite:
            raise
        monitor.say(f"{folder.path}: what it held is deleted, as --overwrite says ({shortened(str(error), 200)})")
        folder.clear()
    known = folder.read_spec()
    if known is None or spec.differences(known):  # nothing was trained: a corrected command starts afresh
        for note in folder.set_aside(space=known is None or not spec.has_same_space(known)):
            monitor.say(note)
    for note in folder.mend():
        monitor.say(note)
    folder.write("spec.json", spec.to_json())
    return spec


def _space(
    context: StudyContext, spec: StudySpec, folder: RunFolder, placement: Placement, monitor: Monitor
) -> SearchSpace:
    """The folder's search space, measured now if it has none; an interrupted measurement is continued.

    Raises:
        ValueError: the folder's space was measured of something else; it is named.
    """
    space, identity = folder.read_space(), space_identity(context, spec)
    if space is not None:
        require_measured_of(space, identity, folder.path / "space.json")
        _require_of(space, context, spec, folder)
    else:
        checksum = identity_sha256(identity)
        known, damaged = folder.measured_sites(checksum)
        for message in told(damaged):
            monitor.say(message)
        if known:
            monitor.say(f"measured before: {counted(len(known), 'layer')}")
        batch = spec.latency_batch if spec.times else None
        keep = partial(folder.keep_site, measured_of=checksum)
        if placement.cluster is not None and batch is None:
            known = measured_on_cluster(context, spec, placement, monitor, known, keep)
        space = measured_space(
            context,
            spec.methods,
            monitor,
            spec.selection,
            given=spec.given,
            latency_batch=batch,
            known=known,
            keep=keep,
        )
        space = replace(space, measured_of=identity)
        folder.write_space(space)
    return space


def _require_of(space: SearchSpace, context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    """Refuses a space that was read and is not of this network and these methods.

    Raises:
        ValueError: the file, and the first entry that does not fit.
    """
    path, advice = folder.path / "space.json", "without the file the space is measured again"
    if (dense := measure_cost(context.network, context.task.input_shape)) != space.dense.counted():
        raise ValueError(f"{path}: 'dense' is {space.dense.counted()}, the network measures {dense}; {advice}")
    known = candidates(context.network)
    for name, options in space.sites.items():
        for choice in (option.choice for option in options):
            if name not in known or choice.method not in spec.methods:
                raise ValueError(
                    f"{path}: site {shown(name)} has {shown(str(choice))}, which this study does not offer; {advice}"
                )


def _announce(context: StudyContext, spec: StudySpec, space: SearchSpace, budgets: Budgets, monitor: Monitor) -> None:
    """What can be reached, before anything is trained."""
    monitor.say(f"dense network: {amounts(space.dense)}")
    for line in reachable(space, budgets):
        monitor.say(line)
    options = {name: len(site_options) for name, site_options in space.sites.items()}
    layers, choices = counted(len(options), "layer"), counted(sum(options.values()), "option")
    monitor.say(f"search space: {layers}, {choices}, {space.plans:.2g} plans")
    apart = unmixed(context.network, offered(context.network, spec.methods, spec.selection))
    rest = left_out(context.network, space.sites, spec.methods, spec.selection)
    for line in site_lines(options, {**rest, **apart}):
        monitor.say(line)


def reachable(space: SearchSpace, budgets: Budgets) -> Iterator[str]:
    """What can be reached of each budgeted quantity, and what the budget asks for, in words."""
    for budget in budgets.limits:
        dense, floor = budget.of(space.dense), budget.of(space.floor(budget))
        yield f"reachable: {budget.words(floor)} to {budget.words(dense)}, that is {floor / dense:.1%} to 100%"
        low = "" if budget.least is None else f"{budget.words(budget.least)} ({budget.least / dense:.1%}) to "
        yield f"budget: {low}{budget.words(budget.limit)}, that is {budget.limit / dense:.1%}"


def amounts(cost: Cost) -> str:
    """A network's cost, to read."""
    latency = f", {cost.latency_ms:.2f} ms" if cost.latency_ms else ""
    counted = (
        f"{cost.macs:,} MACs + {cost.adds:,} additions, {cost.params:,} parameters, {cost.activations:,} activations"
    )
    return counted + latency


def _not_offered(records: Sequence[TrialRecord], space: SearchSpace, folder: RunFolder) -> Iterator[str]:
    """A message for each record of whose plan the search can learn nothing."""
    for r in records:
        if r.stage == "search" and r.plan is not None and not space.offers(CompressionPlan.from_json(r.plan)):
            yield f"{folder.trials}: the plan of trial {r.number} is none of the search space; nothing is learned of it"


def _by_number(records: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    return {r.number: r for r in records if r.stage == "search" and r.number is not None}


def _restored(records: list[TrialRecord], sampler: Sampler, folder: RunFolder, monitor: Monitor) -> list[TrialRecord]:
    """The records, with those that the database alone has, and writes back; it gets what the folder alone has."""
    lines, added = sampler.restore(_by_number(records))
    for line in lines:
        folder.append(TrialRecord.from_json(line))
    if lines:
        monitor.say(f"{folder.trials}: {counted(len(lines), 'record')} restored from the database")
    if added:
        monitor.say(f"the database: {counted(len(added), 'trial')} restored from the folder")
    return folder.records()[0] if lines else records


def _run_trials(
    evaluator: TrialEvaluator,
    folder: RunFolder,
    space: SearchSpace,
    budgets: Budgets,
    monitor: Monitor,
    placement: Placement,
    stops: StoppingCriterion,
    database: StudyDatabase | None,
) -> list[TrialRecord]:
    spec, context = evaluator.spec, evaluator.context
    records, damaged = folder.records()
    for message in told([*damaged, *_not_offered(records, space, folder)]):
        monitor.say(message)
    shapes = input_shapes(context.network, context.task.input_shape, space.sites)
    random_keys = RandomKeys(SpaceArrays(space), grouped(space.sites, spec.granularity, shapes))
    regularizable = spec.search_schedule.epochs > 0 and any(METHODS[name].regularizable for name in spec.methods)
    weights = spec.regularization_range if regularizable else None
    domain = Domain(
        random_keys=random_keys.names,
        regularization=weights,
        regularized_share=spec.regularized_share_range,
        ranged=spec.is_front,
        costs=spec.costs,
    )
    startup = max(4, spec.trials // 4)
    sampler = Sampler(folder.journal, domain, spec.sampler, spec.seed, startup, database=database)
    records = _restored(records, sampler, folder, monitor)
    by_number = _by_number(records)
    if again := sampler.reconcile(by_number):
        monitor.say(f"trial {', '.join(map(str, again))} was interrupted and runs again")
    if unknown := sampler.unknown(by_number):
        monitor.say(
            f"{folder.journal}: lost trial {', '.join(map(str, unknown))}; the sampler goes on without what it learned"
            " there"
        )
    if known := sampler.known(by_number):
        monitor.say(f"trial {', '.join(map(str, known))} was trained, but its record is lost; it counts as trained")
    proposals = Proposals(spec, space, budgets, sampler, random_keys, weights)
    loop = SearchLoop(spec, folder, records, sampler, proposals, stops, monitor, checkpoints=evaluator.checkpoints)
    with placement.executor(evaluator, monitor) as where:
        loop.run(where, lost=len(known))
    return loop.records
