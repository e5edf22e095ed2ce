"""Blocks trained to the dense network's outputs, between compression and training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sconv_search.data.splits import DataSet
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.studies import StudySpec
from sconv_search.studies.context import StudyContext, reconstruction_inputs
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.trials.request import Outcome
from sconv_search.studies.trials.trial import run_trial

PLAN = CompressionPlan(sites={"3": Choice(method="weight_svd", structure={"rank": 2})})


def trial(context: StudyContext, reconstruction: int, epochs: float = 0, **options: Any) -> Outcome:
    schedule = replace(context.task.search_schedule, epochs=epochs)
    given: dict[str, Any] = {"seed": 0, "regularization": None, "regularized_share": 0.5, **options}
    return run_trial(context, PLAN, schedule, monitor=Monitor(), reconstruction=reconstruction, **given)


def distance(context: StudyContext, outcome: Outcome) -> float:
    x = context.data.normalized(context.data.validation.take(torch.arange(100)).images)
    with torch.no_grad():
        return float((outcome.network(x) - context.network(x)).square().mean())


def test_reconstruction_brings_the_outputs_nearer_before_any_training(context: StudyContext) -> None:
    plain, nearer = trial(context, 0), trial(context, 6400)
    assert distance(context, nearer) < 0.9 * distance(context, plain)


def test_training_begins_at_the_reconstructed_network(context: StudyContext) -> None:
    seen: list[torch.Tensor] = []

    def train(network: torch.nn.Module, *args: object, **options: object) -> None:
        seen.append(torch.cat([weight.detach().flatten() for weight in network.parameters()]))

    own = replace(context, train=train)
    for count in (640, 640, 0):
        trial(own, count, 1)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_what_trained_towards_the_structure_is_reconstructed_after_compression(context: StudyContext) -> None:
    own = replace(context, train=lambda *args, **options: None)
    plain, nearer = (trial(own, count, 1, regularization=0.1) for count in (0, 6400))
    assert distance(context, nearer) < distance(context, plain)


def test_images_are_as_many_as_memory_bears(context: StudyContext) -> None:
    assert len(reconstruction_inputs(context)) == 256  # all that there are
    data: DataSet = context.data
    repeated = data.train.take(torch.arange(256).repeat(10))
    assert len(reconstruction_inputs(replace(context, data=replace(data, train=repeated)))) == 2048


def test_a_study_records_the_images_and_refuses_fewer_than_none(spec: StudySpec) -> None:
    other = replace(spec, reconstruction=640)
    assert StudySpec.from_json(other.to_json()) == other
    assert other.differences(spec) == ["reconstruction was 0, is 640"]
    with pytest.raises(ValueError, match="reconstruction must be at least 0, got -1"):
        replace(spec, reconstruction=-1)
