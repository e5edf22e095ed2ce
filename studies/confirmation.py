"""Confirmation: the best plans on the full schedule, over several seeds, scored once on the test set, beside
references.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from sconv_search.budget import Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.records import TrialRecord
from sconv_search.search_space.heuristics import uniform
from sconv_search.studies.context import StudyContext
from sconv_search.studies.executors.placement import HERE, Placement
from sconv_search.studies.executors.protocol import Executor
from sconv_search.studies.executors.running import results
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.studies.runs.folder import RunFolder, told
from sconv_search.studies.space.identity import require_start
from sconv_search.studies.spec import StudySpec, changed_parts
from sconv_search.studies.trials.checkpoints import RunCheckpoints, shared_checkpoints
from sconv_search.studies.trials.confirming import Candidate, Confirmation, ConfirmationEvaluator, ConfirmationRequest
from sconv_search.system.files import write_whole
from sconv_search.training.input_checks import require_batches
from sconv_search.training.loop import train_
from sconv_search.training.schedule import EVERY_S

EMPTY = CompressionPlan(sites={})


def front(records: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """The best ``most`` of the search's complete trials that no other beats in both FLOPs and validation accuracy."""
    complete = [
        r for r in records if r.stage == "search" and r.status == "complete" and r.quality is not None and r.flops
    ]
    chosen: list[TrialRecord] = []
    for r in sorted(complete, key=lambda r: (r.flops or 0, -(r.quality or 0), r.number or 0)):
        if not chosen or (r.quality or 0) > (chosen[-1].quality or 0):
            chosen.append(r)
    return sorted(chosen, key=lambda r: -(r.quality or 0))[:most]


def confirm(
    context: StudyContext,
    folders: Sequence[RunFolder],
    *,
    seeds: int = 3,
    most: int = 3,
    monitor: Monitor | None = None,
    checkpoint_s: float = EVERY_S,
    placement: Placement = HERE,
    checkpoints: str | None = None,
) -> list[TrialRecord]:
    """Confirms the front and the uniform plan of each run, and the dense references once; returns the new records.

    What the folders already hold is not done again, so that a killed confirmation continues with the same call, an
    interrupted training from its checkpoint. Each network is saved with its plan under ``confirmed/``.

    Args:
        checkpoint_s: seconds between checkpoints of a training; 0 writes one after every step.
        placement: where the trainings run: here, or on a cluster.
        checkpoints: path or address of a folder for checkpoints that all nodes of a cluster see.

    Raises:
        OutOfStep: one of several processes that train together failed alone.
        RuntimeError: another command works on a folder, or trainings were lost with their nodes.
        ValueError: a run is named twice, has no complete trial, is of another task, started from other weights, data or
            network code, or its batch is larger than the data.
    """
    monitor = monitor or Monitor()
    if twice := [folder for index, folder in enumerate(folders) if _same(folder) in map(_same, folders[:index])]:
        raise ValueError(f"the run folder {str(twice[0].path)!r} is named twice; name each run once")
    for folder in folders:
        _require_same_context(context, folder)
        for message in told(folder.records()[1]):
            monitor.say(message)
    placement.require(context)
    evaluator = ConfirmationEvaluator(context=context)
    with ExitStack() as held:
        for folder in folders:  # all for the whole time: another command in one of them would end this one half-way
            held.enter_context(folder.locked())
        kept = [_checkpoints(folder, checkpoints, placement, checkpoint_s) for folder in folders]
        requests = list(_requests(context, folders, kept, seeds, most))
        with placement.executor(evaluator, monitor) as executor:
            return _run(requests, folders, executor, monitor)


def _run(
    requests: Sequence[ConfirmationRequest],
    folders: Sequence[RunFolder],
    executor: Executor[ConfirmationRequest, Confirmation],
    monitor: Monitor,
) -> list[TrialRecord]:
    """Hands the trainings out, and writes what they give.

    Raises:
        RuntimeError: some were lost; all others are done.
    """
    new, lost = list[TrialRecord](), list[str]()
    with monitor.bar("confirmations") as step:
        for request, result in results(requests, executor, step):
            if result.row is None:
                lost.append(f"{request.title}: {result.lost}")
                monitor.say(f"{lost[-1]}; it is not confirmed")
                continue
            folder = folders[request.folder]
            for name, content in result.files.items():
                write_whole(folder.path / "confirmed" / request.name / name, content)
            folder.append(result.row)
            request.forget_checkpoints()
            folder.forget_checkpoints(request.name)
            _tell(folder, request, result.row, monitor)
            new.append(result.row)
    if lost:
        raise RuntimeError(f"{counted(len(lost), 'training')} gave nothing, {lost[-1]}; the same command tries again")
    return new


def _requests(
    context: StudyContext, folders: Sequence[RunFolder], kept: Sequence[RunCheckpoints | None], seeds: int, most: int
) -> Iterator[ConfirmationRequest]:
    """The trainings that the folders lack, seed by seed."""
    planned = set()
    for seed in range(seeds):
        for index, folder in enumerate(folders):
            for candidate in _candidates(context, folder, most, references=index == 0):
                searched = folders if candidate.plan == EMPTY else [folder]
                key = (
                    None if candidate.plan == EMPTY else index,
                    candidate.variant,
                    candidate.plan,
                    None if candidate.variant == "dense" else seed,
                )
                if key not in planned and not any(_is_done(run, candidate, seed) for run in searched):
                    planned.add(key)
                    yield ConfirmationRequest(
                        folder=index,
                        study=folder.name,
                        spec=_spec(folder),
                        candidate=candidate,
                        seed=seed,
                        checkpoints=kept[index],
                    )


def _checkpoints(folder: RunFolder, address: str | None, placement: Placement, every_s: float) -> RunCheckpoints | None:
    """Where the trainings of a run keep their state; None where no folder is seen by all."""
    if address is not None:
        return shared_checkpoints(address, folder.name, every_s)
    return None if placement.cluster else RunCheckpoints(folder=folder.checkpoints, every_s=every_s)


def _same(folder: RunFolder) -> Path:
    return folder.path.resolve()


def _spec(folder: RunFolder) -> StudySpec:
    spec = folder.read_spec()
    if spec is None:
        raise ValueError(
            f"the run folder {str(folder.path)!r} holds no study; search first, by `sconv-search"
            " search` or Study.search"
        )
    return spec


def _require_same_context(context: StudyContext, folder: RunFolder) -> None:
    spec = _spec(folder)
    wanted = {"task": context.task.name, "weights_sha256": context.weights_sha256, "data_sha256": context.data_sha256}
    for name, value in wanted.items():
        if getattr(spec, name) != value:
            raise ValueError(
                f"the run in {str(folder.path)!r} has {name} {getattr(spec, name)!r}, the confirmation {value!r}; "
                "give the same --task, --weights and --data as to its search"
            )
    if changed := changed_parts(spec.made_of, context.made_of):
        raise ValueError(
            f"the run in {str(folder.path)!r} was searched with other functions or data: {'; '.join(changed)}; give"
            " those of its search"
        )
    require_start(
        folder.read_space(), context.identity, folder.path, "give the code and the data of its search, or search anew"
    )
    if context.train is train_:
        require_batches(context.data, {"confirmation": spec.confirm_schedule})
    if not front(folder.records()[0], 1):
        raise ValueError(
            f"the run in {str(folder.path)!r} has no complete trial to confirm; search first, by `sconv-search search`"
            " or Study.search"
        )


def _candidates(context: StudyContext, folder: RunFolder, most: int, *, references: bool) -> list[Candidate]:
    """Plans to confirm, the same for every seed; the dense references in the first folder alone."""
    best = front(folder.records()[0], most)
    space, spec = folder.read_space(), _spec(folder)
    candidates = (
        [Candidate(variant="dense", plan=EMPTY), Candidate(variant="dense_finetuned", plan=EMPTY)] if references else []
    )
    for r in best:
        plan = CompressionPlan.from_json(r.plan or "")
        candidates.append(
            Candidate(
                variant="searched",
                plan=plan,
                regularization=r.regularization,
                regularized_share=r.regularized_share or spec.regularized_share,
                number=r.number,
            )
        )
    if space is not None:
        budgets = Budgets.parse(spec.budget, dense=space.dense, quantity=spec.quantity)
        budget_shares = {"-low": 0.0, "-middle": 0.5, "-high": 1.0} if budgets.ranged else {"": 1.0}
        for name, share in budget_shares.items():
            plan, weight = uniform(space, budgets.at(share)), best[0].regularization
            before = best[0].regularized_share or spec.regularized_share
            candidates.append(
                Candidate(variant="uniform", plan=plan, regularization=weight, regularized_share=before, suffix=name)
            )
    return candidates


def _is_done(folder: RunFolder, candidate: Candidate, seed: int) -> bool:
    """Whether the folder has this row; the dense network is not trained, so one row serves all seeds."""
    text = candidate.plan.to_json()
    rows = [
        r for r in folder.records()[0] if r.stage == "confirm" and r.variant == candidate.variant and r.plan == text
    ]
    return any(r.seed == seed or candidate.variant == "dense" for r in rows)


def _tell(folder: RunFolder, request: ConfirmationRequest, row: TrialRecord, monitor: Monitor) -> None:
    monitor.recorded(row)
    score = (
        f"test {row.metric} {row.score_metric.text(row.test_score)}"
        if row.test_score is not None
        else f"failed, {row.reason}"
    )
    monitor.say(f"{folder.name} {request.candidate.label}, seed {request.seed}: {score}")
