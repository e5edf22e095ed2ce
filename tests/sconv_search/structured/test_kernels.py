"""Legend: A the mask matrix of a kernel's axes after the first; P = A A+ its projector."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sconv_search.structured import kernels

Kernel = tuple[Tensor, tuple[int, ...]]
some = settings(max_examples=40, deadline=None, derandomize=True)
axes = st.integers(1, 24).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, length)))


@st.composite
def drawn_kernels(draw: st.DrawFn) -> Kernel:
    taps = draw(st.lists(st.integers(1, 3), max_size=3))
    lengths = (draw(st.integers(1, 7)), *taps)
    counts = tuple(draw(st.integers(1, length)) for length in lengths)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return torch.randn(draw(st.integers(1, 4)), *lengths, generator=generator, dtype=torch.float64), counts


def basis_and_inverse(w: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    basis = kernels.kronecker_basis(w.shape[1:], counts)
    return basis, torch.linalg.pinv(basis)


def chain_basis(length: int, count: int) -> Tensor:
    box, unit = length - count + 1, torch.eye(length, dtype=torch.float64)
    differences = [unit[k + box] - unit[k] for k in range(count - 1)]
    return torch.stack([*differences, unit[:box].sum(0)], dim=1)


def equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@some
@given(drawn_kernels())
def test_projection_is_that_of_the_pseudo_inverse(kernel: Kernel) -> None:
    w, counts = kernel
    basis, inverse = basis_and_inverse(w, counts)
    equal(kernels.project(w, counts).flatten(1), w.flatten(1) @ (basis @ inverse).T)


@some
@given(drawn_kernels())
def test_projecting_twice_is_projecting_once(kernel: Kernel) -> None:
    w, counts = kernel
    once = kernels.project(w, counts)
    equal(kernels.project(once, counts), once)


@some
@given(drawn_kernels())
def test_projection_is_self_adjoint(kernel: Kernel) -> None:
    x, counts = kernel
    y = torch.randn_like(x)
    equal((kernels.project(x, counts) * y).sum(), (x * kernels.project(y, counts)).sum())


@some
@given(drawn_kernels())
def test_alpha_is_the_pseudo_inverse_times_the_kernel(kernel: Kernel) -> None:
    w, counts = kernel
    _, inverse = basis_and_inverse(w, counts)
    equal(kernels.decompose(w, counts).flatten(1), w.flatten(1) @ inverse.T)


@some
@given(drawn_kernels())
def test_composing_what_was_decomposed_gives_the_projection(kernel: Kernel) -> None:
    w, counts = kernel
    equal(kernels.compose(kernels.decompose(w, counts), w.shape[1:]), kernels.project(w, counts))


@some
@given(drawn_kernels())
def test_composing_multiplies_by_the_mask_matrix(kernel: Kernel) -> None:
    w, counts = kernel
    alpha = torch.randn(len(w), *counts, dtype=torch.float64)
    expected = alpha.flatten(1) @ kernels.kronecker_basis(w.shape[1:], counts).T
    equal(kernels.compose(alpha, w.shape[1:]).flatten(1), expected)


@some
@given(axes, st.integers(0, 2))
def test_the_chain_basis_and_back_is_the_identity(axis: tuple[int, int], dim: int) -> None:
    alpha = torch.randn(3, 3, axis[1], dtype=torch.float64).movedim(-1, dim)
    equal(kernels.from_chain_basis(kernels.to_chain_basis(alpha, dim), dim), alpha)


@some
@given(axes)
def test_composing_chains_multiplies_by_the_chain_basis(axis: tuple[int, int]) -> None:
    length, count = axis
    coefficients = torch.randn(2, count, 3, dtype=torch.float64)
    expected = torch.einsum("lk,okn->oln", chain_basis(length, count), coefficients)
    equal(kernels.compose_chains(coefficients, 1, length), expected)


@some
@given(axes)
def test_chain_coefficients_are_the_chain_basis_pseudo_inverse_times_the_kernel(axis: tuple[int, int]) -> None:
    length, count = axis
    w = torch.randn(2, length, 3, dtype=torch.float64)
    expected = torch.einsum("kl,oln->okn", torch.linalg.pinv(chain_basis(length, count)), w)
    equal(kernels.chain_coefficients(w, 1, count), expected)


@some
@given(axes)
def test_chain_basis_spans_what_the_boxes_span(axis: tuple[int, int]) -> None:
    boxes, chains = kernels.box_basis(*axis), chain_basis(*axis)
    ranks = [int(torch.linalg.matrix_rank(matrix)) for matrix in (boxes, chains, torch.cat([boxes, chains], 1))]
    assert ranks == [axis[1]] * 3


@some
@given(axes)
def test_neighboring_boxes_differ_by_their_two_ends(axis: tuple[int, int]) -> None:
    length, count = axis
    boxes, box, unit = kernels.box_basis(*axis), length - count + 1, torch.eye(length, dtype=torch.float64)
    for k in range(count - 1):
        equal(boxes[:, k + 1] - boxes[:, k], unit[k + box] - unit[k])


@some
@given(drawn_kernels())
def test_mask_matrix_is_the_kronecker_product_of_the_axes(kernel: Kernel) -> None:
    w, counts = kernel
    masks = []
    for starts in product(*map(range, counts)):
        mask = torch.zeros(w.shape[1:], dtype=torch.float64)
        mask[tuple(slice(k, k + size - n + 1) for k, size, n in zip(starts, mask.shape, counts, strict=True))] = 1
        masks.append(mask.flatten())
    assert torch.equal(kernels.kronecker_basis(w.shape[1:], counts), torch.stack(masks, 1))


def chain_sums(w: Tensor, box: int) -> Tensor:
    return torch.stack([w[chain::box].sum() for chain in range(box)])


@some
@given(axes)
def test_structured_vectors_have_equal_chain_sums(axis: tuple[int, int]) -> None:
    alpha = torch.randn(axis[1], dtype=torch.float64)
    sums = chain_sums(kernels.box_basis(*axis) @ alpha, axis[0] - axis[1] + 1)
    equal(sums, alpha.sum().expand_as(sums))


@some
@given(axes, st.floats(-3, 3))
def test_vectors_with_equal_chain_sums_are_structured(axis: tuple[int, int], common: float) -> None:
    length, count = axis
    box, w = length - count + 1, torch.randn(length, dtype=torch.float64)
    w[:box] += common - chain_sums(w, box)
    basis = kernels.box_basis(*axis)
    equal(basis @ (torch.linalg.pinv(basis) @ w), w)


@pytest.mark.parametrize(("lengths", "counts"), [((16, 3, 3), (8, 2, 2)), ((12, 5), (3, 5)), ((30,), (10,))])
def test_gaussian_weights_have_the_expected_residual(lengths: tuple[int, ...], counts: tuple[int, ...]) -> None:
    kept = torch.tensor(counts).prod() / torch.tensor(lengths).prod()
    found = kernels.relative_residual(torch.randn(2000, *lengths), counts)
    torch.testing.assert_close(found, (1 - kept).sqrt(), rtol=0.01, atol=0)


def test_residual_of_zeros_is_zero() -> None:
    assert kernels.relative_residual(torch.zeros(2, 4, 3), (2, 2)) == 0


def test_projection_does_not_depend_on_the_memory_format() -> None:
    w = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    found = kernels.project(w.to(memory_format=torch.channels_last), (6, 2, 2))
    equal(found, kernels.project(w, (6, 2, 2)))


@pytest.mark.parametrize("count", [0, 5, -1])
def test_a_count_outside_its_axis_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"4 positions has 1 to 4 boxes, got {count}"):
        kernels.project(torch.zeros(2, 4, 3, 3), (count, 2, 2))
    with pytest.raises(ValueError, match=rf"got {count}"):
        kernels.decompose(torch.zeros(2, 6, 4), (3, count))
