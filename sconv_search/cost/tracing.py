"""Traces of any forward: of tensors that have shapes and no values, and of sizes that stay numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

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
SIZES: frozenset[Callable[..., Any]] = frozenset(
    (
        *(Tensor.shape.__get__, Tensor.size, Tensor.numel, Tensor.nelement, Tensor.__len__, Tensor.stride),
        *(torch.numel, torch.Tensor.element_size),
    )
)
"""Functions that read a tensor's form, for which a trace would have tensors."""
UNPOOLING = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)


class PlainSizes(TorchFunctionMode):
    """Within it the sizes of traced tensors are numbers, so that a forward may compute and branch with them as ever.

    Parameters of layers that the network does not know as its own, as those of a plain list, are traced as constants.

    Args:
        network: what is traced.
        plain: False leaves sizes as a trace makes them.
    """

    def __init__(self, network: nn.Module, plain: bool = True) -> None:
        super().__init__()
        self._own, self._plain = {id(weight) for weight in network.parameters()}, plain

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if self._plain and func in SIZES:
            with _untraced():
                return func(*args, **named)
        args, named = pytree.tree_map_only(nn.Parameter, self._constant, (args, named))
        if self._plain and func in UNPOOLING:
            return _unpooled(func, *args, **named)
        return func(*args, **named)

    def _constant(self, weight: nn.Parameter) -> Tensor:
        if id(weight) in self._own:
            return weight
        with _untraced():
            return weight.detach()


@contextmanager
def _untraced() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


def _unpooled(func: Callable[..., Tensor], x: Tensor, places: Tensor, *geometry: Any, **named: Any) -> Tensor:
    """The operator that ``max_unpool`` calls, which itself checks sizes in a way that no trace allows."""
    with _untraced():
        shape = list(func(x.detach(), places.detach(), *geometry, **named).shape)
    axes = UNPOOLING.index(func) + 1
    if axes == 3:
        kernel, stride, padding = (_each(size, 3) for size in _window(*geometry, **named))
        return torch._C._nn.max_unpool3d(x, places, shape[-3:], stride or kernel, padding)
    if axes == 2:
        return torch._C._nn.max_unpool2d(x, places, shape[-2:])
    return torch._C._nn.max_unpool2d(x.unsqueeze(-1), places.unsqueeze(-1), [shape[-1], 1]).squeeze(-1)


def _window(
    kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, output_size: Any = None
) -> tuple[Sizes, ...]:
    return kernel_size, kernel_size if stride is None else stride, padding


class Whereabouts(TorchFunctionMode):
    """Within it one can tell which module, and which function in it, a failing forward of the network had come to.

    Attributes:
        returned: whether the forward came to its end.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network, self._inside, self._function, self.returned = network, list[str](), "", False

    def __enter__(self) -> Whereabouts:
        self._hooks = []
        for name, module in self._network.named_modules():
            self._hooks += [
                module.register_forward_pre_hook(self._entered(name)),
                module.register_forward_hook(self._left),
            ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except Exception:
            self._function = self._function or getattr(func, "__name__", str(func))
            raise

    def in_words(self) -> str:
        """``max_unpool2d in decoder.unpool (MaxUnpool2d)``."""
        name = self._inside[-1] if self._inside else ""
        module = f"{name or 'the network itself'} ({type(self._network.get_submodule(name)).__name__})"
        return f"{self._function} in {module}" if self._function else module

    def _entered(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._inside.append(name)

        return hook

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        self._inside.pop()
        self.returned = not self._inside


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
    found = [sizes] if isinstance(sizes, int) else list(sizes)
    return found * axes if len(found) == 1 else found
