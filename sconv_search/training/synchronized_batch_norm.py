"""Batch norms that take their statistics from the batches of all processes, whatever module they are part of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode


class SynchronizedBatchNorm(TorchFunctionMode):
    """The time in which ``torch.nn.functional.batch_norm``, in training mode, normalizes by the batches of all
    processes.

    The call is what is intercepted, not the module: subclasses of batch norm, such as timm's with an activation, work
    too. On GPUs torch's own kernels compute it; on the CPU, for which torch has none, ``gathered_batch_norm``.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Every call of torch within the context comes by here."""
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """``torch.nn.functional.batch_norm``, whose arguments' names these are."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if input.is_cuda:
        group, count = distributed.group.WORLD, distributed.get_world_size()
        return SyncBatchNorm.apply(input, weight, bias, running_mean, running_var, eps, momentum, group, count)
    return gathered_batch_norm(input, running_mean, running_var, weight, bias, momentum, eps)


def gathered_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The batch (N, C, ...) normalized by the mean and variance over the batches of all processes, which running ones
    follow.

    Weights and bias are (C,); the variance is computed about the mean, as the difference of large numbers would cancel.
    """
    axes, shape = [0, *range(2, x.dim())], (1, -1, *(1 for _ in range(2, x.dim())))
    values = x.float()
    sums = _total(torch.cat([values.sum(axes), values.new_full((1,), values.numel() / values.shape[1])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centered = values - mean.view(shape)
    variance = _total(centered.square().sum(axes)) / count
    with torch.no_grad():
        for running, estimate in ((running_mean, mean), (running_var, variance * count / (count - 1).clamp_min(1))):
            if running is not None:
                running.lerp_(estimate.to(running), momentum)
    result = centered * torch.rsqrt(variance + eps).view(shape)
    result = result if weight is None else result * weight.view(shape)
    return (result if bias is None else result + bias.view(shape)).to(x.dtype)


def _total(values: Tensor) -> Tensor:
    result: Tensor = _Total.apply(values)
    return result


class _Total(torch.autograd.Function):
    """The sum over all processes; so is its gradient, as every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _summed(grads[0])


def _summed(values: Tensor) -> Tensor:
    result = values.clone()
    distributed.all_reduce(result)
    return result
