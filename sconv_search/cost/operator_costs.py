"""What each operator of a trace costs, decided by its kind.

- Products of matrices count multiply-accumulates: output elements times contracted length (``product_costs``).
- Elementwise arithmetic counts one addition an element that it writes; an operator that fuses several steps counts
each.
- A reduction counts one addition an element that it reads; a plain sum one less an output.
- Normalization counts four additions an element (mean, variance, difference, quotient; of root mean squares two), one
more for a
  weight, one more for a bias.
- Interpolation from T neighbors counts T multiplications and T - 1 additions an output.
- Nothing: movement, views, comparisons, selection, rounding, logic, indexing, new tensors, activation functions,
softmax,
  and batch norm by running statistics, which folds into the convolution before it.

Whether an operator is elementwise, a reduction, a view or makes a new tensor is read from torch's own tags and schemas;
the tables below hold what these do not say. An operator that neither knows has no cost.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Any

import torch

from sconv_search.cost.product_costs import (
    BILINEAR_SAMPLE,
    PRODUCTS,
    Handle,
    constant,
    counted,
    deformable_convolution,
    elements,
    is_given,
    shape_of,
)

ADAPTIVE_SAMPLES = 2
"""Samples along an axis of a cell, where ``roi_align`` chooses their number by the size of the region."""


def free(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Costs nothing."""
    return Counter()


def each_output(additions: int = 1) -> Handle:
    """So many additions for each element of the result; none where that is true or false."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        result = outputs[0].type()
        if result.kind() == "TensorType" and result.scalarType() == "Bool":
            return Counter()
        return counted(0, outputs, additions * elements(outputs[0]))

    return handle


def each_input(additions: int = 1, argument: int = 0) -> Handle:
    """So many additions for each element of an argument."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        return counted(0, outputs, additions * elements(inputs[argument]))

    return handle


def each_pair(additions: int) -> Handle:
    """So many additions for each element of the first two arguments, broadcast to each other."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        shape = torch.broadcast_shapes(shape_of(inputs[0]), shape_of(inputs[1]))
        return counted(0, outputs, additions * math.prod(shape))

    return handle


def total(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A sum: as many additions as elements, less one an output."""
    return counted(0, outputs, elements(inputs[0]) - elements(outputs[0]))


def diagonal_total(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``trace``: a sum over the diagonal."""
    return counted(0, outputs, min(shape_of(inputs[0])) - 1)


def adaptive_mean(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``adaptive_avg_pool``: output i of an axis reads floor(i size / out) to ceil((i + 1) size / out); windows may
    overlap.
    """
    sizes = zip(shape_of(inputs[0]), shape_of(outputs[0]), strict=True)
    reads = math.prod(sum(-(-(i + 1) * size // out) - i * size // out for i in range(out)) for size, out in sizes)
    return counted(0, outputs, reads)


def window_mean(axes: int) -> Handle:
    """``avg_pool``: a window's additions and one division, for each output.

    Raises:
        ValueError: the window is not in the trace.
    """

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        exponent = constant(inputs[1])
        kernel = exponent if isinstance(exponent, list) else [exponent]
        if None in kernel:
            raise ValueError(
                "the window of an avg_pool is computed from the input, so cannot be counted; use adaptive_avg_pool"
            )
        window = math.prod(kernel) if len(kernel) == axes else kernel[0] ** axes
        return counted(0, outputs, window * elements(outputs[0]))

    return handle


def normalization(additions: int, *affine: int) -> Handle:
    """So many additions an element, and one more for each of these arguments that is given: weight and bias."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        given = sum(is_given(inputs, index) for index in affine)
        return counted(0, outputs, (additions + given) * elements(inputs[0]))

    return handle


def normalization_by_running_statistics(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``batch_norm`` and ``instance_norm``: nothing, unless they take the statistics of what they read."""
    own = bool(inputs[5].toIValue()) or not is_given(inputs, 3)
    return normalization(4, 1, 2)(inputs, outputs) if own else Counter()


def interpolation(neighbors: int) -> Handle:
    """Each output is a sum of so many inputs by weights."""
    return each_output(2 * neighbors - 1)


def sampling(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``grid_sampler(x, grid, mode, ...)``: interpolation, bilinear (0), nearest (1) or bicubic (2)."""
    axes, mode = shape_of(inputs[1])[-1], inputs[2].toIValue()
    return Counter() if mode == 1 else interpolation((2 if mode == 0 else 4) ** axes)(inputs, outputs)


def antialiased(radius: int) -> Handle:
    """Interpolation whose neighbors grow as the image shrinks, along the columns, then along the rows."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        (*batch, rows, columns), (*_, new_rows, new_columns) = shape_of(inputs[0]), shape_of(outputs[0])
        along_rows, along_columns = (
            2 * (2 * math.ceil(radius * max(1.0, old / new)) + 1) - 1
            for old, new in ((rows, new_rows), (columns, new_columns))
        )
        adds = rows * new_columns * along_columns + new_rows * new_columns * along_rows
        return counted(0, outputs, math.prod(batch) * adds)

    return handle


def region_mean(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``roi_align(x, boxes, scale, height, width, samples, ...)``: a mean of samples, each by bilinear
    interpolation.
    """
    samples = inputs[5].toIValue()
    each = (samples if samples and samples > 0 else ADAPTIVE_SAMPLES) ** 2
    return counted(0, outputs, (BILINEAR_SAMPLE + 1) * each * elements(outputs[0]))


def bag_sum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``embedding_bag(weights, indices, ...)``: one addition a number that is looked up."""
    return counted(0, outputs, elements(inputs[1]) * shape_of(inputs[0])[-1])


FREE = {
    "activation functions": (
        "celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_softmax logit mish "
        "prelu relu relu6 rrelu selu sigmoid silu softmax _softmax _log_softmax softplus softshrink special_expit "
        "tanh threshold _safe_softmax dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout "
    ),
    "comparison, selection, rounding, logic": (
        "aminmax all allclose amax amin any argmax argmin argsort argwhere bincount bucketize ceil clamp clamp_max "
        "clamp_min clip copysign count_nonzero cummax cummin equal fix floor floor_divide fmax fmin heaviside histc "
        "isclose isin kthvalue logical_and logical_not logical_or logical_xor max maximum median min minimum mode "
        "msort nan_to_num nanmedian nanquantile nextafter positive quantile remainder round searchsorted sgn sign "
        "signbit sort topk trunc unique_consecutive unique_dim _unique _unique2 where bitwise_and bitwise_not "
        "bitwise_or bitwise_xor __and__ __or__ __xor__ isnan isinf isfinite nonzero nonzero_numpy adaptive_max_pool1d "
        "adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d max_pool1d "
        "max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d "
        "max_unpool3d "
    ),
    "movement and indexing": (
        "alias block_diag broadcast_tensors broadcast_to cartesian_prod cat channel_shuffle clone column_stack "
        "combinations concat concatenate constant_pad_nd contiguous copy copy_ diag diag_embed diagflat dstack "
        "embedding expand_as fill fill_ flip fliplr flipud gather hstack im2col index index_copy index_fill index_put "
        "_unsafe_index _unsafe_index_put index_select masked_fill masked_scatter masked_select meshgrid "
        "native_channel_shuffle one_hot pad pad_sequence pixel_shuffle pixel_unshuffle put repeat repeat_interleave "
        "reshape_as roll rot90 row_stack scatter select_scatter diagonal_scatter set_ slice_scatter stack take "
        "take_along_dim tile to tril triu type_as unfold unflatten unsafe_chunk unsafe_split unsafe_split_with_sizes "
        "_unsafe_view vstack zero zero_ fft_fftshift fft_ifftshift _to_copy _reshape_copy _index_put_impl "
        "fill_diagonal_ narrow_copy random poisson atleast_1d atleast_2d atleast_3d as_strided_scatter lift linspace "
        "logspace requires_grad_ _pin_memory _pack_padded_sequence _pad_packed_sequence reflection_pad1d "
        "reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d _pad_circular "
        "_pad_enum upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d "
    ),
    "numbers, shapes, types and new tensors": (
        "Bool Float FloatImplicit Int IntImplicit ScalarImplicit _local_scalar_dense bernoulli complex dim "
        "element_size empty_like full_like is_nonzero item len multinomial new_empty new_empty_strided new_full "
        "new_ones new_zeros normal numel ones_like rand_like randint_like randn_like size stride _shape_as_tensor "
        "sym_size sym_numel uniform zeros_like exponential polar _assert_async _assert_tensor_metadata "
        "_nested_tensor_from_mask resize resize_as lift_fresh lift_fresh_copy "
    ),
}
"""Operators of ``aten`` that cost nothing and are not views, by what they do."""

COSTS: dict[str, Handle] = {
    **{name: free for names in FREE.values() for name in names.split()},
    "sum": total,
    "trace": diagonal_total,
    "mean": each_input(),
    **dict.fromkeys(
        ("cumsum", "cumprod", "logcumsumexp", "col2im", "linalg_norm", "nanmean", "frobenius_norm"), each_input()
    ),
    **dict.fromkeys(("var_mean", "std_mean"), each_input(2)),
    **dict.fromkeys(("index_add", "index_reduce"), each_input(argument=3)),
    **dict.fromkeys(("scatter_add", "scatter_reduce"), each_input(argument=2)),
    "embedding_bag": bag_sum,
    "sum_to_size": total,
    "_weight_norm": each_input(2),
    "norm_except_dim": each_input(),
    **dict.fromkeys(("addcmul", "addcdiv"), each_output(2)),
    "lerp": each_output(3),
    **dict.fromkeys(("linalg_cross", "cross"), each_output(3)),
    "diff": each_output(),
    "cosine_similarity": each_pair(6),
    "pairwise_distance": each_pair(3),
    "dist": each_pair(2),
    **{f"avg_pool{axes}d": window_mean(axes) for axes in (1, 2, 3)},
    **{f"adaptive_avg_pool{axes}d": adaptive_mean for axes in (1, 2, 3)},
    "_adaptive_avg_pool2d": adaptive_mean,
    "layer_norm": normalization(4, 2, 3),
    "native_layer_norm": normalization(4, 2, 3),
    "group_norm": normalization(4, 2, 3),
    "native_group_norm": normalization(4, 1, 2),
    "rms_norm": normalization(2, 2),
    "_fused_rms_norm": normalization(2, 2),
    "batch_norm": normalization_by_running_statistics,
    "instance_norm": normalization_by_running_statistics,
    "upsample_linear1d": interpolation(2),
    "upsample_bilinear2d": interpolation(4),
    "upsample_trilinear3d": interpolation(8),
    "upsample_bicubic2d": interpolation(16),
    "_upsample_bilinear2d_aa": antialiased(1),
    "_upsample_bicubic2d_aa": antialiased(2),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), sampling),
    **PRODUCTS,
}
OUTSIDE = {
    "torchvision::deform_conv2d": deformable_convolution,
    "torchvision::roi_align": region_mean,
    "torchvision::roi_pool": free,
    "torchvision::nms": free,
    **dict.fromkeys((f"profiler::_record_function_{name}" for name in ("enter", "enter_new", "exit")), free),
}
"""Operators of other libraries."""


@cache
def costs_of_operators() -> dict[str, Handle]:
    """Operator, as ``aten::add``, -> what it costs; one that writes in place costs what its other form does."""
    schemas: dict[str, list[Any]] = {}
    for schema in torch._C._jit_get_all_schemas():
        space, _, name = schema.name.partition("::")
        if space == "aten" and not any(argument.is_out for argument in schema.arguments):
            schemas.setdefault(name, []).append(schema)
    decided = {name: handle for name, own in schemas.items() if (handle := _by_kind(name, own))} | COSTS
    for name in schemas:
        other = name.removesuffix("_").removeprefix("special_")
        if name not in COSTS and other != name and other in decided:
            decided[name] = decided[other]
    return {f"aten::{name}": handle for name, handle in decided.items()} | OUTSIDE


def _by_kind(name: str, schemas: list[Any]) -> Handle | None:
    """The cost of an operator by torch's tags and the schemas of its overloads; None where they do not say it."""
    writing = [schema for schema in schemas if any("Tensor" in str(value.type) for value in schema.returns)]
    if all(value.alias_info and not value.alias_info.is_write for schema in writing for value in schema.returns):
        return free  # a view; or numbers, which no schema here returns as tensors
    if not any("Tensor" in str(value.type) for schema in schemas for value in schema.arguments):
        return free  # a new tensor
    tags = {tag for schema in schemas for tag in _tags(name, schema.overload_name)}
    if torch.Tag.view_copy in tags:
        return free
    if torch.Tag.reduction in tags:
        return each_input()
    return each_output() if torch.Tag.pointwise in tags else None


def _tags(name: str, overload: str) -> list[torch.Tag]:
    operator = getattr(torch.ops.aten, name, None)  # a few names of scripted code are no operators of tensors
    return list(getattr(operator, overload or "default").tags) if operator else []
