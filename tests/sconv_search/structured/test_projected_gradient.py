"""A step on a structured layer is the dense layer's step, projected on the structured kernels."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d
from sconv_search.structured.conv_transpose import StructuredConvTranspose2d
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.sums.variants import VARIANTS, layer_kernel

CASES = {
    "channels": (StructuredConv2d, nn.Conv2d(12, 8, 3), {"c": 5, "n": 3}, (2, 12, 6, 6)),
    "space": (StructuredConv2d, nn.Conv2d(4, 6, 3, padding=1), {"c": 4, "n": 2}, (2, 4, 6, 6)),
    "both, two groups": (StructuredConv2d, nn.Conv2d(12, 8, 5, groups=2, padding=2), {"c": 4, "n": 3}, (2, 12, 6, 6)),
    "depthwise": (StructuredConv2d, nn.Conv2d(6, 6, 3, groups=6), {"c": 1, "n": 2}, (2, 6, 6, 6)),
    "one axis": (StructuredConv1d, nn.Conv1d(10, 4, 3, stride=2), {"c": 4, "n": 2}, (2, 10, 9)),
    "linear": (StructuredLinear, nn.Linear(10, 4), {"c": 4}, (3, 10)),
    "transposed": (StructuredConvTranspose2d, nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2), {"c": 3}, (2, 8, 4, 4)),
}


def layer_of(case: str, variant: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    kind, dense, structure, shape = CASES[case]
    dense = copy.deepcopy(dense).double()
    for weight in dense.parameters():
        nn.init.normal_(weight)
    make = kind.from_linear if kind is StructuredLinear else kind.from_conv
    return make(dense, **structure, variant=variant), torch.randn(shape, dtype=torch.float64)


def step(layer: nn.Module, x: torch.Tensor) -> None:
    optimizer = torch.optim.SGD([layer.weight], lr=0.01)
    layer(x).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_a_step_moves_the_kernel_as_the_dense_layers_projected_step_does(case: str, variant: str) -> None:
    layer, x = layer_of(case, variant)
    dense, before = layer.to_dense(), copy.deepcopy(layer)
    step(dense, x)
    make = type(layer).from_linear if isinstance(layer, StructuredLinear) else type(layer).from_conv
    projected = copy.deepcopy(before)
    structure = CASES[case][2]
    if variant == "natural":
        projected = make(dense, **structure)
    else:  # the same sums: only the coefficients of the stepped kernel
        with torch.no_grad():
            small = projected.pooling.coefficients(layer_kernel(dense))
            for axis in range(2, small.dim()):
                from sconv_search.structured.kernels import box_coefficients

                if axis < projected.weight.dim() and not isinstance(layer, StructuredConvTranspose2d):
                    small = box_coefficients(small, axis, projected.weight.shape[axis])
            if isinstance(layer, StructuredConvTranspose2d):
                small = small.unflatten(0, (2, -1)).transpose(1, 2).flatten(0, 1)
            projected.weight.copy_(small)
    step(layer, x)
    assert not torch.equal(layer.weight, before.weight)
    torch.testing.assert_close(layer.dense_kernel(), projected.dense_kernel(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_copies_learn_alike(copied) -> None:
    layer, x = layer_of("both, two groups", "merged")
    other = copied(layer)
    for one in (layer, other):
        step(one, x)
    torch.testing.assert_close(other.weight, layer.weight, rtol=0, atol=0)
    frozen = layer.requires_grad_(False)
    assert not copied(frozen).weight.requires_grad


def test_a_compiled_layer_learns_alike() -> None:
    layer, x = layer_of("both, two groups", "merged")
    other = copy.deepcopy(layer)
    step(layer, x)
    torch.compile(other, backend="aot_eager")(x).square().sum().backward()
    torch.optim.SGD([other.weight], lr=0.01).step()
    torch.testing.assert_close(other.weight, layer.weight)


def test_a_layer_without_structure_keeps_its_plain_gradient() -> None:
    dense = nn.Conv2d(4, 6, 3).double()
    layer, x = StructuredConv2d.from_conv(dense, c=4, n=3), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    layer(x).sum().backward()
    dense(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, dense.weight.grad)


class _Blocked(torch.autograd.Function):
    """Gives no gradient, as quantized layers do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        return None


def test_a_loss_that_no_gradient_comes_back_from_leaves_none() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3), c=2, n=2)
    (_Blocked.apply(layer(torch.randn(1, 4, 5, 5))).sum() + torch.zeros((), requires_grad=True)).backward()
    assert layer.weight.grad is None


def loaded(layer: nn.Module) -> None:
    layer.load_state_dict(copy.deepcopy(layer).state_dict())


def converted(layer: nn.Module) -> None:
    layer.float().double()


def swapped_by_hand(layer: nn.Module) -> None:
    torch.utils.swap_tensors(layer.weight, nn.Parameter(layer.weight.detach().clone()))
    layer.train()


@pytest.mark.parametrize("change", [loaded, converted, swapped_by_hand])
def test_the_gradient_is_projected_after_parameters_are_swapped(change: Callable[[nn.Module], None]) -> None:
    layer, x = layer_of("channels", "natural")
    met = list[Tensor]()
    layer.weight.register_hook(met.append)
    gradients = []
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        for _ in range(3):  # the hook acts once, however often it is set anew
            layer.zero_grad()
            layer(x).square().sum().backward()
            gradients.append(layer.weight.grad.clone())
            change(layer)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-5, atol=1e-5)
    assert len(met) == 3  # the user's own hook acts, too
