"""What compressed networks learn, by the options of a search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sconv_search.studies import Task
from sconv_search.studies.api import context_from_network
from sconv_search.system.weights import save_weights
from tests.studies.conftest import Typed

LABELS, LOGITS = (0.0, "soft_targets"), (1.0, "logits")


@pytest.fixture
def weights(tmp_path: Path, task: Task) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "dense.safetensors"
    save_weights(task.network(), path)
    return path


@pytest.mark.parametrize(
    ("flags", "trained", "wanted"),
    [
        ((), False, LABELS),
        ((), True, LOGITS),
        (("--distillation", "0.5"), False, (0.5, "logits")),
        (("--distill", "logits"), False, LOGITS),
        (("--distill", "labels"), True, LABELS),
        (("--distill", "soft-targets"), True, (0.9, "soft_targets")),
        (("--distill", "soft-targets", "--distillation", "0.3"), True, (0.3, "soft_targets")),
    ],
)
def test_trials_and_confirmations_learn_what_is_chosen(
    typed: Callable[..., Typed], weights: Path, flags: tuple[str, ...], trained: bool, wanted: tuple[float, str]
) -> None:
    given = ("--weights", weights) if trained else ()
    said = typed("search", "--task", "corners", "--method", "weight_svd", "--dry-run", "--json", *given, *flags)
    assert said.status == 0, said
    preview: dict[str, Any] = json.loads(said.out)
    for name in ("search_schedule", "confirm_schedule"):
        schedule = preview[name]
        assert (schedule["distillation"], schedule["teacher_loss"]) == wanted


def test_a_dry_run_says_what_is_learned(typed: Callable[..., Typed], weights: Path) -> None:
    said = typed("search", "--task", "corners", "--method", "weight_svd", "--dry-run", "--weights", weights)
    assert "learning the dense network's logits" in said.out + said.err


def test_labels_alone_with_a_weight_of_the_dense_network_are_refused(typed: Callable[..., Typed]) -> None:
    said = typed("search", "--task", "corners", "--dry-run", "--distill", "labels", "--distillation", "0.5")
    assert said.status == 2
    assert "leave out --distillation 0.5" in said.err


def test_a_network_given_in_python_is_learned_from_unless_training_is_the_users_own(task: Task) -> None:
    data = task.data(None, False)
    ours, own = (
        context_from_network(task.network(), data, **options).task for options in ({}, {"train": lambda *a, **b: None})
    )
    assert [one.distillation for one in (ours.search_schedule, ours.confirm_schedule)] == [1.0, 1.0]
    assert [one.distillation for one in (own.search_schedule, own.confirm_schedule)] == [0.0, 0.0]
