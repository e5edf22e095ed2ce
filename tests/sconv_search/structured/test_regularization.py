from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sconv_search import Choice, CompressionPlan, StructuredConvolution, structural_loss
from sconv_search.structured import kernels, regularization
from sconv_search.structured.regularization import Project, projection, residuals

SITES = {"0": {"c": 2, "n": 2}, "2": {"c": 3, "n": 1}, "4": {"c": 2, "n": 3}, "6": {"c": 5}}
COUNTS = {"0": (2, 2, 2), "2": (3, 1, 1), "4": (2, 1, 3), "6": (5,)}


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 4, (1, 3)),
        nn.Flatten(),
        nn.Linear(4 * 4 * 2, 5),
    ).double()


def plan(sites: Mapping[str, Mapping[str, int]] = SITES, method: str = "structured_conv") -> CompressionPlan:
    return CompressionPlan(sites={name: Choice(method=method, structure=chosen) for name, chosen in sites.items()})


def expected_residual(w: Tensor, counts: tuple[int, ...]) -> Tensor:
    basis = kernels.kronecker_basis(w.shape[1:], counts)
    rest = torch.eye(len(basis), dtype=torch.float64) - basis @ torch.linalg.pinv(basis)
    return torch.linalg.vector_norm(w.flatten(1) @ rest.T) / torch.linalg.vector_norm(w)


def impose_(model: nn.Module) -> None:
    with torch.no_grad():
        for name, counts in COUNTS.items():
            weight = model.get_submodule(name).weight
            weight.copy_(kernels.project(weight, counts))


def test_loss_is_the_sum_of_what_the_pseudo_inverse_leaves_of_each_kernel() -> None:
    model = network()
    expected = sum(expected_residual(model.get_submodule(name).weight, counts) for name, counts in COUNTS.items())
    found = structural_loss(model, plan())()
    assert found.shape == ()
    assert 0 < found.item() < len(SITES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_of_kernels_that_are_structured_is_zero(dtype: torch.dtype) -> None:
    model = network()
    impose_(model)
    assert 0 <= structural_loss(model.to(dtype), plan())().item() <= 1e-6


def test_loss_of_a_network_made_dense_again_is_zero() -> None:
    model = network()
    structured = StructuredConvolution().compress(model, plan())
    for name in SITES:
        model.set_submodule(name, structured.get_submodule(name).to_dense())
    assert 0 <= structural_loss(model, plan())().item() <= 1e-6


@pytest.mark.parametrize(
    ("shape", "counts"), [((2, 6, 3, 3), (2, 2, 2)), ((3, 7), (3,)), ((2, 5, 4), (5, 2)), ((2, 5, 3), (1, 3))]
)
def test_gradient_is_that_of_the_relative_residual(shape: tuple[int, ...], counts: tuple[int, ...]) -> None:
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(3 * residuals([w], projection(counts)).sum(), w)
    (expected,) = torch.autograd.grad(3 * kernels.relative_residual(w, counts), w)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda w: residuals([w], projection(counts)), w)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1.0])
def test_gradient_at_a_structured_kernel_is_finite(scale: float) -> None:
    w = torch.zeros(2, 4, 3, 3)
    w[:, :3, :2, :2] = scale  # one box
    w.requires_grad_()
    residuals([w], projection((2, 2, 2))).sum().backward()
    assert torch.isfinite(w.grad).all()


def test_gradient_of_an_exactly_kept_kernel_is_zero() -> None:
    w = (0.01 * torch.randn(2, 4, 3, 3)).requires_grad_()
    residuals([w], projection((4, 3, 3))).sum().backward()
    assert torch.equal(w.grad, torch.zeros_like(w))


def test_loss_reads_the_weights_at_each_call_and_descends() -> None:
    model = network()
    loss = structural_loss(model, plan())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_sites_of_other_methods_add_nothing() -> None:
    model = network()
    mixed = CompressionPlan(sites={**plan().sites, "2": Choice(method="tucker", structure={"rank": 2})})
    without = plan({name: chosen for name, chosen in SITES.items() if name != "2"})
    assert torch.equal(structural_loss(model, mixed)(), structural_loss(model, without)())


def test_an_empty_plan_costs_a_constant_zero() -> None:
    found = structural_loss(network(), CompressionPlan())()
    assert found.shape == ()
    assert found.item() == 0
    assert not found.requires_grad


def test_a_site_that_the_network_lacks_is_named_with_near_ones() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(KeyError, match=r"'0\.1'.*Sequential lacks; nearest: .*0\.0"):
        structural_loss(model, plan({"0.1": {"c": 2, "n": 2}}))


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"c": 0, "n": 2}, r"c must be in 1\.\.4 .* got 0"),
        ({"c": 5, "n": 2}, r"c must be in 1\.\.4 .* got 5"),
        ({"c": 2, "n": 4}, r"n must be in 1\.\.3 .* got 4"),
        ({"c": 2}, r"takes \['c', 'n'\], got \['c'\]"),
        ({"rank": 2}, r"takes \['c', 'n'\], got \['rank'\]"),
    ],
)
def test_a_structure_out_of_range_is_named_with_its_site(chosen: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"site '2': .*{complaint}"):
        structural_loss(network(), plan({"2": chosen}))


def test_a_layer_without_structured_form_is_named() -> None:
    with pytest.raises(TypeError, match="site '1': ReLU has no structured form; convolutions and Linear have"):
        structural_loss(network(), plan({"1": {"c": 1, "n": 1}}))


@pytest.mark.parametrize("variant", ["", "merged", "permuted", "signed_merged"])
def test_a_step_reads_nothing_back_from_the_device(variant: str) -> None:
    """On a GPU every number that is read waits for all work before it."""
    model, extra = network(), {variant: 1} if variant else {}
    loss = structural_loss(model, plan({name: {**chosen, **extra} for name, chosen in SITES.items()}))
    loss().backward()  # what is made once may be read
    called: list[str] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(func.name())
            return func(*args, **(kwargs or {}))

    with Watching():
        loss().backward()
    assert "aten::linalg_vector_norm" in called
    assert not {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::bincount"} & set(called)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_kernels_in_one_go_have_the_residuals_and_gradients_that_each_has_alone(
    memory_format: torch.memory_format,
) -> None:
    kernels = [scale * torch.randn(5, 4, 3, 3, dtype=torch.float64) for scale in (1, 0.01, 0, 100)]
    kernels = [kernel.to(memory_format=memory_format).requires_grad_() for kernel in kernels]
    project, weights = projection((2, 2, 2)), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    together = residuals(kernels, project)
    alone = torch.cat([residuals([kernel], project) for kernel in kernels])
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=0)
    assert (together[2], together[0] > 0) == (0, True)
    for found, expected in zip(
        *(torch.autograd.grad(weights @ each, kernels) for each in (together, alone)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


ALIKE = {str(place): {"c": 4, "n": 2} for place in range(5)} | {
    "5": {"c": 4, "n": 3},
    "6": {"c": 4, "n": 2, "merged": 1},
}


@pytest.mark.parametrize(("most", "projections"), [(5 * 288, 3), (5 * 288 - 1, 4), (2 * 288, 5), (1, 7)])
def test_layers_alike_are_projected_together_up_to_so_many_elements(
    most: int, projections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five layers of 288 elements are alike, the sixth has another structure, the seventh another way of summing."""
    layers = nn.Sequential(*(nn.Conv2d(8, 4, 3) for _ in range(7))).double()
    expected = sum(structural_loss(layers, plan({name: chosen}))() for name, chosen in ALIKE.items())
    called: list[int] = []

    def counted(kernels: list[Tensor], project: Project) -> Tensor:
        called.append(len(kernels))
        return residuals(kernels, project)

    monkeypatch.setattr(regularization, "BATCHED_ELEMENTS", most)
    monkeypatch.setattr(regularization, "residuals", counted)
    torch.testing.assert_close(structural_loss(layers, plan(ALIKE))(), expected)
    assert (len(called), sum(called)) == (projections, 7)
