"""Costs of single operators, worked out by hand; legend: an input of (1, C, H, W) or as the case says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import ops

from sconv_search import Cost, measure_cost
from sconv_search.cost.operator_costs import COSTS, costs_of_operators

Run = Callable[..., Any]


class Runs(nn.Module):
    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(*inputs)


def cost(run: Run, *shapes: tuple[int, ...]) -> Cost:
    return replace(measure_cost(Runs(run), tuple(torch.zeros(shape) for shape in shapes)), activations=0)


def macs(count: int, adds: int = 0) -> Cost:
    return Cost(macs=count, adds=adds, params=0)


def adds(count: int) -> Cost:
    return macs(0, count)


PRODUCTS: dict[str, tuple[Run, list[tuple[int, ...]], Cost]] = {
    "matrices": (torch.matmul, [(2, 3), (3, 5)], macs(2 * 5 * 3)),
    "vectors": (torch.matmul, [(7,), (7,)], macs(7)),
    "matrix and vector": (torch.matmul, [(2, 7), (7,)], macs(2 * 7)),
    "vector and matrix": (torch.matmul, [(7,), (7, 2)], macs(2 * 7)),
    "vector and batch": (torch.matmul, [(7,), (4, 7, 2)], macs(4 * 2 * 7)),
    "broadcast from the left": (torch.matmul, [(5, 8), (3, 4, 8, 6)], macs(3 * 4 * 5 * 6 * 8)),
    "broadcast batches": (torch.matmul, [(3, 1, 5, 8), (4, 8, 6)], macs(3 * 4 * 5 * 6 * 8)),
    "mm": (torch.mm, [(2, 3), (3, 5)], macs(2 * 5 * 3)),
    "bmm": (torch.bmm, [(4, 2, 3), (4, 3, 5)], macs(4 * 2 * 5 * 3)),
    "mv": (torch.mv, [(2, 3), (3,)], macs(2 * 3)),
    "dot": (torch.dot, [(9,), (9,)], macs(9)),
    "vecdot": (lambda x, y: torch.linalg.vecdot(x, y, dim=1), [(2, 9, 3), (2, 9, 3)], macs(2 * 3 * 9)),
    "inner": (torch.inner, [(2, 9), (3, 9)], macs(2 * 3 * 9)),
    "outer": (torch.outer, [(4,), (5,)], macs(4 * 5)),
    "addmm": (torch.addmm, [(5,), (2, 3), (3, 5)], macs(2 * 5 * 3)),
    "addmv": (torch.addmv, [(2,), (2, 3), (3,)], macs(2 * 3)),
    "baddbmm": (torch.baddbmm, [(4, 2, 5), (4, 2, 3), (4, 3, 5)], macs(4 * 2 * 5 * 3)),
    "addbmm": (torch.addbmm, [(2, 5), (4, 2, 3), (4, 3, 5)], macs(2 * 5 * 3 * 4)),
    "tensordot": (lambda x, y: torch.tensordot(x, y, dims=2), [(2, 3, 4), (3, 4, 5)], macs(2 * 5 * 12)),
    "multi_dot": (lambda *x: torch.linalg.multi_dot(x), [(2, 9), (9, 3), (3, 8)], macs(2 * 9 * 3 + 2 * 3 * 8)),
    "bilinear": (F.bilinear, [(6, 2), (6, 3), (4, 2, 3)], macs(6 * 4 * 3 * 2 + 6 * 4 * 3)),
    "linear without batch": (F.linear, [(3,), (5, 3)], macs(5 * 3)),
    "cdist": (torch.cdist, [(2, 6, 4), (2, 5, 4)], macs(2 * 6 * 5 * 4, 2 * 6 * 5 * 4)),
    "affine grid": (
        lambda t: F.affine_grid(t, [2, 3, 4, 5], align_corners=False),
        [(2, 2, 3)],
        macs(2 * 4 * 5 * 2 * 3),
    ),
    "convolution without batch": (F.conv2d, [(3, 6, 6), (4, 3, 3, 3)], macs(4 * 4 * 4 * 27)),
    "transposed convolution": (F.conv_transpose2d, [(2, 3, 5, 5), (3, 4, 2, 2)], macs(2 * 3 * 25 * 4 * 4)),
    "convolution over time": (torch.conv_tbc, [(8, 2, 3), (3, 3, 4), (4,)], macs(6 * 2 * 4 * 3 * 3)),
}


@pytest.mark.parametrize(("run", "shapes", "wanted"), PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_costs_its_outputs_times_the_contracted_length(
    run: Run, shapes: list[tuple[int, ...]], wanted: Cost
) -> None:
    assert cost(run, *shapes) == wanted


EINSUMS: dict[str, tuple[str, list[tuple[int, ...]], Cost]] = {
    "matrices": ("ij,jk->ik", [(2, 3), (3, 5)], macs(2 * 3 * 5)),
    "no arrow": ("ij,jk", [(2, 3), (3, 5)], macs(2 * 3 * 5)),
    "skeletons": ("nctv,kvw->nkctw", [(2, 7, 31, 5), (3, 5, 5)], macs(2 * 3 * 7 * 31 * 5 * 5)),
    "ellipsis": ("...ij,...jk->...ik", [(4, 2, 3), (4, 3, 5)], macs(4 * 2 * 3 * 5)),
    "broadcast ellipsis": ("...ij,jk->...ik", [(6, 4, 2, 3), (3, 5)], macs(6 * 4 * 2 * 3 * 5)),
    "dot": ("i,i->", [(9,), (9,)], macs(9)),
    "outer": ("i,j->ij", [(4,), (5,)], macs(20)),
    "summed first": ("ij,jk->k", [(2, 3), (3, 5)], macs(3 * 5, 2 * 3 - 3)),
    "one operand": ("ij->j", [(2, 3)], adds(2 * 3 - 3)),
    "transposition": ("ij->ji", [(2, 3)], adds(0)),
    "three, from the left": ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], macs(2 * 3 * 4 + 2 * 4 * 5)),
    "an axis of one": ("bij,bjk->bik", [(1, 2, 3), (4, 3, 5)], macs(4 * 2 * 3 * 5)),
}


@pytest.mark.parametrize(("equation", "shapes", "wanted"), EINSUMS.values(), ids=EINSUMS)
def test_einsum_costs_all_its_axes_pair_by_pair(equation: str, shapes: list[tuple[int, ...]], wanted: Cost) -> None:
    assert cost(lambda *x: torch.einsum(equation, *x), *shapes) == wanted


def test_a_chosen_path_of_einsum_is_followed() -> None:
    # from the right: 2 * 60 * 3 + 50 * 2 * 3 where from the left it is 50 * 2 * 60 + 50 * 60 * 3
    shapes = [(50, 2), (2, 60), (60, 3)]
    torch.backends.opt_einsum.enabled, before = False, torch.backends.opt_einsum.enabled
    try:
        assert cost(lambda *x: torch.einsum("ij,jk,kl->il", *x), *shapes) == macs(50 * 2 * 60 + 50 * 60 * 3)
    finally:
        torch.backends.opt_einsum.enabled = before
    right = lambda x, y, z: torch._VF.einsum("ij,jk,kl->il", (x, y, z), path=[1, 2, 0, 1])  # noqa: E731
    assert cost(right, *shapes) == macs(2 * 60 * 3 + 50 * 2 * 3)


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.zeros(6, 5))


ATTENTION = {
    "plain": (F.scaled_dot_product_attention, [(2, 3, 6, 4), (2, 3, 5, 4), (2, 3, 5, 7)], 0),
    "without heads": (F.scaled_dot_product_attention, [(6, 6, 4), (6, 5, 4), (6, 5, 7)], 0),
    "keys shared by a batch": (F.scaled_dot_product_attention, [(2, 3, 6, 4), (1, 1, 5, 4), (1, 1, 5, 7)], 0),
    "with an added mask": (masked, [(2, 3, 6, 4), (2, 3, 5, 4), (2, 3, 5, 7)], 2 * 3 * 6 * 5),
}


@pytest.mark.parametrize(("run", "shapes", "mask"), ATTENTION.values(), ids=ATTENTION)
def test_attention_costs_both_products_and_the_scale(run: Run, shapes: list[tuple[int, ...]], mask: int) -> None:
    scores = 6 * 6 * 5
    assert cost(run, *shapes) == macs(scores * 4 + scores * 7, 6 * 6 * 4 + mask)


def test_attention_by_groups_of_heads_costs_the_querys_heads() -> None:
    run = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)  # noqa: E731
    assert cost(run, (2, 4, 6, 4), (2, 2, 5, 4), (2, 2, 5, 4)).macs == 2 * (2 * 4 * 6 * 5) * 4


def test_a_multi_head_attention_layer_costs_its_products_frozen_or_not() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    projections, products = 4 * 5 * 8 * 8, 2 * 2 * 5 * 5 * 4
    assert measure_cost(layer, ((5, 8),) * 3).macs == projections + products
    assert measure_cost(layer.requires_grad_(False), ((5, 8),) * 3).macs == projections + products


def test_a_transformer_layer_is_counted_inside() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(False).eval()
    assert measure_cost(layer, (5, 8)).macs == 4 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 4 + 2 * 5 * 8 * 16


STEPS, INPUTS, HIDDEN = 7, 3, 4
RECURRENT = {  # gates, additions a hidden number
    "LSTM": (nn.LSTM(INPUTS, HIDDEN), 4, 8, 1),
    "two layers": (nn.LSTM(INPUTS, HIDDEN, 2), 4, 8, 2),
    "both ways": (nn.LSTM(INPUTS, HIDDEN, bidirectional=True), 4, 8, 2),
    "no bias": (nn.LSTM(INPUTS, HIDDEN, bias=False), 4, 8, 1),
    "GRU": (nn.GRU(INPUTS, HIDDEN), 3, 8, 1),
    "plain": (nn.RNN(INPUTS, HIDDEN), 1, 1, 1),
    "plain by ReLU": (nn.RNN(INPUTS, HIDDEN, nonlinearity="relu"), 1, 1, 1),
    "projected": (nn.LSTM(INPUTS, HIDDEN, proj_size=2), 4, 8, 1),
}


@pytest.mark.parametrize(("layer", "gates", "each", "cells"), RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_use_each_weight_once_a_step(layer: nn.RNNBase, gates: int, each: int, cells: int) -> None:
    weights = sum(w.numel() for name, w in layer.named_parameters() if "weight" in name)
    measured = measure_cost(layer, (torch.zeros(STEPS, 2, INPUTS),))
    assert (measured.macs, measured.adds) == (STEPS * 2 * weights, STEPS * 2 * HIDDEN * each * cells)


@pytest.mark.parametrize(
    ("layer", "macs_"), [(nn.LSTMCell(3, 4), 16 * 7), (nn.GRUCell(3, 4), 12 * 7), (nn.RNNCell(3, 4), 4 * 7)]
)
def test_recurrent_cells_cost_one_step(layer: nn.Module, macs_: int) -> None:
    assert measure_cost(layer, (torch.zeros(5, 3),)).macs == 5 * macs_


N = 2 * 3 * 8 * 6
IMAGE = (2, 3, 8, 6)
ELEMENTWISE = (
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "abs",
    "sin",
    "cos",
    "neg",
    "square",
    "reciprocal",
    "erf",
    "log1p",
    "expm1",
    "frac",
    "atan",
)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_arithmetic_costs_one_addition_an_element(name: str) -> None:
    assert cost(getattr(torch, name), IMAGE) == adds(N)
    assert cost(lambda x: getattr(x.clone(), f"{name}_")(), IMAGE) == adds(N)


OTHERS: dict[str, tuple[Run, int]] = {
    "power": (lambda x: x**3, N),
    "lerp": (lambda x: torch.lerp(x, x, 0.5), 3 * N),
    "addcmul": (lambda x: torch.addcmul(x, x, x), 2 * N),
    "addcdiv": (lambda x: torch.addcdiv(x, x, x), 2 * N),
    "atan2": (lambda x: torch.atan2(x, x), N),
    "variance": (lambda x: x.var(1), N),
    "deviation": (lambda x: x.std((2, 3)), N),
    "variance and mean": (lambda x: torch.var_mean(x, 1), 2 * N),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=1), N),
    "old norm": (lambda x: x.norm(dim=1), N),
    "normalize": (lambda x: F.normalize(x, dim=1), N + N),
    "product of all": (lambda x: x.prod(1), N),
    "logsumexp": (lambda x: x.logsumexp(1), N),
    "running sum": (lambda x: x.cumsum(1), N),
    "cosine similarity": (lambda x: F.cosine_similarity(x, x), 6 * N),
    "scatter_add": (lambda x: torch.zeros(2, 3, 8, 6).scatter_add(1, torch.zeros(2, 3, 8, 6, dtype=torch.long), x), N),
    "index_add": (lambda x: torch.zeros(2, 1, 8, 6).index_add(1, torch.zeros(3, dtype=torch.long), x), N),
    "fold": (lambda x: F.fold(x.reshape(2, 24, 6), (4, 6), 2, stride=2), N),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[1:]), 4 * N),
    "group norm": (lambda x: F.group_norm(x, 3), 4 * N),
    "instance norm": (lambda x: F.instance_norm(x), 4 * N),
    "root mean square norm": (lambda x: F.rms_norm(x, (6,)), 2 * N),
    "batch norm by its own statistics": (lambda x: F.batch_norm(x, None, None, training=True), 4 * N),
    "linear interpolation": (lambda x: F.interpolate(x.flatten(2), scale_factor=2, mode="linear"), 2 * N * 3),
    "bilinear interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 4 * N * 7),
    "bicubic interpolation": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 4 * N * 31),
    "trilinear interpolation": (lambda x: F.interpolate(x[None], scale_factor=2, mode="trilinear"), 8 * N * 15),
    "samples from a grid": (lambda x: F.grid_sample(x, torch.zeros(2, 4, 4, 2), align_corners=False), 2 * 3 * 16 * 7),
    "nearest samples": (lambda x: F.grid_sample(x, torch.zeros(2, 4, 4, 2), mode="nearest", align_corners=False), 0),
    "regions": (lambda x: ops.roi_align(x, torch.zeros(5, 5), 2, sampling_ratio=2), 5 * 3 * 4 * 4 * 8),
    "average of a batchless image": (lambda x: F.avg_pool2d(x[0], 2), 3 * 4 * 3 * 4),
}


@pytest.mark.parametrize(("run", "wanted"), OTHERS.values(), ids=OTHERS)
def test_other_arithmetic_is_counted_by_its_kind(run: Run, wanted: int) -> None:
    assert cost(run, IMAGE) == adds(wanted)


def test_weights_and_biases_of_normalization_cost_an_addition_each() -> None:
    for layer in (nn.LayerNorm(6), nn.GroupNorm(3, 3), nn.InstanceNorm2d(3, affine=True)):
        assert measure_cost(layer, (3, 8, 6)).adds == 6 * 3 * 8 * 6
    assert measure_cost(nn.RMSNorm(6), (3, 8, 6)).adds == 3 * 3 * 8 * 6
    assert measure_cost(nn.BatchNorm2d(3, track_running_stats=False), (3, 8, 6)).adds == 6 * 3 * 8 * 6
    assert measure_cost(nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (3, 8, 6)).adds == 0


FREE: dict[str, Run] = {
    "activations": lambda x: F.selu(F.mish(F.celu(F.softplus(F.glu(torch.cat((x, x), 1), 1))))),
    "softmax": lambda x: x.softmax(1).log_softmax(2),
    "rounding": lambda x: x.ceil().round().floor().trunc().sign(),
    "limits": lambda x: x.clamp(0, 1).clamp_min(0).clamp_max(2),
    "comparisons": lambda x: torch.where((x > 0) & (x.ne(1) | ~(x < 0)), torch.maximum(x, x), x),
    "extremes": lambda x: (
        x.max(1),
        x.min(),
        x.amax((2, 3)),
        x.argmax(1),
        x.topk(2, 1),
        x.sort(1),
        x.median(),
        x.cummax(1),
    ),
    "masks": lambda x: x.masked_fill(x > 0, 0.0).tril().triu(),
    "new tensors": lambda x: (
        torch.zeros_like(x),
        torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij"),
        x.new_ones(3),
    ),
    "filling": lambda x: x.clone().fill_(1).zero_(),
    "reshaping": lambda x: x.reshape_as(x).tile(2).repeat_interleave(2, 1).view_as(x.tile(2).repeat_interleave(2, 1)),
    "moving": lambda x: x.flip(2).roll(1, 3).rot90(1, (2, 3)),
    "splitting": lambda x: (x.tensor_split(3, 1), x.chunk(2), x.split(1, 1), x.unbind(1), x.unfold(2, 2, 1)),
    "unfolding": lambda x: F.unfold(x, 2),
    "shuffling": lambda x: F.pixel_unshuffle(x, 2),
    "nearest": lambda x: F.interpolate(F.interpolate(x, scale_factor=2), scale_factor=2, mode="nearest-exact"),
    "pooling by maxima": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "adaptive maxima": lambda x: F.adaptive_max_pool2d(x, 2),
    "looking up": lambda x: F.embedding(torch.zeros(5, dtype=torch.long), x[0, 0]),
    "indexing": lambda x: (
        x[:, [0, 2]],
        x.gather(1, torch.zeros(2, 3, 8, 6, dtype=torch.long)),
        x.index_select(1, torch.arange(2)),
    ),
    "one hot": lambda x: F.one_hot(x.long(), 4),
    "types": lambda x: x.half().float().to(torch.float64),
    "boxes": lambda x: ops.nms(x[0, 0, :, :4], x[0, 0, :, 0], 0.5),
    "padding": lambda x: F.pad(F.pad(x, (1, 1, 1, 1), mode="circular"), (1, 1, 1, 1), mode="reflect"),
}


@pytest.mark.parametrize("run", FREE.values(), ids=FREE)
def test_moving_comparing_selecting_and_activating_cost_nothing(run: Run) -> None:
    assert cost(run, IMAGE) == adds(0)


@pytest.mark.parametrize(("axes", "run"), [(1, F.max_unpool1d), (2, F.max_unpool2d), (3, F.max_unpool3d)])
def test_unpooling_gives_its_shape_to_the_layers_after_it(axes: int, run: Run) -> None:
    conv, pool = getattr(nn, f"Conv{axes}d")(2, 2, 1, bias=False), getattr(F, f"max_pool{axes}d")

    def forward(x: Tensor) -> Tensor:
        small, places = pool(x, 2, return_indices=True)
        return conv(run(small, places, 2, output_size=x.shape[2:]))  # type: ignore[no-any-return]

    assert measure_cost(Runs(forward), (2, *(5,) * axes)).macs == 2 * 2 * 5**axes


def test_a_deformable_convolution_costs_its_samples_too() -> None:
    layer = ops.DeformConv2d(4, 6, 3, padding=1, bias=False)
    measured = measure_cost(layer, ((4, 5, 5), (18, 5, 5), (9, 5, 5)))
    assert (measured.macs, measured.adds) == (6 * 25 * 4 * 9, (7 + 1) * 25 * 4 * 9)


def test_antialiased_interpolation_reads_more_as_the_image_shrinks() -> None:
    def run(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(4, 3), mode="bilinear", antialias=True)

    taps = 2 * 2 + 1  # from 8 to 4: a radius of 2
    assert cost(run, IMAGE) == adds(2 * 3 * (8 * 3 + 4 * 3) * (2 * taps - 1))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Spectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).abs()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def test_functions_with_a_gradient_of_their_own_are_counted_inside() -> None:
    assert cost(Swish.apply, IMAGE) == adds(N)
    with pytest.raises(ValueError, match="aten::fft_rfft, run by the function Spectrum"):
        cost(Spectrum.apply, IMAGE)


def test_every_name_in_the_table_is_an_operator_of_torch() -> None:
    assert [name for name in COSTS if not torch._C._jit_get_schemas_for_operator(f"aten::{name}")] == []


def test_all_views_and_elementwise_operators_of_torch_have_a_cost() -> None:
    known = costs_of_operators()
    missing = {
        schema.name
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("aten::")
        and schema.name not in known
        and "_copy" not in schema.name
        and tagged(schema)
    }
    assert missing == set()


def tagged(schema: Any) -> bool:
    operator = getattr(torch.ops.aten, schema.name.removeprefix("aten::"), None)
    overload = getattr(operator, schema.overload_name or "default", None)
    return overload is not None and torch.Tag.pointwise in overload.tags
