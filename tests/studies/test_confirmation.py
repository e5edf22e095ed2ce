from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sconv_search import CompressionPlan, TrialRecord, measure_cost
from sconv_search.studies import RunFolder, StudyContext, StudySpec, confirm, rebuild
from sconv_search.studies.confirmation import front
from sconv_search.studies.executors import placement
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.export import require_network
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.confirming import Confirmation, ConfirmationEvaluator, ConfirmationRequest
from sconv_search.training.evaluation import evaluate


@pytest.fixture
def runs(
    context: StudyContext, spec: StudySpec, folder: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> list[RunFolder]:
    """One complete search for each of two methods; a copy of what was searched once."""
    if not _SEARCHED:
        searched = tmp_path_factory.mktemp("searched")
        search(context, replace(spec, trials=2), RunFolder(searched / "run"))
        search(context, replace(spec, trials=1, methods=("spatial_svd",)), RunFolder(searched / "other"))
        _SEARCHED.append(searched)
    folders = [folder.path, folder.path.parent / "other"]
    for own in folders:
        shutil.copytree(_SEARCHED[0] / own.name, own)
    return [RunFolder(own) for own in folders]


_SEARCHED: list[Path] = []


def rows(folder: RunFolder) -> list[tuple[str, int | None]]:
    return [(r.variant, r.seed) for r in folder.records()[0] if r.stage == "confirm"]


def test_every_variant_is_trained_with_every_seed_and_the_references_once(
    context: StudyContext, runs: list[RunFolder]
) -> None:
    confirm(context, runs, seeds=2, most=1)
    assert rows(runs[0]) == [
        *(("dense", 0), ("dense_finetuned", 0), ("searched", 0), ("uniform", 0)),
        *(("dense_finetuned", 1), ("searched", 1), ("uniform", 1)),
    ]
    assert rows(runs[1]) == [("searched", 0), ("uniform", 0), ("searched", 1), ("uniform", 1)]
    for r in runs[0].records()[0]:
        assert (r.test_score is not None) == (r.stage == "confirm")


def test_what_follows_a_search_is_refused_with_other_code_than_it_had(
    context: StudyContext, runs: list[RunFolder]
) -> None:
    def other() -> torch.nn.Module:
        network = context.task.network()
        network[2] = torch.nn.Tanh()  # type: ignore[index]  # weights of the same names and shapes
        return network

    with pytest.raises(ValueError, match=f"the run in '{runs[0].path}' was searched with another network; give"):
        confirm(replace(context, network=other().eval(), network_sha256=""), runs, seeds=1, most=1)
    require_network(runs[0], context.task)
    with pytest.raises(ValueError, match="was searched with another network; give the code that was searched"):
        require_network(runs[0], replace(context.task, network=other))
    require_network(runs[0], replace(context.task, network=other, trained_network=context.task.network))


def test_a_confirmation_reads_the_test_set_once_for_each_network(context: StudyContext, runs: list[RunFolder]) -> None:
    read = []

    def score(network, data, split):
        read.append(split is data.test)
        return evaluate(network, data, split)

    new = confirm(replace(context, score=score), runs, seeds=1, most=1)
    assert sum(read) == len(new)


def test_a_confirmation_that_is_complete_does_nothing_more(context: StudyContext, runs: list[RunFolder]) -> None:
    confirm(context, runs, seeds=1, most=1)
    assert confirm(context, runs, seeds=1, most=1) == []
    assert confirm(context, runs[::-1], seeds=1, most=1) == []
    assert {r.seed for r in confirm(context, runs, seeds=2, most=1)} == {1}


class Losing:
    """In place of several processes: runs trainings here, and loses those of one seed."""

    slots = 2

    def __init__(self, evaluator: ConfirmationEvaluator, lost_seed: int | None) -> None:
        self._evaluator, self._lost_seed, self._jobs = evaluator, lost_seed, []

    def submit(self, job: ConfirmationRequest) -> None:
        self._jobs.append(job)

    def result(self) -> tuple[ConfirmationRequest, Confirmation]:
        job = self._jobs.pop()
        if job.seed == self._lost_seed:
            return job, self._evaluator.failure(job, "its node died, 2 times")
        return job, self._evaluator.evaluate(job, Monitor())

    def close(self) -> None:
        """Nothing was started."""


def test_trainings_that_are_lost_leave_no_record_and_come_again(
    context: StudyContext, runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = Placement(workers=2)
    monkeypatch.setattr(placement, "Processes", lambda evaluator, count, monitor: Losing(evaluator, 1))
    with pytest.raises(
        RuntimeError, match=r"3 trainings gave nothing, run .*, seed 1: its node died, 2 times; the same"
    ):
        confirm(context, runs[:1], seeds=2, most=1, placement=several)
    assert sorted(rows(runs[0])) == [("dense", 0), ("dense_finetuned", 0), ("searched", 0), ("uniform", 0)]
    monkeypatch.setattr(placement, "Processes", lambda evaluator, count, monitor: Losing(evaluator, None))
    new = confirm(context, runs[:1], seeds=2, most=1, placement=several)
    assert sorted((r.variant, r.seed) for r in new) == [("dense_finetuned", 1), ("searched", 1), ("uniform", 1)]
    assert len(list((runs[0].path / "confirmed").iterdir())) == 7


def test_a_confirmed_network_is_rebuilt_from_its_files(context: StudyContext, runs: list[RunFolder]) -> None:
    new = confirm(context, runs[:1], seeds=1, most=1)
    searched = next(r for r in new if r.variant == "searched")
    place = next(path for path in (runs[0].path / "confirmed").iterdir() if path.name.startswith("searched"))
    network = rebuild(context.task.network(), place)
    assert CompressionPlan.from_json((place / "plan.json").read_text()) == CompressionPlan.from_json(
        searched.plan or ""
    )
    assert evaluate(network, context.data, context.data.test).value == searched.test_score
    assert measure_cost(network, context.task.input_shape).flops == searched.flops


def test_a_plan_for_another_network_is_refused(context: StudyContext, runs: list[RunFolder]) -> None:
    confirm(context, runs[:1], seeds=1, most=1)
    place = next(path for path in (runs[0].path / "confirmed").iterdir() if path.name.startswith("searched"))
    with pytest.raises(KeyError, match=r"plan names site '\d', which Linear lacks"):
        rebuild(torch.nn.Linear(3, 4), place)


def test_seeds_differ_and_dense_finetuned_has_the_same_epochs(context: StudyContext, runs: list[RunFolder]) -> None:
    new = confirm(context, runs, seeds=2, most=1)
    networks = [path / "weights.safetensors" for path in (runs[0].path / "confirmed").glob("searched-*")]
    assert len({path.read_bytes() for path in networks}) == 2
    assert {r.epochs for r in new if r.variant != "dense"} == {context.task.confirm_schedule.epochs}


def test_start_weights_of_another_study_are_refused(context: StudyContext, runs: list[RunFolder]) -> None:
    with pytest.raises(ValueError, match=r"has weights_sha256 '\w+', the confirmation 'other'; give the same --task"):
        confirm(replace(context, weights_sha256="other"), runs)


def test_a_run_without_a_complete_trial_is_refused(context: StudyContext, folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="holds no study; search first"):
        confirm(context, [folder])


def trial(number: int, flops: int, top1: float | None, status="complete") -> TrialRecord:
    return TrialRecord(
        study="s",
        task="t",
        stage="search",
        variant="searched",
        status=status,
        number=number,
        flops=flops,
        val_score=top1,
    )


def test_the_front_leaves_out_what_is_dearer_and_worse() -> None:
    records = [
        trial(0, 50, 80.0),
        trial(1, 40, 85.0),
        trial(2, 60, 90.0),
        trial(3, 30, None, "failed"),
        trial(4, 60, 70.0),
    ]
    assert [r.number for r in front(records, 3)] == [2, 1]
    assert [r.number for r in front(records, 1)] == [2]
