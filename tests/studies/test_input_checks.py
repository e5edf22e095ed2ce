"""Input that no trial could be trained with: each fault has its own words, before the space is measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sconv_search.studies.search.runner
from sconv_search.data.splits import DataSet, Split
from sconv_search.studies import RunFolder, StoppingCriterion, StudyContext, StudySpec, context_from_network
from sconv_search.studies.search.runner import search
from sconv_search.training.schedule import Schedule

Change = Callable[[StudyContext], dict[str, Any]]


def small(context: StudyContext, count: int, name: str = "train") -> DataSet:
    return replace(context.data, **{name: context.data.train.take(torch.arange(count))})


def labeled(context: StudyContext, name: str, labels: Tensor) -> DataSet:
    split: Any = getattr(context.data, name)
    return replace(context.data, **{name: Split(images=split.images, labels=labels)})


def labels_of(context: StudyContext, name: str) -> Tensor:
    split: Any = getattr(context.data, name)
    return split.labels.clone()


def with_a_hole(network: nn.Module, value: float, name: str) -> nn.Module:
    changed = copy.deepcopy(network)
    with torch.no_grad():
        tensor = changed.state_dict()[name]
        tensor[(0,) * tensor.dim()] = value
    return changed


class Tupled(nn.Module):
    """Gives auxiliary outputs in training, as GoogLeNet does."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        logits = self.body(x)
        return (logits, logits) if self.training else logits


class FailsInTraining(Tupled):
    def forward(self, x: Tensor) -> Any:
        if self.training:
            raise KeyError("aux")
        return self.body(x)


WRONG: dict[str, tuple[Change, str]] = {
    "labels beyond the logits in validation": (
        lambda s: {"data": labeled(s, "validation", labels_of(s, "validation").fill_(4))},
        r"\(1, 4\) for one input, which is 4 classes, but the validation labels go up to 4",
    ),
    "labels beyond the logits in test": (
        lambda s: {"data": labeled(s, "test", labels_of(s, "test").fill_(9))},
        "the test labels go up to 9: logits of shape",
    ),
    "an empty split": (lambda s: {"data": small(s, 0, "test")}, "the test split of task 'mine' holds no image"),
    "no label that counts": (
        lambda s: {"data": labeled(s, "validation", labels_of(s, "validation").fill_(-1))},
        "the validation split of task 'mine' has no label that counts: all 100 are below 0",
    ),
    "images of another shape in one split": (
        lambda s: {
            "data": replace(
                s.data, test=Split(images=torch.zeros(3, 2, 8, 8, dtype=torch.uint8), labels=torch.arange(3))
            )
        },
        r"input_shape \(2, 12, 12\), its images are \(2, 8, 8\) in the test split",
    ),
    "a mean for other channels": (
        lambda s: {"data": replace(s.data, mean=(0.5, 0.5, 0.5))},
        "DataSet.mean of 'corners' has 3 numbers for images of 2 channels",
    ),
    "class weights for other classes": (
        lambda s: {"data": replace(s.data, class_weights=(1.0, 2.0))},
        "DataSet.class_weights of 'corners' has 2 numbers; Sequential tells 4 classes apart",
    ),
    "bf16": (
        lambda s: {"network": copy.deepcopy(s.network).bfloat16()},
        r"Sequential has weights in torch.bfloat16 \(0.weight\).*network.float\(\)",
    ),
    "float64": (lambda s: {"network": copy.deepcopy(s.network).double()}, "Sequential has weights in torch.float64"),
    "NaN": (
        lambda s: {"network": with_a_hole(s.network, float("nan"), "3.weight")},
        "Sequential has weights that are not finite: 3.weight is NaN in 1 of 576 places",
    ),
    "infinite": (
        lambda s: {"network": with_a_hole(s.network, float("inf"), "3.weight")},
        "3.weight is infinite in 1 of 576 places",
    ),
    "NaN in a buffer": (
        lambda s: {"network": with_a_hole(s.network, float("nan"), "1.running_mean")},
        "1.running_mean is NaN in 1 of 8 places",
    ),
    "without values": (lambda s: {"network": copy.deepcopy(s.network).to("meta")}, "has tensors without values"),
    "a batch larger than the data": (
        lambda s: {"data": small(s, 16)},
        "the batch_size 32 of the search is larger than the 16 training images of 'corners'",
    ),
    "a tuple in training": (
        lambda s: {"network": Tupled(s.network)},
        "Tupled in training mode gives a tuple where logits in one tensor are needed",
    ),
    "an error in training": (
        lambda s: {"network": FailsInTraining(s.network)},
        "FailsInTraining in training mode fails in a training step with 32 images: 'aux'",
    ),
    "no weight that can be trained": (
        lambda s: {"network": copy.deepcopy(s.network).requires_grad_(False)},
        "in training mode fails in a training step with 32 images: .*does not require grad",
    ),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_trained_with_is_refused_before_the_space_is_measured(
    context: StudyContext,
    spec: StudySpec,
    folder: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    words: str,
) -> None:
    def unexpected(*arguments: object, **options: object) -> None:
        raise AssertionError("the space is measured")

    monkeypatch.setattr(sconv_search.studies.search.runner, "measured_space", unexpected)
    given = {"network": context.network, "data": context.data, **change(context)}
    with pytest.raises(ValueError, match=words):
        search(context_from_network(**given), replace(spec, task="mine"), folder)
    assert not folder.path.exists(), "nothing is left behind"


def test_a_training_of_the_users_own_may_do_what_ours_cannot(
    context: StudyContext, spec: StudySpec, folder: RunFolder, untrained: None
) -> None:
    """It may have batches of its own, and know what to do with a tuple."""

    def train(network: nn.Module, *arguments: object, **options: object) -> None:
        pass

    begun = replace(context_from_network(Tupled(context.network), small(context, 16)), train=train)
    assert [r.status for r in search(begun, replace(spec, task="mine", trials=1), folder)] == ["complete"]


def test_the_training_step_leaves_network_and_random_numbers_as_they_were(context: StudyContext) -> None:
    network = nn.Sequential(nn.Dropout(), *copy.deepcopy(context.network))
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    sconv_search.studies.search.runner.require_training_step(network, context.data, Schedule(epochs=1, batch_size=32))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (torch.tensor([0, -1, 2, -7], dtype=torch.int32), [0, -100, 2, -100]),
        (torch.tensor([0, 255, 2, 1], dtype=torch.uint8), [0, 255, 2, 1]),
        (torch.tensor([3, -100, 2, 1]), [3, -100, 2, 1]),
    ],
)
def test_whole_numbers_are_labels_and_those_below_0_count_nowhere(labels: Tensor, kept: list[int]) -> None:
    split = Split(images=torch.zeros(4, 1, 2, 2, dtype=torch.uint8), labels=labels)
    assert split.labels.tolist() == kept
    assert split.labels.dtype == torch.int64
    assert split.classes == max(kept) + 1


@pytest.mark.parametrize("kind", [torch.float32, torch.bool, torch.complex64, torch.float16])
def test_labels_that_are_no_whole_numbers_are_refused_by_their_type(kind: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"labels must be whole numbers: classes, counted from 0, .* got {kind}"):
        Split(images=torch.zeros(4, 1, 2, 2, dtype=torch.uint8), labels=torch.zeros(4, dtype=kind))


@pytest.mark.parametrize(
    ("name", "value"), [("std", (0.0, 0.2)), ("mean", (float("nan"), 0.2)), ("class_weights", (1.0, -1.0, 1.0, 1.0))]
)
def test_numbers_that_no_data_has_are_refused(context: StudyContext, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"DataSet.{name} of 'corners' must be finite"):
        replace(context.data, **{name: value})


def test_splits_that_name_other_classes_are_refused(context: StudyContext) -> None:
    splits = {
        name: replace(context.data.train, class_names=names) for name, names in (("train", "abcd"), ("test", "abce"))
    }
    with pytest.raises(ValueError, match="other classes in train than in test: only train has 'd'; only test has 'e'"):
        replace(context.data, **splits)
    one, other = (replace(context.data.train, class_names=tuple(names)) for names in ("abcd", "abdc"))
    assert one.checksum() != other.checksum() != context.data.train.checksum()
    with pytest.raises(ValueError, match="the same in another order"):
        replace(context.data, train=one, test=other)


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        (Schedule, "epochs", 1e308, "Schedule.epochs must be at most 1e\\+06, got 1e\\+308"),
        (Schedule, "epochs", float("nan"), "Schedule.epochs must not be below 0, got nan"),
        (Schedule, "learning_rate", 1e300, "Schedule.learning_rate must be at most 1000"),
        (Schedule, "batch_size", 16.0, "Schedule.batch_size must be a whole number, got 16.0"),
        (StoppingCriterion, "seconds", float("nan"), "seconds must be positive, got nan"),
    ],
)
def test_absurd_numbers_are_refused(kind: type, field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**{**({"epochs": 1} if kind is Schedule else {}), field: value})


@pytest.mark.parametrize("seed", [10**19, -1])
def test_a_seed_that_no_generator_takes_is_refused(spec: StudySpec, seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed must be a whole number from 0 to {2**62}, got {seed}"):
        replace(spec, seed=seed)
    assert replace(spec, seed=2**62).seed == 2**62


def test_a_search_begins_with_the_greatest_seed(
    context: StudyContext, spec: StudySpec, folder: RunFolder, tmp_path: Path
) -> None:
    """All generators take it, and the one after it, which trainings take, too."""
    records = search(context, replace(spec, seed=2**62, trials=2), folder)
    assert [r.status for r in records] == ["complete"] * 2
