"""Traces of any forward: of tensors that have shapes and no values, and of sizes that stay numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Sizes = int | Sequence[int]
CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
ACTIVATIONS: frozenset[Callable[..., Any]] = frozenset(
    (
        *(
            F.relu,
            F.relu6,
            F.silu,
            F.hardswish,
            F.hardsigmoid,
            F.sigmoid,
            F.hardtanh,
            F.gelu,
            F.elu,
            F.leaky_relu,
            F.tanh,
        ),
        *(torch.relu, torch.relu_, torch.sigmoid, torch.tanh, Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.tanh),
    )
)
"""Functions that keep the shape and cost nothing."""
RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
"""Functions that compute the shapes of their results step by step where there are no values, for a minute."""


class OnShapes(TorchFunctionMode):
    """Within it a convolution of tensors without values leaves the same operator in a trace as one of values.

    A batch norm or activation of such tensors gives what it is given: torch would compute its shape in Python, for
    milliseconds, and import its compiler for that, for seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in RECURRENT and any(isinstance(x, Tensor) and x.is_meta for x in args):
            raise NotImplementedError("recurrent layers of tensors without values run step by step, for a minute")
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if func in ACTIVATIONS or (func is F.batch_norm and _has_a_channel_each(*args[:2])):
                return args[0]
            if func in CONVOLUTIONS:
                return _convolved(func, *args, **named)
            if func in TRANSPOSED:
                return _transposed(func, *args, **named)
        return func(*args, **named)


def _has_a_channel_each(x: Tensor, means: Tensor | None = None, *_: Any) -> bool:
    return means is not None and int(means.shape[0]) == int(x.shape[1])  # of traced tensors a shape holds tensors


def _convolved(
    func: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    axes = CONVOLUTIONS.index(func) + 1
    if isinstance(padding, str) or x.dim() != axes + 2:
        return func(x, weight, bias, stride, padding, dilation, groups)
    return _recorded(
        x, weight, bias, *(_each(sizes, axes) for sizes in (stride, padding, dilation)), False, [0] * axes, groups
    )


def _transposed(
    func: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    axes = TRANSPOSED.index(func) + 1
    if x.dim() != axes + 2:
        return func(x, weight, bias, stride, padding, output_padding, groups, dilation)
    stride, padding, dilation, output_padding = (
        _each(sizes, axes) for sizes in (stride, padding, dilation, output_padding)
    )
    return _recorded(x, weight, bias, stride, padding, dilation, True, output_padding, groups)


def _recorded(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """The operator that ``conv2d`` and its like call; its last four arguments choose kernels."""
    convolution: Any = torch._convolution
    result: Tensor = convolution(x, weight, bias, *geometry, False, False, False, False)
    return result


def _each(sizes: Sizes, axes: int) -> list[int]:
    """A size for each axis; one may stand for all."""
    entries = [sizes] if isinstance(sizes, int) else list(sizes)
    return entries * axes if len(entries) == 1 else entries
