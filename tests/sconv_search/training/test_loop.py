from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sconv_search.data.augmentation import augmented
from sconv_search.data.splits import DataSet, Split
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import evaluate
from sconv_search.training.loop import TrainingDiverged, train_
from sconv_search.training.schedule import Schedule
from sconv_search.training.weight_average import WeightAverage

SCHEDULE = Schedule(epochs=3, batch_size=16, learning_rate=0.05)


@pytest.fixture(scope="module")
def data() -> DataSet:
    """Two classes: dark and bright images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 2
    images = (
        torch.randint(0, 140, (128, 1, 8, 8), generator=generator, dtype=torch.uint8)
        + (labels * 40).view(-1, 1, 1, 1).byte()
    )
    split = Split(images=images, labels=labels)
    return DataSet(
        name="two", train=split, validation=split, test=split, mean=(0.5,), std=(0.25,), crop_padding=1, flip=True
    )


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def trained(data: DataSet, seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(0)
    result = network()
    train_(result, data, SCHEDULE, seed=seed, **options)
    return result


def test_training_learns_and_ends_in_evaluation_mode(data: DataSet) -> None:
    result = trained(data)
    assert not result.training
    assert evaluate(result, data, data.validation).value > 90


def test_a_network_with_a_convolution_of_volumes_is_trained(data: DataSet) -> None:
    """``Module.to`` would refuse to lay its kernel out as those of images are."""
    deep = nn.Sequential(
        nn.Unflatten(1, (-1, 1)), nn.Conv3d(data.train.shape[0], 4, (1, 3, 3)), nn.ReLU(), nn.Flatten()
    )
    features = deep(torch.zeros(1, *data.train.shape)).shape[1]
    result = nn.Sequential(deep, nn.Linear(features, 10))
    before = deep[1].weight.detach().clone()
    train_(result, data, SCHEDULE, seed=0)
    assert not torch.equal(deep[1].weight, before)
    assert bool(deep[1].weight.isfinite().all())


def test_training_is_deterministic_for_a_seed_and_differs_between_seeds(data: DataSet) -> None:
    first, same, other = (trained(data, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_the_penalty_draws_the_weights(data: DataSet) -> None:
    torch.manual_seed(0)
    plain, drawn = network(), network()
    drawn.load_state_dict(plain.state_dict())
    train_(plain, data, SCHEDULE, seed=0)
    train_(drawn, data, SCHEDULE, seed=0, penalty=lambda: drawn[0].weight.square().sum(), penalty_weight=5.0)
    assert drawn[0].weight.norm() < 0.5 * plain[0].weight.norm()


@pytest.mark.parametrize(("curve", "weights"), [("rising", [0.5, 1.0, 1.5, 2.0]), ("constant", [2.0] * 4)])
def test_the_penalty_weight_over_the_phase(data: DataSet, curve: Any, weights: list[float]) -> None:
    """With a penalty of constant gradient and no learning signal, the weight's path is the sum of the ramp."""
    seen: list[Tensor] = []
    still = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    ramped = nn.Parameter(torch.zeros(()))
    still.register_parameter("ramped", ramped)
    schedule = Schedule(epochs=1, batch_size=32, learning_rate=0.1, momentum=0, weight_decay=0, penalty_curve=curve)

    def penalty() -> Tensor:
        ramped.register_hook(lambda gradient: seen.append(gradient.clone())) if not seen else None
        return ramped

    train_(still, data, schedule, seed=0, penalty=penalty, penalty_weight=2.0)
    assert [round(float(value), 6) for value in seen] == weights


def test_distillation_draws_the_logits_to_the_teacher(data: DataSet) -> None:
    """The teacher has the classes the wrong way round, so only distillation can lead there."""
    contrary = nn.Sequential(trained(data), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        contrary[1].weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    schedule = Schedule(epochs=3, batch_size=16, learning_rate=0.05, distillation=1.0)
    taught = network()
    train_(taught, data, schedule, seed=0, teacher=contrary)
    assert evaluate(taught, data, data.test).value < 10


def test_a_loss_that_is_not_finite_ends_training_with_its_reason(data: DataSet) -> None:
    with pytest.raises(
        TrainingDiverged, match=r"the loss is nan at step \d+ of 24 \(learning rate 0.05, regularization weight 1\)"
    ):
        trained(data, penalty=lambda: torch.tensor(math.nan), penalty_weight=1.0)


def test_a_batch_larger_than_the_data_is_refused(data: DataSet) -> None:
    with pytest.raises(ValueError, match="batch_size 512 is larger than the 128 training images"):
        train_(network(), data, Schedule(epochs=1, batch_size=512), seed=0)


def test_no_epochs_train_nothing(data: DataSet) -> None:
    result = network().train()
    before = copy.deepcopy(result.state_dict())
    train_(result, data, dataclasses.replace(SCHEDULE, epochs=0), seed=0)
    train_(result, data, SCHEDULE, seed=0, epochs=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in result.state_dict().items())
    assert not result.training


def still_network() -> nn.Module:
    """Without batch norms, whose statistics are those of a part."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_a_batch_in_parts_trains_as_a_whole_one(data: DataSet) -> None:
    data = dataclasses.replace(data, crop_padding=0, flip=False)  # the random numbers of a part are drawn for it
    whole, parts = still_network(), still_network()
    for trained, accumulation in ((whole, 1), (parts, 4)):
        schedule = dataclasses.replace(SCHEDULE, accumulation=accumulation, precision="fp32")
        weight = trained[0].weight
        train_(trained, data, schedule, seed=0, penalty=lambda weight=weight: weight.square().sum(), penalty_weight=0.1)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_the_average_of_the_weights_follows_them(data: DataSet) -> None:
    follower, decay = nn.Linear(1, 1, bias=False), 0.5
    follower.weight.data.fill_(1.0)
    average = WeightAverage(follower, decay)
    expected = 1.0
    for step, value in enumerate((3.0, -2.0, 5.0)):
        follower.weight.data.fill_(value)
        average.update()
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    average.put_()
    assert follower.weight.item() == pytest.approx(expected, abs=1e-6)


def test_a_network_ends_with_the_average_of_its_weights(data: DataSet) -> None:
    plain = trained(data)
    torch.manual_seed(0)
    averaged = network()
    train_(averaged, data, dataclasses.replace(SCHEDULE, average_decay=0.9), seed=0)
    assert not torch.allclose(plain[0].weight, averaged[0].weight)
    assert int(averaged[1].num_batches_tracked) == int(plain[1].num_batches_tracked)
    assert evaluate(averaged, data, data.validation).value > 90


def test_batch_norm_is_reestimated_to_the_mean_of_its_inputs(data: DataSet) -> None:
    data = dataclasses.replace(data, crop_padding=0, flip=False)
    result = trained(data)
    weights, momentum = copy.deepcopy(result.state_dict()), result[1].momentum
    inputs = result[0](data.normalized(data.train.images))
    reestimate_batch_norm_(result, data, seed=0, images=128)
    torch.testing.assert_close(result[1].running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(result[1].running_var, inputs.var((0, 2, 3)))
    assert result[1].momentum == momentum
    assert not result[1].training
    assert all(
        torch.equal(weights[name], tensor)
        for name, tensor in result.state_dict().items()
        if "running" not in name and "num" not in name
    )


def test_batch_norm_is_reestimated_on_images_augmented_as_in_training(data: DataSet) -> None:
    result, padded = trained(data), dataclasses.replace(data, crop_padding=2, flip=True)
    reestimate_batch_norm_(result, padded, seed=3, images=128)
    generator = torch.Generator().manual_seed(3)
    images = data.train.images[torch.randperm(128, generator=generator)]
    inputs = result[0](data.normalized(augmented(images, 2, True, generator)))
    torch.testing.assert_close(result[1].running_mean, inputs.mean((0, 2, 3)))
    assert not torch.allclose(result[1].running_mean, result[0](data.normalized(images)).mean((0, 2, 3)))
