from __future__ import annotations

import pytest
import torch
from torch import nn

from sconv_search.data.splits import DataSet, Split
from sconv_search.training.loss import computes_bf16, training_loss
from sconv_search.training.process_group import SINGLE_PROCESS
from sconv_search.training.schedule import Schedule


def test_bf16_is_for_devices_that_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for known, expected in (({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert computes_bf16(torch.device("cpu")) is expected


def loss_of(labels: torch.Tensor, images: torch.Tensor, network: nn.Module, **options: object) -> torch.Tensor:
    split = Split(images=images, labels=labels)
    data = DataSet(name="d", train=split, validation=split, test=split, mean=(0.5,), std=(0.25,), **options)  # type: ignore[arg-type]
    generator, schedule = torch.Generator().manual_seed(0), Schedule(epochs=1, precision="fp32", label_smoothing=0.1)
    return training_loss(network, data, split, schedule, None, generator, SINGLE_PROCESS)


@pytest.mark.parametrize("options", [{}, {"class_weights": (1.0, 2.0, 3.0)}], ids=["alike", "weighed"])
def test_labels_below_0_count_nowhere_in_the_loss(options: dict[str, object]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images = torch.randint(0, 255, (12, 1, 4, 4), dtype=torch.uint8)
    labels = torch.arange(12) % 3
    known = loss_of(labels[4:], images[4:], network, **options)
    labels[:4] = torch.tensor([-1, -2, -100, -1])
    torch.testing.assert_close(loss_of(labels, images, network, **options), known, rtol=1e-6, atol=0)


def test_a_batch_without_a_label_that_counts_moves_nothing() -> None:
    """Where the mean over no labels is not a number."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images = torch.randint(0, 255, (4, 1, 4, 4), dtype=torch.uint8)
    loss = loss_of(torch.full((4,), -1), images, network)
    loss.backward()
    assert loss.item() == 0
    assert all(bool((weight.grad == 0).all()) for weight in network.parameters() if weight.grad is not None)


def taught(schedule: Schedule, network: nn.Module, teacher: nn.Module, labels: torch.Tensor) -> torch.Tensor:
    images = torch.randint(0, 255, (12, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images=images, labels=labels)
    data = DataSet(name="d", train=split, validation=split, test=split, mean=(0.5,), std=(0.25,))
    return training_loss(network, data, split, schedule, teacher, torch.Generator().manual_seed(0), SINGLE_PROCESS)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_distance_of_logits_is_their_mean_squared_difference(share: float) -> None:
    """By the formula; labels count with the rest of the share, and at 1 not at all."""
    torch.manual_seed(0)
    network, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(16, 3)) for _ in range(2))
    seen: list[torch.Tensor] = []
    teacher.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    schedule = Schedule(epochs=1, precision="fp32", distillation=share, teacher_loss="logits")
    labels = torch.arange(12) % 3
    found = taught(schedule, network, teacher, labels)
    (x,) = seen
    logits, wanted = network(x), teacher(x)
    distance = ((logits - wanted) ** 2).sum() / (12 * 3)
    entropy = -logits.log_softmax(1)[torch.arange(12), labels].mean()
    torch.testing.assert_close(found, share * distance + (1 - share) * entropy, rtol=1e-5, atol=1e-6)
    if share == 1:
        torch.testing.assert_close(taught(schedule, network, teacher, (labels + 1) % 3), found, rtol=0, atol=0)


def test_an_unknown_distance_to_the_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match=r"teacher_loss must be one of soft_targets, logits, got 'probabilities'"):
        Schedule(epochs=1, teacher_loss="probabilities")  # type: ignore[arg-type]
