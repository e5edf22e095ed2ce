"""Sums of a structured layer as products by ones, where the network runs eagerly on a CPU: what training and scoring do.

A gather or a slice of channels-last memory moves single values, forwards and backwards; a convolution by a matrix of 0, 1 and
-1 multiplies needlessly, but streams (``benchmarks/training_step.py``, with the figures). What is traced, compiled, exported or
counted sees additions; the function is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sconv_search.memory_layout import layout


def traced() -> bool:
    """Whether operations are being recorded rather than carried out for their values alone."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]


def products_pay(x: Tensor) -> bool:
    """Whether sums over the input (N, C, H, W) are faster as products: in channels-last memory, eagerly, on a CPU."""
    if x.dim() != 4 or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or traced():
        return False
    return layout(x) == torch.channels_last


class _Product(torch.autograd.Function):
    """A convolution by a constant kernel; unlike autograd's own it does not keep its input, which only a kernel needs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], groups: int
    ) -> Tensor:  # fmt: skip
        ctx.geometry = padding, dilation, groups
        ctx.save_for_backward(kernel)
        return F.conv2d(x, kernel, padding=padding, dilation=dilation, groups=groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kernel,), (padding, dilation, groups) = ctx.saved_tensors, ctx.geometry
        # of a stride of 1, the transposed convolution gives back the input's size
        with torch.autocast("cpu", enabled=False):
            back = F.conv_transpose2d(grads[0], kernel, padding=padding, dilation=dilation, groups=groups)
        return back, None, None, None, None


def channel_products(x: Tensor, matrix: Tensor) -> Tensor:
    """(N, C, H, W) times (c, C): (N, c, H, W), in the input's own type even under autocast."""
    return _product(x, matrix.to(x.dtype)[:, :, None, None], (0, 0), (1, 1), 1)


def box_products(x: Tensor, boxes: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Sums of (N, C, H, W) over boxes of taps, at stride 1, with zeros around it."""
    return _product(x, x.new_ones(x.shape[1], 1, *boxes), tuple(padding), tuple(dilation), x.shape[1])


def _product(x: Tensor, kernel: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        result: Tensor = _Product.apply(x, kernel, padding, dilation, groups)
    return result
