from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import sconv_search.studies.trials.trial
from sconv_search import Choice, CompressionPlan
from sconv_search.calibration.sequential_fit import FittedAlone
from sconv_search.studies import StudyContext, compress
from sconv_search.studies.context import calibration_inputs
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.trials.request import Outcome
from sconv_search.studies.trials.rows import outcome_fields
from sconv_search.studies.trials.trial import run_trial
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import evaluate
from sconv_search.training.schedule import Schedule

PLAN = CompressionPlan(
    sites={
        "0": Choice(method="structured_conv", structure={"c": 2, "n": 2}),
        "3": Choice(method="structured_conv", structure={"c": 5, "n": 2}),
        "8": Choice(method="structured_conv", structure={"c": 144}),
    }
)


def lived(
    context: StudyContext, regularization: float | None, plan: CompressionPlan = PLAN, epochs: float = 8
) -> Outcome:
    return run_trial(
        context,
        plan,
        Schedule(epochs=epochs, batch_size=32, learning_rate=0.05),
        seed=0,
        regularization=regularization,
        regularized_share=0.75,
        monitor=Monitor(),
        watch_compression=True,
    )


def test_regularized_training_leaves_little_for_compression_to_lose(context: StudyContext) -> None:
    """The paper's claim: once training has led to the structure, the network decomposes at nearly no loss."""
    direct, regularized = lived(context, None, epochs=1), lived(context, 2.0, epochs=24)
    assert direct.residual is not None
    assert regularized.residual is not None
    assert regularized.residual < 0.1 * direct.residual
    assert regularized.before is not None
    assert regularized.after is not None
    assert regularized.after.value >= regularized.before.value - 2
    assert regularized.final.value > 90


def test_the_start_network_is_not_modified(context: StudyContext) -> None:
    before = copy.deepcopy(context.network.state_dict())
    lived(context, 1.0, epochs=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in context.network.state_dict().items())


@pytest.mark.parametrize(("regularization", "expected"), [(None, [8.0]), (1.0, [6.0, 2.0])])
def test_all_phases_together_have_the_epochs_of_the_schedule(
    context: StudyContext, regularization: float | None, expected: list[float]
) -> None:
    phases: list[float] = []
    lived(replace(context, train=lambda *args, epochs, **options: phases.append(epochs)), regularization)
    assert phases == expected


def test_a_method_without_a_penalty_has_no_residual(context: StudyContext) -> None:
    plan = CompressionPlan(sites={"3": Choice(method="spatial_svd", structure={"rank": 2})})
    assert lived(context, None, plan, epochs=1).residual is None


def test_batch_norms_keep_their_variances_and_the_means_of_the_fit(context: StudyContext) -> None:
    context = replace(context, train=lambda *args, **options: None)
    found = lived(context, None).network
    expected = compress(context.network, PLAN, calibration_inputs(context))
    assert found[1].running_mean.equal(expected[1].running_mean)
    assert not torch.allclose(found[1].running_mean, context.network[1].running_mean)
    assert found[1].running_var.equal(context.network[1].running_var)


def test_batch_norms_are_reestimated_where_layers_were_fitted_by_themselves(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(*arguments: Any, **named: Any) -> nn.Module:
        warnings.warn("out of step", FittedAlone, stacklevel=1)
        return compress(*arguments, **named, in_sequence=False)

    monkeypatch.setattr(sconv_search.studies.trials.trial, "compress", alone)
    context = replace(context, train=lambda *args, **options: None)
    expected = compress(context.network, PLAN, calibration_inputs(context), in_sequence=False)
    reestimate_batch_norm_(expected, context.data, seed=0, reference=context.network)
    outcome = lived(context, None)
    torch.testing.assert_close(outcome.network[1].running_var, expected[1].running_var)
    assert outcome.notes == "out of step"


def test_the_method_is_fitted_to_training_images_and_told_what_the_training_started_from(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    context = replace(context, train=lambda *args, **options: None)
    monkeypatch.setattr(
        sconv_search.studies.trials.trial,
        "compress",
        lambda network, *rest, **named: (given.append((rest, named)), compress(network, *rest, **named))[1],
    )
    lived(context, 0.5)
    ((plan, inputs), named), *others = given
    assert not others
    assert plan == PLAN
    assert torch.equal(inputs, context.data.normalized(context.data.train.images[:256]))
    assert named["reference"] is context.network


def test_what_a_method_warns_of_while_compressing_is_noted(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warning(*args, **options):
        warnings.warn("site '0': CP fell back", RuntimeWarning)
        warnings.warn("not of ours", DeprecationWarning)
        return compress(*args, **options)

    context = replace(context, train=lambda *args, **options: None)
    assert lived(context, None).notes is None
    monkeypatch.setattr(sconv_search.studies.trials.trial, "compress", warning)
    outcome = lived(context, None)
    assert outcome.notes == "site '0': CP fell back"
    assert outcome_fields(outcome, 1)["notes"] == outcome.notes


def test_a_trial_scores_the_validation_split_alone(context: StudyContext) -> None:
    seen = []

    def score(network, data, split):
        seen.append(split)
        return evaluate(network, data, split)

    lived(replace(context, score=score), None, epochs=1)
    assert len(seen) == 3
    assert all(split is context.data.validation for split in seen)
