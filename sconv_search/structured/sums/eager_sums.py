"""Sums of a structured layer as products by ones, where the network runs eagerly on a CPU: what training and scoring
do.

A gather or a slice of channels-last memory moves single values, forwards and backwards; a convolution by a matrix of 0,
1 and
-1 multiplies needlessly, but streams (``benchmarks/training/step.py``, with the figures). What is traced, compiled,
exported or counted sees additions; the function is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from sconv_search.system.memory_format import layout

# Sums made again in the backward pass rather than kept: training a structured layer takes no more memory than its dense
# one.
#
# A convolution keeps its input for the gradient of its kernel. The dense layer's input is kept anyhow where a ReLU
# wrote it, which keeps its own output; the sums would come on top (ResNet-20 with two taps an axis: 1.53 times the
# dense network's peak). They are cheap to make again from that input.

KEEP_THEIR_OUTPUT = ("ReluBackward", "SigmoidBackward", "TanhBackward", "SoftmaxBackward", "EluBackward", "ExpBackward")
"""Operations whose backward pass reads what they wrote, by the beginning of autograd's name for it."""


_KEEPS: ContextVar[bool] = ContextVar("keeps", default=False)


@contextmanager
def sums_kept() -> Iterator[None]:
    """Structured layers that run within keep their sums for the backward pass: more memory, fewer computations.

    On a CPU a training step of ResNet-20 or ResNet-18 then takes 0.88 to 0.95 of the time
    (``benchmarks/training/memory.py`` has the memory).
    """
    before = _KEEPS.set(True)
    try:
        yield
    finally:
        _KEEPS.reset(before)


def recomputed(sums: Tensor, x: Tensor, again: Callable[[Tensor], Tensor]) -> AbstractContextManager[object]:
    """A context in which autograd keeps ``x`` instead of ``sums``, and calls ``again(x)`` when it needs them.

    It changes nothing where no gradient is recorded, and where the sums are smaller than an x that nothing else keeps.

    Args:
        sums: what ``again(x)`` returned, in the type in which it is used.
    """
    if _KEEPS.get() or not plain() or not torch.is_grad_enabled() or not _hooks_are_enabled():
        return nullcontext()
    if sums is x or not (_is_kept(x) or sums.numel() * sums.element_size() >= x.numel() * x.element_size()):
        return nullcontext()
    source, version = x.detach(), x._version

    def pack(saved: Tensor) -> Any:
        return None if saved.data_ptr() == sums_at and saved.shape == shape else saved

    def unpack(kept: Any) -> Tensor:
        if kept is not None:
            return kept  # type: ignore[no-any-return]
        if source._version != version:
            raise RuntimeError(
                f"the input of a structured layer, {tuple(source.shape)}, was modified in place after the layer read"
                " it, and its gradient needs it; modify a copy"
            )
        with torch.no_grad():
            return again(source).to(dtype)

    sums_at, shape, dtype = sums.data_ptr(), sums.shape, sums.dtype
    return saved_tensors_hooks(pack, unpack)


def _is_kept(x: Tensor) -> bool:
    return x.grad_fn is not None and x.grad_fn.name().startswith(KEEP_THEIR_OUTPUT)


def _hooks_are_enabled() -> bool:
    """Not within transforms such as ``torch.func.grad``."""
    return bool(torch._C._autograd._saved_tensors_hooks_is_enabled())  # type: ignore[attr-defined]  # torch's stubs lack it


def as_convolved(x: Tensor) -> Tensor:
    """In the type in which a convolution takes it: under autocast, that of the device's."""
    device = x.device.type
    if x.dtype != torch.float32 or not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x  # the meta device, for one, has no autocast
    return x.to(torch.get_autocast_dtype(device))


def traced() -> bool:
    """Whether operations are being recorded rather than carried out for their values alone."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]


def plain() -> bool:
    """Whether operations are carried out for their values and gradients alone.

    If not, they are recorded, or transformed as by ``torch.func`` or forward-mode differentiation, which know no
    gradients of our own.
    """
    if traced():
        return False
    return not (torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0)


def products_pay(x: Tensor) -> bool:
    """Whether sums over the input (N, C, H, W) are faster as products: in channels-last memory, eagerly, on a CPU."""
    if x.dim() != 4 or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or not plain():
        return False
    return layout(x) == torch.channels_last


class _Product(torch.autograd.Function):
    """A convolution by a constant kernel; unlike autograd's own it does not keep its input, which only a kernel
    needs.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...], groups: int
    ) -> Tensor:
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
