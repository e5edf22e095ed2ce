"""What is counted by a forward's functions is what its whole trace holds; what cannot be counted so is traced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import METHODS, Choice, CompressionPlan, compress
from sconv_search.cost import counting
from sconv_search.cost.counting import measure_cost
from sconv_search.cost.direct_counting import UnknownFunctionError


def directly(network: nn.Module, shape: tuple[int, ...]) -> dict[str, Counter[str]]:
    return plain(counting._counted_directly(network, shape))


def traced(network: nn.Module, shape: tuple[int, ...]) -> dict[str, Counter[str]]:
    analysis = counting.on_shapes(network, lambda measured: counting._analyzed(measured, shape))
    return plain(counting._by_name(analysis))


def plain(counts: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Without zeros."""
    return {name: +own for name, own in counts.items()}


class Runs(nn.Module):
    def __init__(self, run: Callable[[nn.Module, nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.run, self.first, self.last = run, nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.run(self.first, self.last, x)


def written_over(first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
    y = first(x)
    y += last(x)
    return y.mul_(2)


def written_in_a_part(first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
    y = first(x)
    y[:, :2].add_(last(x)[:, :2])
    return y


def written_in_a_part_that_is_read(first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
    part = first(x)[:, :2]
    part.add_(1)
    return part


def written_over_late(first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
    y = first(x)
    z = y + 1
    y.add_(x)
    return z


KNOWN: dict[str, Callable[[nn.Module, nn.Module, Tensor], Any]] = {
    "sums": lambda first, last, x: first(x) + last(x) * 2 - x,
    "sums with fewer axes": lambda first, last, x: first(x) + last(x).mean((2, 3), keepdim=True) - last(x)[0, 0],
    "sums that are not used": lambda first, last, x: (first(x) + 1, last(x) - 1)[1],
    "products that are not used": lambda first, last, x: (last(first(x) + 1), x + 1)[1],
    "a result as it came": lambda first, last, x: x,
    "none of the inputs": lambda first, last, x: first.weight + 1,
    "twice the same module": lambda first, last, x: first(first(x)),
    "several results": lambda first, last, x: {"a": [first(x)], "b": (last(x) / 2, x.shape)},
    "joined": lambda first, last, x: torch.cat([first(x), last(x)[:, :2], x], 1).sum(1),
    "joined along the last axis": lambda first, last, x: torch.cat((first(x), x), dim=-1),
    "moved": lambda first, last, x: (
        (first(x).transpose(2, 3) + last(x)).flatten(1).unflatten(1, (4, -1)).permute(2, 0, 1)
    ),
    "written over": written_over,
    "sizes": lambda first, last, x: F.avg_pool2d(first(x), kernel_size=x.shape[-1] // 3) + x.size(0) + x.dim(),
    "pools": lambda first, last, x: F.adaptive_avg_pool2d(F.max_pool2d(F.avg_pool2d(first(x), 2), 2), (1, 1)),
    "norms": lambda first, last, x: F.group_norm(F.layer_norm(first(x), x.shape[1:]), 2, weight=x[0, :, 0, 0]),
    "without gradients": lambda first, last, x: torch.no_grad()(first)(x) if x.requires_grad is False else x,
    "one input": lambda first, last, x: first(x[0]) + F.linear(x[0], x[0, 0]),
}


@pytest.mark.parametrize("run", KNOWN.values(), ids=KNOWN.keys())
def test_known_functions_count_as_the_trace_of_their_operators(run: Callable[..., Any]) -> None:
    network = Runs(run).eval()
    assert directly(network, (4, 8, 8)) == traced(network, (4, 8, 8))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x + x


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * x + 1


UNKNOWN: dict[str, tuple[Callable[[nn.Module, nn.Module, Tensor], Any], float]] = {  # and additions of an element
    "another function": (lambda first, last, x: torch.hypot(first(x), x), 1),
    "a function of autograd": (lambda first, last, x: Doubled.apply(first(x)), 1),
    "an operator by itself": (lambda first, last, x: torch.ops.aten.add(first(x), x), 1),
    "a result elsewhere": (lambda first, last, x: torch.add(first(x), x, out=torch.empty_like(x)), 1),
    "written in a part": (written_in_a_part, 0.5),
    "written in a part that is read": (written_in_a_part_that_is_read, 0.5),
    "written over after it was read": (written_over_late, 2),
    "written over by the way": (lambda first, last, x: (first(x).add_(1), last(x))[1], 1),
    "values": (lambda first, last, x: first(x).data + x, 1),
}


@pytest.mark.parametrize(("run", "additions"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_is_not_known_is_counted_by_its_trace(run: Callable[..., Any], additions: float) -> None:
    network = Runs(run).eval()
    with pytest.raises(UnknownFunctionError):
        directly(network, (4, 8, 8))
    assert measure_cost(network, (4, 8, 8), direct=True).adds == additions * 4 * 64


def test_networks_are_traced_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_counted_directly", lambda *given: pytest.fail("not by its functions"))
    network = Runs(KNOWN["sums"]).eval()
    assert measure_cost(network, (4, 8, 8)).adds == 3 * 4 * 64


def test_scripted_code_is_not_passed_over() -> None:
    network = Runs(lambda first, last, x: (scripted(first(x)), last(x))[1]).eval()
    with pytest.raises(RuntimeError):
        directly(network, (4, 8, 8))


def test_a_forward_that_fails_halfway_leaves_nothing_behind() -> None:
    calls: list[int] = []

    def run(first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
        calls.append(1)
        return torch.hypot(first(x), x)

    network = Runs(run).eval()
    hooks = [len(module._forward_hooks) for module in network.modules()]
    measure_cost(network, (4, 8, 8), direct=True)
    assert len(calls) == 2
    assert [len(module._forward_hooks) for module in network.modules()] == hooks
    assert not torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]


LAYERS = {
    "convolution": (nn.Conv2d(12, 16, 3, stride=2, padding=1), (12, 9, 9)),
    "pointwise": (nn.Conv2d(12, 16, 1, bias=False), (12, 5, 5)),
    "groups": (nn.Conv2d(12, 18, (3, 5), padding=(1, 2), groups=2), (12, 7, 7)),
    "depthwise": (nn.Conv2d(12, 12, 5, padding=2, groups=12), (12, 9, 9)),
    "padded by reflection": (nn.Conv2d(12, 8, 3, padding=1, padding_mode="reflect"), (12, 6, 6)),
    "transposed": (nn.ConvTranspose2d(12, 16, 3, stride=2), (12, 5, 5)),
    "1d": (nn.Conv1d(12, 16, 3), (12, 11)),
    "linear": (nn.Linear(12, 16), (3, 12)),
}


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS.named(name).reshapes_neighbors])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_what_methods_build_is_known(method: str, layer: nn.Module, shape: tuple[int, ...]) -> None:
    network = nn.Sequential(layer).eval()
    options = METHODS.named(method).options(network).get("0", [])
    for structure in (*options[:1], *options[-1:]):
        built = compress(network, CompressionPlan(sites={"0": Choice(method=method, structure=structure)}))
        assert directly(built, shape) == traced(built, shape)


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "convnext_tiny"]
)
def test_networks_of_torchvision_are_known(name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name).eval()
    assert directly(network, (3, 64, 64)) == traced(network, (3, 64, 64))
