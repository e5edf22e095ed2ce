"""What one input costs a network, counted on the network as it is built. The only user of fvcore.

What is counted: convolutions, linear layers and matrix products in MACs; every other addition, subtraction, elementwise
multiplication and average in ``adds``, one for each. What counts nothing: moving and padding data, comparisons (ReLU,
max-pooling), activation functions, the bias of a convolution or linear layer (the MACs start from it), and batch
norm, which folds into the convolution before it at inference. An operator outside these tables is refused by name.
``activations`` are the numbers that the counted operators write.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from sconv_search.cost.tracing import OnShapes
from sconv_search.records import Cost
from sconv_search.system.copying import copied

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore scripts a function on import, which torch announces as deprecated
    from fvcore.nn.jit_analysis import JitModelAnalysis
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        bmm_flop_jit,
        conv_flop_jit,
        einsum_flop_jit,
        linear_flop_jit,
        matmul_flop_jit,
    )

Handle = Callable[[list[Any], list[Any]], Counter[str]]
Result = TypeVar("Result")


def _elements(value: Any) -> int:
    """Elements of a traced tensor; 0 for numbers, which appear in the trace when shapes are computed."""
    sizes = value.type().sizes() if value.isCompleteTensor() else None
    return math.prod(sizes) if sizes else 0


def _macs(count: Callable[[list[Any], list[Any]], Any]) -> Handle:
    """fvcore's handle; it counts a multiply-accumulate as one flop, which is our MAC."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        found = count(inputs, outputs)
        macs = int(sum(found.values()) if isinstance(found, Counter) else found)
        return Counter(macs=macs, activations=_elements(outputs[0]))

    return handle


def _adds(count: int, outputs: list[Any]) -> Counter[str]:
    return Counter(adds=count, activations=_elements(outputs[0]))


def _one_an_output(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _adds(_elements(outputs[0]), outputs)


def _sum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _adds(_elements(inputs[0]) - _elements(outputs[0]), outputs)


def _mean(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The sum's additions, and one division an output."""
    return _adds(_elements(inputs[0]), outputs)


def _adaptive_mean(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``adaptive_avg_pool``: output i of an axis reads floor(i size / out) to ceil((i + 1) size / out); windows may
    overlap.
    """
    sizes = zip(inputs[0].type().sizes(), outputs[0].type().sizes(), strict=True)
    return _adds(
        math.prod(sum(-(-(i + 1) * size // out) - i * size // out for i in range(out)) for size, out in sizes), outputs
    )


def _window_mean(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``avg_pool``: a window's additions and one division, for each output."""
    kernel = inputs[1].toIValue() or [size.toIValue() for size in inputs[1].node().inputs()]
    if None in kernel:
        raise ValueError(
            "the window of an avg_pool is computed from the input, so cannot be counted; use adaptive_avg_pool"
        )
    axes = len(outputs[0].type().sizes()) - 2
    window = math.prod(kernel) if len(kernel) == axes else kernel[0] ** axes
    return _adds(window * _elements(outputs[0]), outputs)


def _bilinear(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``upsample_bilinear2d``: each output is a sum of four inputs by weights: four multiplications, three
    additions.
    """
    return _adds(7 * _elements(outputs[0]), outputs)


def _named_padding_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution padded by 'same' or 'valid', which fvcore does not know: the taps of one filter, for each
    output.
    """
    written = _elements(outputs[0])
    return Counter(macs=written * math.prod(inputs[1].type().sizes()[1:]), activations=written)


def _free(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter()


MACS = {
    **dict.fromkeys(("aten::_convolution", "aten::convolution"), conv_flop_jit),
    "aten::linear": linear_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::matmul": matmul_flop_jit,
    **dict.fromkeys(("aten::bmm",), bmm_flop_jit),
    "aten::einsum": einsum_flop_jit,
}
ONE_AN_OUTPUT = ("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "neg", "square")
FREE = (
    "batch_norm",
    "dropout_",
    "feature_dropout",
    "hardswish",
    "hardswish_",
    "silu",
    "silu_",
    "sigmoid",
    "sigmoid_",
    "hardsigmoid",
    "hardsigmoid_",
    "hardtanh",
    "hardtanh_",
    "gelu",
    "elu",
    "elu_",
    "leaky_relu",
    "leaky_relu_",
    "prelu",
    "tanh",
    "softmax",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "adaptive_max_pool2d",
    "pad",
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "clone",
    "alias",
    "index_select",
    "channel_shuffle",
    "pixel_shuffle",
    "unflatten",
    "concat",
    "movedim",
    "view_as",
    "expand_as",
    "repeat",
    "unfold",
    "broadcast_to",
    "numel",
    "swapaxes",
    "zeros_like",
    "native_channel_shuffle",
    "identity",
    "clip",
    "amax",
    "relu6",
    "relu6_",
    "upsample_nearest2d",
)

OP_HANDLES: dict[str, Handle] = {
    **{f"aten::{name}": _free for name in FREE},
    **{f"aten::{name}": _one_an_output for name in ONE_AN_OUTPUT},
    "aten::mean": _mean,
    **{f"aten::avg_pool{axes}d": _window_mean for axes in (1, 2, 3)},
    **{f"aten::adaptive_avg_pool{axes}d": _adaptive_mean for axes in (1, 2, 3)},
    "aten::sum": _sum,
    "aten::upsample_bilinear2d": _bilinear,
    "aten::_convolution_mode": _named_padding_macs,
    **{name: _macs(count) for name, count in MACS.items()},
}


def example_input(network: nn.Module, input_shape: Sequence[int], batch: int = 1) -> torch.Tensor:
    """Zeros of (batch, *input_shape) with the type and device of the network's weights.

    Raises:
        ValueError: the shape is not made of positive whole numbers.
    """
    if not input_shape or any(not isinstance(size, int) or size < 1 for size in input_shape):
        raise ValueError(f"input_shape must hold positive whole numbers without the batch, got {tuple(input_shape)}")
    weight = next((w for w in network.parameters() if w.is_floating_point()), torch.zeros(()))
    return torch.zeros(batch, *input_shape, dtype=weight.dtype, device=weight.device)


def require_forward(network: nn.Module, input_shape: Sequence[int]) -> None:
    """Runs the network (in evaluation mode) once on zeros of that shape.

    Raises:
        ValueError: its forward fails; shape and cause are given.
    """
    try:
        with torch.no_grad():
            network(example_input(network, input_shape))
    except Exception as error:  # of any kind: the forward is the user's own
        words = str(error) if isinstance(error, RuntimeError) and str(error) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{type(network).__name__} fails on an input of shape {tuple(input_shape)}: {words}"
        ) from error


def measure_cost(network: nn.Module, input_shape: Sequence[int]) -> Cost:
    """MACs, other additions and parameters of the network for one input; exact integers.

    Args:
        network: any module that takes one tensor; it is copied, and measured in evaluation mode.
        input_shape: shape of one input, without the batch: ``(3, 32, 32)``.

    Raises:
        ValueError: the network's forward fails on the shape, or runs an operator that has no handle.

    >>> measure_cost(nn.Linear(8, 4), (8,))
    Cost(macs=32, adds=0, params=36)
    """
    analysis = _analysis(network, input_shape)
    counts = analysis.by_operator()
    params = sum(weight.numel() for weight in network.parameters())
    return _cost(counts, params)


def measure_modules(network: nn.Module, input_shape: Sequence[int]) -> dict[str, Cost]:
    """The cost of each named module, what is inside it included, for one input; exact integers.

    Raises:
        ValueError: as ``measure_cost``.
    """
    counts = _analysis(network, input_shape).by_module_and_operator()
    found = {}
    for name, module in network.named_modules():
        params = sum(weight.numel() for weight in module.parameters())
        found[name] = _cost(counts[name], params)
    return found


def cost_of_calls(layer: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Cost:
    """A layer's cost over all its calls; its parameters count once. A layer that is never called costs its
    parameters.
    """
    params = sum(weight.numel() for weight in layer.parameters())
    total = sum((measure_cost(layer, shape) for shape in shapes), start=Cost(macs=0, adds=0, params=0))
    return replace(total, params=params)


def _cost(counts: Mapping[str, int], params: int) -> Cost:
    return Cost(params=params, **{name: int(counts[name]) for name in ("macs", "adds", "activations")})


def _analysis(network: nn.Module, input_shape: Sequence[int]) -> JitModelAnalysis:
    """fvcore's counts of a copy in evaluation mode, every operator known; of shapes alone where they suffice."""
    return on_shapes(network, lambda measured: _analysed(measured, input_shape))


def _analysed(measured: nn.Module, input_shape: Sequence[int]) -> JitModelAnalysis:
    analysis = JitModelAnalysis(measured, (example_input(measured, input_shape),))
    analysis.set_op_handle(**OP_HANDLES).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    try:
        analysis.total()
    except Exception:  # of any kind: the forward is the user's own
        require_forward(measured, input_shape)  # says it in words
        raise
    if missing := analysis.unsupported_ops():
        raise ValueError(f"no cost handle for {', '.join(sorted(missing))}; add one to OP_HANDLES in measurement.py")
    return analysis


def on_shapes(network: nn.Module, work: Callable[[nn.Module], Result]) -> Result:
    """What the work gives for a copy in evaluation mode whose tensors have shapes and no values: forwards take no time.

    Batch norms and activations, which keep shapes, are left out of them.

    Where that fails, because a forward reads values or an operator knows no shapes, it is done for a full copy; so the
    work must leave nothing behind when it fails.
    """
    memo: dict[int, Any] = {id(x): nn.Parameter(x.detach().to("meta"), x.requires_grad) for x in network.parameters()}
    memo |= {id(x): x.to("meta") for x in network.buffers()}
    try:
        with OnShapes():
            return work(copied(network, memo=memo).eval())
    except Exception:  # of any kind: the forward is the user's own, and the full copy raises what is wrong with it
        return work(copied(network).eval())
