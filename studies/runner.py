"""The search: suggest a plan, check its cost on the built network, train, write the record, tell the sampler."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import perf_counter

from torch import nn

from sconv_search.measurement import measure_cost
from sconv_search.plan import CompressionPlan
from sconv_search.records import Budget, TrialRecord
from sconv_search.search_space import SearchSpace
from sconv_search.training import TrainingDiverged
from studies.fitting import fitting
from studies.methods import METHODS, compress, method_named
from studies.monitor import Monitor
from studies.rows import cost_fields, outcome_fields, plan_fields, record
from studies.run_folder import RunFolder
from studies.sampler import Sampler
from studies.selection import candidates
from studies.sites import left_out
from studies.space import measured_space
from studies.spec import StudySpec
from studies.start import Start
from studies.trial import live

MOST_UNTRAINED = 3
MOST_REPEATED = 100


def search(start: Start, spec: StudySpec, folder: RunFolder, monitor: Monitor | None = None) -> list[TrialRecord]:
    """Runs a study, or continues the one in the folder, until it has ``spec.trials`` trainings; returns all its records.

    No plan over the budget is ever trained. A killed run continues with the same call: what is complete is neither lost
    nor done twice. Trials that fail leave a record with the reason.

    Raises:
        KeyError: a method is unknown.
        ValueError: the budget is not understood or cannot be met, or the folder holds another study.
        RuntimeError: three trials in a row gave nothing, or another command is working on the folder.
        OSError: the folder cannot be written.
    """
    monitor = monitor or Monitor()
    budget = checked_budget(spec, start.network, start.task.input_shape)
    spec = replace(spec, weights_sha256=start.weights_sha256, data_sha256=start.data_sha256)
    with folder.locked():
        _adopt(spec, folder, monitor)
        space = _space(start, spec, folder, monitor)
        _announce(start, spec, space, budget, monitor)
        space.require_reachable(budget)
        return _run_trials(start, spec, folder, space, budget, monitor)


def checked_budget(spec: StudySpec, network: nn.Module, input_shape: tuple[int, ...]) -> Budget:
    """The spec's budget for this network; cheap, so that wrong input is refused before any long work.

    Raises:
        KeyError: a method is unknown.
        ValueError: methods cannot be mixed, the budget is not understood, a pattern matches no site, or the network's forward
            fails on the shape.
    """
    reshaping = [name for name in spec.methods if method_named(name).reshapes_neighbours]
    if reshaping and len(spec.methods) > 1:
        raise ValueError(f"{reshaping[0]} changes the layers that other methods choose for; search it in a study of its own")
    spec.selection.require_matches(candidates(network))
    return Budget.parse(spec.budget, dense=measure_cost(network, input_shape), quantity=spec.quantity)


def _adopt(spec: StudySpec, folder: RunFolder, monitor: Monitor) -> None:
    """Makes the folder this study's, or makes sure that it is."""
    known = folder.read_spec()
    if known is not None and (changed := spec.differences(known)):
        if folder.records()[0]:
            where = f"the run folder {str(folder.path)!r} holds another study"
            raise ValueError(f"{where}: {'; '.join(changed)}; name another with --out")
        folder.forget(space=not spec.has_same_space(known))  # nothing was trained: a corrected command starts afresh
    if note := folder.mend():
        monitor.say(note)
    folder.write("spec.json", spec.to_json())


def _space(start: Start, spec: StudySpec, folder: RunFolder, monitor: Monitor) -> SearchSpace:
    """The folder's search space, measured now if it has none."""
    space = folder.read_space()
    if space is None:
        space = measured_space(start, spec.methods, monitor, spec.selection)
        folder.write("space.json", space.to_json())
    return space


def _announce(start: Start, spec: StudySpec, space: SearchSpace, budget: Budget, monitor: Monitor) -> None:
    """What can be reached, before anything is trained."""
    dense, floor = budget.of(space.dense), budget.of(space.floor(budget))
    unit = budget.quantity
    monitor.say(f"dense network: {space.dense.macs:,} MACs + {space.dense.adds:,} additions, {space.dense.params:,} parameters")
    monitor.say(f"reachable: {floor:,} to {dense:,} {unit}, that is {floor / dense:.1%} to 100%")
    monitor.say(f"budget: {budget.limit:,} {unit}, that is {budget.limit / dense:.1%}")
    monitor.say(
        f"search space: {len(space.sites)} layers, {sum(map(len, space.sites.values()))} options, {space.plans:.2g} plans"
    )
    for name, reason in left_out(start.network, space.sites, spec.methods, spec.selection).items():
        monitor.say(f"skipped {name}: {reason}")


def _run_trials(
    start: Start, spec: StudySpec, folder: RunFolder, space: SearchSpace, budget: Budget, monitor: Monitor
) -> list[TrialRecord]:
    records, damaged = folder.records()
    for message in damaged:
        monitor.say(message)
    by_number = {r.number: r for r in records if r.stage == "search" and r.number is not None}
    regularizable = any(METHODS[name].regularizable for name in spec.methods)
    weights = spec.regularization_range if regularizable else None
    sampler = Sampler(folder.journal, space.sites, regularization=weights, trials=spec.trials, seed=spec.seed)
    if again := sampler.reconcile(by_number):
        monitor.say(f"trial {', '.join(map(str, again))} was interrupted and runs again")
    lost = len(sampler.known(by_number))
    known = {(r.plan, r.regularization): r for r in by_number.values()}
    complete, untrained, repeated = sum(r.status == "complete" for r in by_number.values()) + lost, 0, 0
    while complete < spec.trials:
        asked = sampler.ask()
        plan = fitting(start, space, budget, partial(space.decode, asked.preferences, sharpness=asked.sharpness))
        if (same := known.get((plan.to_json(), asked.regularization))) is not None:
            sampler.repeat(asked.number, same)
            repeated += 1
            if repeated == MOST_REPEATED:
                monitor.say(
                    f"{repeated} suggestions in a row were trained before: the space seems exhausted at {complete} trials"
                )
                break
            continue
        repeated = 0
        found = _trial(start, spec, folder.name, space, budget, asked.number, plan, asked.regularization, monitor)
        folder.append(found)
        monitor.recorded(found)  # TensorBoard's logs and other listeners
        sampler.tell(asked.number, found)
        records.append(found)
        known[found.plan, found.regularization] = found
        complete += found.status == "complete"
        untrained = 0 if found.status == "complete" else untrained + 1
        monitor.say(_line(found, complete, spec.trials))
        if untrained == MOST_UNTRAINED:
            raise RuntimeError(f"{untrained} trials in a row gave no result, the last because: {found.reason}")
    return records


def _trial(
    start: Start, spec: StudySpec, study: str, space: SearchSpace, budget: Budget, number: int, plan: CompressionPlan,
    regularization: float | None, monitor: Monitor,
) -> TrialRecord:  # fmt: skip
    """Measures the built plan and, if it fits, trains it; the record says what happened."""
    began = perf_counter()
    cost = measure_cost(compress(start.network, plan), start.task.input_shape)
    known = {
        "stage": "search", "variant": "searched", "number": number, "seed": spec.seed,
        **plan_fields(plan, regularization), **cost_fields(cost, space.dense),
    }  # fmt: skip
    if budget.excess(cost) > 0:
        reason = f"measured {budget.of(cost):,} {budget.quantity} against a budget of {budget.limit:,}"
        return record(study, spec, status="over_budget", reason=reason, **known)
    try:
        outcome = live(
            start, plan, spec.search_schedule, seed=spec.seed, regularization=regularization,
            regularized_share=spec.regularized_share, monitor=monitor,
        )  # fmt: skip
    except TrainingDiverged as error:
        return record(study, spec, status="failed", reason=str(error), wall_s=perf_counter() - began, **known)
    scores = outcome_fields(outcome, spec.search_schedule.epochs)
    return record(study, spec, status="complete", wall_s=perf_counter() - began, **known, **scores)


def _line(found: TrialRecord, complete: int, trials: int) -> str:
    """One trial in one line of the terminal."""
    share = f"{100 * found.flops / found.dense_flops:.1f} % FLOPs" if found.flops and found.dense_flops else ""
    if found.status != "complete":
        return f"trial {found.number}: {found.status}, {found.reason}"
    weight = "direct" if found.regularization is None else f"λ {found.regularization:.2g}"
    score = f"validation top-1 {found.val_top1:.2f} % in {found.wall_s:.0f} s"
    return f"trial {found.number} ({complete}/{trials}): {share}, {weight}, {score}"
