from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

import sconv_search.studies.search.runner
import sconv_search.studies.space.latencies
import sconv_search.studies.space.measuring
import sconv_search.studies.space.widths
import sconv_search.studies.trials.trial
from sconv_search import Choice, CompressionPlan, TrialRecord, measure_cost
from sconv_search.studies import RunFolder, StudyContext, StudySpec, compress
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.search.runner import search
from sconv_search.training.loop import TrainingDiverged


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def searched(records: list[TrialRecord]) -> list[tuple[str | None, float | None, float | None]]:
    return [(r.plan, r.regularization, r.val_score) for r in records]


def test_a_search_trains_as_many_plans_as_asked_and_all_fit_the_budget(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    records = search(context, replace(spec, exclude=("6",)), folder, notes)
    assert [r.status for r in records] == ["complete"] * 3
    dense = measure_cost(context.network, (2, 12, 12)).flops
    for r in records:
        built = compress(context.network, CompressionPlan.from_json(r.plan or ""))
        assert measure_cost(built, (2, 12, 12)).flops == r.flops <= dense // 2
        assert r.test_score is None
    assert folder.records() == (records, [])
    assert any("reachable" in line for line in notes.lines)
    assert any("skipped 6: excluded by '6'" in line for line in notes.lines)


def test_what_can_be_reached_and_all_sites_are_said_before_the_first_training(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    told = Monitor()
    monkeypatch.setattr(told, "say", said.append)
    monkeypatch.setattr(told, "recorded", lambda record: said.append("a record"))
    search(context, replace(spec, exclude=("6",), trials=1), folder, told)
    space = folder.read_space()
    assert space is not None
    before = said[: said.index("a record")]
    begins = (
        "dense network: ",
        "reachable: ",
        "budget: ",
        "search space: ",
        "sites, each",
        "skipped 6: excluded by '6'",
    )
    places = [next(place for place, line in enumerate(before) if line.startswith(words)) for words in begins]
    assert places == sorted(places)
    assert f"{space.plans:.2g} plans" in before[places[3]]
    for name, options in space.sites.items():
        assert f"{name} ({len(options)})" in before[places[4]]


@pytest.mark.parametrize("method", ["structured_conv", "spatial_svd"])
def test_each_plan_is_trained_once(context: StudyContext, spec: StudySpec, folder: RunFolder, method: str) -> None:
    records = search(context, replace(spec, trials=6, methods=(method,)), folder)
    assert len({(r.plan, r.regularization) for r in records}) == len(records)


def test_a_study_whose_space_is_exhausted_ends(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    """Above 90 % of dense few plans of one method without a penalty are left; far fewer than 50."""
    records = search(context, replace(spec, trials=50, methods=("spatial_svd",), budget="95%"), folder, notes)
    assert 1 <= len(records) < 50
    assert any("the space seems exhausted" in line for line in notes.lines)


def test_the_predicted_cost_is_the_measured_one(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    records = search(context, spec, folder)
    space = folder.read_space()
    assert space is not None
    for r in records:
        predicted = space.cost(CompressionPlan.from_json(r.plan or ""))
        assert (predicted.macs, predicted.adds, predicted.params) == (r.macs, r.adds, r.params)


def test_a_study_that_is_complete_does_nothing_more(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    first = search(context, spec, folder)
    assert search(context, spec, folder) == first


def test_a_study_can_be_continued_with_more_trials(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    first = search(context, replace(spec, trials=2), folder)
    assert search(context, replace(spec, trials=4), folder)[:2] == first
    assert len(folder.records()[0]) == 4


@pytest.mark.parametrize("moment", ["run_trial", "append", "tell"])
def test_a_killed_run_continues_without_loss_or_repetition(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Killed in training, before the record is written, or between the record and Optuna; in the second trial."""
    places = {
        "run_trial": sconv_search.studies.trials.trial,
        "append": RunFolder,
        "tell": sconv_search.studies.search.runner.Sampler,
    }
    original, calls = getattr(places[moment], moment), []

    def dies_in_the_second_trial(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        return original(*args, **options)

    monkeypatch.setattr(places[moment], moment, dies_in_the_second_trial)
    with pytest.raises(Killed):
        search(context, spec, folder)
    monkeypatch.undo()
    before = folder.records()[0]
    assert len(before) == (2 if moment == "tell" else 1)
    records = search(context, spec, folder)
    assert searched(records)[: len(before)] == searched(before)
    assert len(records) == 3
    whole = search(context, spec, RunFolder(folder.path.parent / "uninterrupted"))
    assert [r.number for r in records] == [r.number for r in whole]
    assert searched(records) == searched(whole)


def test_a_record_torn_by_a_kill_is_dropped_and_its_trial_runs_again(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tear(self: RunFolder, record: TrialRecord) -> None:
        with open(self.trials, "a") as file:
            file.write(record.to_json()[:40])
        raise Killed

    search(context, replace(spec, trials=1), folder)
    monkeypatch.setattr(RunFolder, "append", tear)
    with pytest.raises(Killed):
        search(context, replace(spec, trials=2), folder)
    monkeypatch.undo()
    records = search(context, replace(spec, trials=2), folder, notes)
    assert len(records) == 2
    assert any("incomplete last line of 40 bytes was dropped" in line for line in notes.lines)
    assert folder.records() == (records, [])


def test_a_damaged_line_is_named_and_the_rest_is_kept(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes
) -> None:
    first = search(context, replace(spec, trials=2), folder)
    lines = folder.trials.read_text().splitlines()
    folder.trials.write_text("\n".join([lines[0][:30], lines[1]]) + "\n")
    assert search(context, replace(spec, trials=2), folder, notes) == first[1:]
    assert any("trials.jsonl line 1 is not read: not JSON" in line for line in notes.lines)


def test_a_diverged_trial_leaves_its_reason_and_three_stop_the_study(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*args, **options):
        raise TrainingDiverged("the loss is nan at step 4 of 8")

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", diverges)
    advice = r"3 trials in a row gave no result, the last because: the loss is nan.*; a lower --learning-rate"
    with pytest.raises(RuntimeError, match=advice):
        search(context, spec, folder)
    assert [(r.status, r.reason, r.val_score) for r in folder.records()[0]] == [
        ("failed", "the loss is nan at step 4 of 8", None)
    ] * 3


def test_a_network_that_measures_otherwise_than_predicted_is_not_trained(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sconv_search.studies.trials.trial.measure_cost
    dense = real(context.network, (2, 12, 12))
    monkeypatch.setattr(sconv_search.studies.trials.trial, "measure_cost", lambda network, shape: dense)
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", lambda *args, **options: pytest.fail("trained"))
    with pytest.raises(RuntimeError, match="no result"):
        search(context, spec, folder)
    assert {r.status for r in folder.records()[0]} == {"failed"}
    assert re.match(
        r"the table of costs predicted Cost\(macs=\d+.*built network measures", folder.records()[0][0].reason or ""
    )


def test_a_plan_slower_than_its_latency_budget_is_not_trained(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says that plans of 95 % exist; the built networks then take twice the dense network's time."""
    monkeypatch.setattr(sconv_search.studies.space.measuring, "whole_ms", lambda networks, shape, batch: [1.0])
    monkeypatch.setattr(
        sconv_search.studies.space.latencies,
        "layer_times_ms",
        lambda dense, layers, *_, **__: (1.0, [0.8] * len(layers)),
    )
    monkeypatch.setattr(
        sconv_search.studies.trials.rows, "measure_ready_latencies_ms", lambda *args, **options: [[6.0] * 3, [3.0] * 3]
    )  # on a host that has become three times as slow
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", lambda *args, **options: pytest.fail("trained"))
    with pytest.raises(
        RuntimeError, match=r"measured 2\.00 ms against a budget of 0\.95 ms; the budget is hardly above"
    ):
        search(context, replace(spec, budget="latency_ms=95%,flops=70%"), folder)
    records = folder.records()[0]
    assert [(r.status, r.latency_ms, r.dense_latency_ms) for r in records] == [("over_budget", 2.0, 1.0)] * 3


def test_a_budget_that_cannot_be_met_is_refused_with_the_floor(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    with pytest.raises(ValueError, match=r"cannot be met: the cheapest plan needs [\d,]+ flops \(\d+\.\d%\)"):
        search(context, replace(spec, budget="1%"), folder)
    assert folder.records() == ([], [])


@pytest.mark.parametrize("budget", ["0", "0%", "200%", "fifty", "-5%", ""])
def test_a_senseless_budget_is_refused_before_anything_is_made(
    context: StudyContext, spec: StudySpec, folder: RunFolder, budget: str
) -> None:
    with pytest.raises(ValueError, match="budget"):
        search(context, replace(spec, budget=budget), folder)
    assert not folder.path.exists()


def test_a_folder_of_another_study_is_refused(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(context, replace(spec, trials=1), folder)
    with pytest.raises(ValueError, match=r"holds another study: budget was '50%', is '40%'; seed was 0, is 3"):
        search(context, replace(spec, budget="40%", seed=3), folder)


def test_a_corrected_command_takes_over_a_folder_in_which_nothing_was_trained(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    with pytest.raises(ValueError, match="cannot be met"):
        search(context, replace(spec, budget="1%"), folder)
    measured = (folder.path / "space.json").stat().st_mtime_ns
    assert len(search(context, replace(spec, trials=1), folder)) == 1
    assert (folder.path / "space.json").stat().st_mtime_ns == measured, "the same methods' space is not measured again"


def test_another_methods_space_is_measured_anew(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="cannot be met"):
        search(context, replace(spec, budget="1%"), folder)
    (found,) = search(context, replace(spec, methods=("spatial_svd",), trials=1), folder)
    assert found.methods == "spatial_svd"


def test_a_damaged_spec_is_named(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(context, replace(spec, trials=1), folder)
    (folder.path / "spec.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match=r"spec\.json: not a study spec: its 'format' must be"):
        search(context, spec, folder)


def test_two_commands_on_one_folder_are_refused(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    with folder.locked(), pytest.raises(RuntimeError, match="another command is working on the run folder"):
        search(context, spec, folder)


def test_a_folder_that_cannot_be_written_is_named(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    folder.path.parent.joinpath("file").write_text("")
    with pytest.raises(OSError, match=r"run folder '.*file/run' cannot be written: .*; name another with --out"):
        search(context, spec, RunFolder(folder.path.parent / "file" / "run"))


def test_a_mixed_study_offers_every_method_at_a_site(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    search(context, replace(spec, methods=("structured_conv", "spatial_svd"), trials=1), folder)
    space = folder.read_space()
    assert space is not None
    assert {option.choice.method for option in space.sites["3"]} == {"structured_conv", "spatial_svd"}


def test_pruned_neighbors_are_measured_and_every_trial_fits(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    """Two coupled choices save less than their sum; the plan is tightened until the built network fits."""
    records = search(context, replace(spec, methods=("channel_pruning",), trials=2, budget="40%"), folder)
    dense = measure_cost(context.network, (2, 12, 12)).flops
    assert {r.status for r in records} == {"complete"}
    assert all(r.flops is not None and r.flops <= 0.4 * dense for r in records)


MIXED = ("structured_conv", "channel_pruning")


@pytest.mark.usefixtures("untrained")
def test_a_search_mixes_pruning_with_other_methods(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    """Some layers are pruned by their neighbors and compressed on what is left; every cost is the predicted one."""
    records = search(context, replace(spec, methods=MIXED, trials=12, budget="40%", exclude=("8",)), folder)
    dense = measure_cost(context.network, (2, 12, 12)).flops
    assert [r.status for r in records] == ["complete"] * 12
    assert all(r.flops is not None and r.flops <= 0.4 * dense for r in records)
    assert max(r.flops or 0 for r in records) > 0.38 * dense
    assert {r.methods for r in records} >= {"channel_pruning,structured_conv"}


@pytest.mark.usefixtures("untrained")
def test_a_killed_mixed_search_continues_with_the_same_trials(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed, run_trial, begun = (
        replace(spec, methods=MIXED, budget="40%", exclude=("8",), trials=9),
        sconv_search.studies.trials.trial.run_trial,
        [],
    )

    def dies_in_the_sixth_trial(*args, **options):
        begun.append(len(begun))
        if len(begun) == 6:
            raise Killed
        return run_trial(*args, **options)

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", dies_in_the_sixth_trial)
    with pytest.raises(Killed):
        search(context, mixed, folder)
    continued = search(context, mixed, folder)
    whole = search(context, mixed, RunFolder(folder.path.parent / "uninterrupted"))
    assert len(continued) == 9
    assert searched(continued) == searched(whole)


@pytest.mark.usefixtures("untrained")
def test_layers_whose_costs_beside_pruning_are_not_known_are_named(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sconv_search.studies.space.widths, "MOST_PAIRS", 1)
    search(context, replace(spec, methods=MIXED, trials=1, include=("0", "3")), folder, notes)
    space = folder.read_space()
    assert space is not None
    assert {option.choice.method for option in space.sites["3"]} == {"channel_pruning"}
    wanted = (
        "skipped 3: structured_conv: not together with channel pruning, as 1 sites prune what it reads, in more than 1 "
    )
    assert any(line.startswith(wanted) for line in notes.lines)


@pytest.mark.usefixtures("untrained")
def test_a_given_plan_of_such_a_layer_is_refused(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sconv_search.studies.space.widths, "MOST_PAIRS", 1)
    plan = CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 4, "n": 3})})
    with pytest.raises(
        ValueError, match=r"structured_conv\(c=4, n=3\) at '3', whose cost beside pruned channels is not known"
    ):
        search(context, replace(spec, methods=MIXED, plans=(plan.to_json(),), include=("0", "3")), folder)


def test_times_are_measured_where_a_site_prunes_or_is_replaced(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the parameters that run: each layer that a pruned network makes narrower beside its own, as a replaced one
    is.
    """

    def sizes(networks):
        return [float(sum(w.numel() for w in one.parameters())) for one in networks]

    monkeypatch.setattr(
        sconv_search.studies.space.measuring, "whole_ms", lambda networks, shape, batch: sizes(networks)
    )
    monkeypatch.setattr(
        sconv_search.studies.space.latencies,
        "narrowed_times_ms",
        lambda dense, layers, inputs: (sizes([dense])[0], sizes(layers)),
    )
    monkeypatch.setattr(
        sconv_search.studies.space.latencies,
        "layer_times_ms",
        lambda dense, layers, inputs, sortable: (sizes([dense])[0], sizes(layers)),
    )
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", lambda *args, **options: pytest.fail("trained"))
    with pytest.raises(ValueError, match="cannot be met"):
        search(context, replace(spec, methods=MIXED, budget="latency_ms=1%", include=("0", "3")), folder)
    space = folder.read_space()
    assert space is not None
    options = space.sites["3"]
    assert {option.choice.method for option in options} == set(MIXED)
    for option in options:
        norm = 2 * option.dropped  # which is folded into a layer
        assert option.cost.latency_ms == option.cost.params + norm
