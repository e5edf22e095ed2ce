"""What the callbacks share: gradients of the penalty, and optimizers that follow a compression."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sconv_search import Choice, CompressionPlan
from sconv_search.studies.callbacks.regularized_training import RegularizedTraining, adopt_, follow_
from sconv_search.studies.methods import compress, penalty

PLAN = CompressionPlan(
    sites={
        "0": Choice(method="structured_conv", structure={"c": 2, "n": 2}),
        "2": Choice(method="spatial_svd", structure={"rank": 2}),
    }
)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(128, 3))


def test_the_gradient_is_that_of_the_weighted_penalty(network: nn.Sequential) -> None:
    training = RegularizedTraining(network, PLAN, weight=3.0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    assert training.add_gradient_(0.5, optimizer) == 1.5
    (expected,) = torch.autograd.grad(1.5 * penalty(network, PLAN)(), network[0].weight)
    torch.testing.assert_close(network[0].weight.grad, expected)
    assert network[4].weight.grad is None


def test_an_optimizer_of_other_weights_is_left_alone(network: nn.Sequential) -> None:
    training = RegularizedTraining(network, PLAN, weight=3.0)
    training.add_gradient_(1.0, torch.optim.SGD(network[4].parameters(), 0.1))
    assert network[0].weight.grad is None


def test_residuals_are_of_the_layers_that_have_a_penalty(network: nn.Sequential) -> None:
    residuals = RegularizedTraining(network, PLAN, weight=1.0).residuals()
    assert set(residuals) == {"0"}
    assert residuals["0"] == pytest.approx(penalty(network, PLAN)().item())


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_out_of_range_is_refused(network: nn.Sequential, weight: float) -> None:
    with pytest.raises(ValueError, match="must be at least 0 and finite"):
        RegularizedTraining(network, PLAN, weight=weight)


def test_a_compressed_network_stands_in_the_same_object(network: nn.Sequential) -> None:
    small = compress(network, PLAN)
    x = torch.randn(2, 4, 8, 8)
    wanted = small.eval()(x)
    adopt_(network.eval(), small)
    assert torch.equal(network(x), wanted)
    assert network.state_dict().keys() == small.state_dict().keys()


def test_an_optimizer_goes_on_with_the_new_weights_in_its_groups(network: nn.Sequential) -> None:
    network[1].weight.requires_grad_(False)
    other = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD(
        [
            {"params": [network[0].weight, network[0].bias], "lr": 0.1},
            {"params": [network[2].weight, network[2].bias, *network[4].parameters(), other], "lr": 0.01},
        ],
        momentum=0.9,
    )
    network(torch.randn(2, 4, 8, 8)).sum().backward()
    optimizer.step()
    before = dict(network.named_parameters())
    momentum = optimizer.state[network[4].weight]["momentum_buffer"].clone()
    adopt_(network, compress(network, PLAN))
    follow_(optimizer, before, network)
    first, second = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert first == {id(p) for p in network[0].parameters()}
    assert second == {id(p) for p in (*network[2].parameters(), *network[4].parameters(), other)}
    assert torch.equal(optimizer.state[network[4].weight]["momentum_buffer"], momentum)
    assert len(optimizer.state) == 3, "momentum of the linear layer and of the biases that are kept"
    held = [parameter.detach().clone() for parameter in network[2].parameters()]
    optimizer.zero_grad()
    network(torch.randn(2, 4, 8, 8)).sum().backward()
    optimizer.step()
    assert not any(torch.equal(new, old) for new, old in zip(network[2].parameters(), held, strict=True))
