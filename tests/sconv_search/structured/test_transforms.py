"""Structured layers follow their buffers and parameters, whoever sets them, and work under torch's transforms."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.conv_transpose import StructuredConvTranspose2d
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.sums.variants import VARIANTS

KINDS: dict[str, tuple[Callable[..., nn.Module], dict[str, int], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2), {"c": 2, "n": 2}, (2, 8, 7, 7)),
    "linear": (lambda: nn.Linear(8, 5), {"c": 3}, (2, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2), {"c": 2}, (2, 8, 5, 5)),
}


def structured(kind: str, variant: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    make, structure, shape = KINDS[kind]
    forms = {"conv": StructuredConv2d.from_conv, "linear": StructuredLinear.from_linear}
    layer = forms.get(kind, StructuredConvTranspose2d.from_conv)(make(), **structure, variant=variant)
    return layer, torch.randn(shape)


both = [pytest.mark.parametrize("variant", VARIANTS), pytest.mark.parametrize("kind", KINDS)]


def each(test):
    for mark in both:
        test = mark(test)
    return test


@each
def test_other_buffers_and_weights_count_at_once(kind: str, variant: str) -> None:
    (first, x), (second, _) = structured(kind, variant), structured(kind, variant, seed=1)
    wanted, state = second(x), second.state_dict()
    first(x)  # whatever is derived is derived by now
    torch.testing.assert_close(torch.func.functional_call(first, state, (x,)), wanted, rtol=0, atol=1e-6)
    for fill in (
        lambda layer: layer.load_state_dict(state),
        lambda layer: layer.load_state_dict(state, assign=True),
        lambda layer: [old.copy_(new) for old, new in zip(layer.state_dict().values(), state.values(), strict=True)],
        lambda layer: [
            old.data.copy_(new) for old, new in zip(layer.state_dict().values(), state.values(), strict=True)
        ],
    ):
        layer = copy.deepcopy(first)
        with torch.no_grad():
            fill(layer)
        torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(copy.deepcopy(layer)(x), wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(layer.to_dense()(x), wanted, rtol=0, atol=1e-5)
        if x.dim() == 4:
            last = x.contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(layer.to(memory_format=torch.channels_last)(last), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(first(x), structured(kind, variant)[0](x), rtol=0, atol=0)


@each
def test_a_layer_made_without_values_is_filled(kind: str, variant: str) -> None:
    layer, x = structured(kind, variant)
    empty = copy.deepcopy(layer).to("meta").to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    torch.testing.assert_close(empty(x), layer(x), rtol=0, atol=0)
    torch.testing.assert_close(layer.double()(x.double()).float(), empty(x), rtol=0, atol=1e-5)


@each
def test_another_number_of_channels_is_refused(kind: str, variant: str) -> None:
    layer, x = structured(kind, variant)
    for channels in (6, 10):
        wrong = x.new_zeros(x.shape[0], channels, *x.shape[2:])
        with pytest.raises(ValueError, match=rf"the layer reads 8 channels, got {channels}"):
            layer(wrong)


@each
def test_torchs_transforms_see_the_same_function(kind: str, variant: str) -> None:
    layer, x = structured(kind, variant)
    wanted = layer(x)
    assert torch.equal(torch.fx.symbolic_trace(nn.Sequential(layer))(x), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(copy.deepcopy(layer)(x), wanted.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.vmap(layer)(x[:, None])[:, 0], wanted, rtol=0, atol=1e-5)
    parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())

    def loss(given: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, (given, buffers), (x,)).square().sum()

    slopes = torch.func.grad(loss)(parameters)
    step = {name: 1e-3 * torch.randn_like(weight) for name, weight in parameters.items()}
    moved = [loss({name: weight + sign * step[name] for name, weight in parameters.items()}) for sign in (1, -1)]
    expected = sum((slopes[name] * step[name]).sum() for name in parameters)
    torch.testing.assert_close((moved[0] - moved[1]) / 2, expected, rtol=1e-2, atol=1e-4)
    _, along = torch.func.jvp(layer, (x,), (x,))
    rest = layer(torch.zeros_like(x))
    torch.testing.assert_close(along, wanted - rest, rtol=0, atol=1e-4)


@each
def test_an_ensemble_runs_as_one(kind: str, variant: str) -> None:
    layer, x = structured(kind, variant)
    layers = [layer, copy.deepcopy(layer), copy.deepcopy(layer)]
    with torch.no_grad():
        for count, other in enumerate(layers):
            other.weight.mul_(1 + count)
            for name, choice in other.pooling.named_buffers():
                if name in ("members", "order"):  # the groups of a convolution keep their channels to themselves
                    choice.copy_(torch.cat([part.roll(count) for part in choice.chunk(layer.pooling.groups)]))
        wanted = [other(x) for other in layers]
    parameters, buffers = torch.func.stack_module_state([one.requires_grad_(False) for one in layers])

    def run(own: dict[str, Tensor], sums: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, (own, sums), (x,))

    torch.testing.assert_close(torch.vmap(run)(parameters, buffers), torch.stack(wanted), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@each
def test_torchscript_keeps_the_function(kind: str, variant: str) -> None:
    layer, x = structured(kind, variant)
    scripted = torch.jit.script(layer)
    torch.testing.assert_close(scripted(x), layer(x), rtol=0, atol=1e-5)
    if x.dim() == 4:
        torch.testing.assert_close(scripted(x[0]), layer(x[0]), rtol=0, atol=1e-5)
    assert set(scripted.state_dict()) >= set(layer.state_dict())


def frozen_and_back(layer: nn.Module) -> nn.Module:
    frozen = copy.deepcopy(layer.requires_grad_(False))
    layer.requires_grad_(True)
    return frozen.requires_grad_(True)


def assigned(layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer)
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    return layer


def put_in_place(layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer)
    layer._parameters["weight"] = nn.Parameter(layer.weight.detach().clone())
    return layer


def loaded(layer: nn.Module) -> nn.Module:
    other = copy.deepcopy(layer)
    other.load_state_dict({name: value.clone() for name, value in layer.state_dict().items()}, assign=True)
    return other


def emptied(layer: nn.Module) -> nn.Module:
    other = copy.deepcopy(layer).to("meta").to_empty(device="cpu")
    other.load_state_dict(layer.state_dict())
    return other


def unpickled(layer: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("change", [frozen_and_back, assigned, put_in_place, loaded, emptied, unpickled, copy.deepcopy])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_parameter_is_in_place_gets_the_projected_gradient(kind: str, change: Callable) -> None:
    layer, x = structured(kind, "natural")
    other = change(layer)
    for one in (layer, other, other):  # twice: a parameter has one hook
        one.zero_grad()
        one(x).square().sum().backward()
    torch.testing.assert_close(other.weight.grad, layer.weight.grad, rtol=1e-5, atol=1e-6)
    plain = torch.func.grad(lambda weight: torch.func.functional_call(layer, {"weight": weight}, (x,)).square().sum())
    assert not torch.allclose(plain(layer.weight.detach()), layer.weight.grad, rtol=1e-2)
