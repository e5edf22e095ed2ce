"""A forward while it is traced: with sizes that are numbers, and with the place at which it fails."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

_READS_SHAPE: Any = getattr(Tensor.shape, "__get__")  # noqa: B009  # the property, which stubs take for its value
SIZES: frozenset[Callable[..., Any]] = frozenset(
    (_READS_SHAPE, Tensor.size, Tensor.numel, Tensor.nelement, Tensor.__len__, Tensor.stride, torch.numel)
)
"""Functions that read a tensor's form, for which a trace would have tensors."""
_set_tracing_state: Callable[[Any], None] = getattr(torch._C, "_set_tracing_state")  # noqa: B009  # not in the stubs
UNPOOLING = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)
Sizes = int | Sequence[int]


class ForwardTrace(TorchFunctionMode):
    """Within it a network's forward may compute and branch with sizes as ever while it is traced.

    Parameters of layers that the network does not know as its own, as those of a plain list, are traced as constants.

    Args:
        network: what is traced.

    Attributes:
        returned: whether the forward came to its end.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.returned = False
        self._network, self._own = network, {id(weight) for weight in network.parameters()}
        self._inside: list[str] = []
        self._failed = ""
        self._hooks: list[Any] = []

    def __enter__(self) -> ForwardTrace:
        for name, module in self._network.named_modules():
            self._hooks += [
                module.register_forward_pre_hook(self._entered(name)),
                module.register_forward_hook(self._left),
            ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
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
            if func in SIZES:
                with untraced():
                    return func(*args, **(kwargs or {}))
            args, named = pytree.tree_map_only(nn.Parameter, self._constant, (args, dict(kwargs or {})))
            return self._run(
                _unpooled if func in UNPOOLING else func, *((func,) if func in UNPOOLING else ()), *args, **named
            )
        except Exception:
            self._failed = self._failed or getattr(func, "__name__", str(func))
            raise

    def in_words(self) -> str:
        """Where a forward that failed had come to: ``max_unpool2d in decoder.unpool (MaxUnpool2d)``."""
        name = self._inside[-1] if self._inside else ""
        module = f"{name or 'the network itself'} ({type(self._network.get_submodule(name)).__name__})"
        return f"{self._failed} in {module}" if self._failed else module

    def forward(self) -> AbstractContextManager[None]:
        """What the forward runs in."""
        return nullcontext()

    def require_known(self, tree: Any) -> None:
        """Refuses tensors that are not seen to be results of the trace; here the trace itself sees them all."""

    def _run(self, func: Callable[..., Any], *args: Any, **named: Any) -> Any:
        return func(*args, **named)

    def _constant(self, weight: nn.Parameter) -> Tensor:
        if id(weight) in self._own:
            return weight
        with untraced():
            return weight.detach()

    def _entered(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._inside.append(name)

        return hook

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        self._inside.pop()
        self.returned = not self._inside


class UnseenResultError(RuntimeError):
    """A tensor is the result of no function that was traced."""


class HiddenTrace(ForwardTrace):
    """Within it the forward cannot tell that it is traced: each function of torch is traced for itself.

    It is for networks that ask, and go another way then. What runs without passing here, such as scripted code, would
    not be traced: so every tensor that a function reads must have been there before, or be another function's result.
    """

    def __enter__(self) -> HiddenTrace:
        known = (value for value in gc.get_objects() if issubclass(type(value), Tensor))
        self._known = WeakIdKeyDictionary({tensor: None for tensor in known})
        self._state: Any = None
        super().__enter__()
        return self

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Hides the trace."""
        self._state = torch._C._get_tracing_state()
        with untraced():
            yield

    def require_known(self, tree: Any) -> None:
        """Refuses what no traced function has made.

        Raises:
            UnseenResultError: a tensor came from elsewhere.
        """
        for tensor in pytree.tree_leaves(tree):
            if isinstance(tensor, Tensor) and tensor not in self._known:
                raise UnseenResultError("there is a result of code that cannot be traced, such as scripted functions")

    def _run(self, func: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self.require_known((args, named))
        _set_tracing_state(self._state)
        try:
            result = func(*args, **named)
        finally:
            _set_tracing_state(None)
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._known[tensor] = None
        return result

    def _entered(self, name: str) -> Callable[..., None]:
        inner = super()._entered(name)

        def hook(module: nn.Module, args: Any) -> None:
            inner(module, args)
            self._state.push_scope(f"network.{name}" if name else "network")

        return hook

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        super()._left(module, args, result)
        self._state.pop_scope()


@contextmanager
def untraced() -> Iterator[None]:
    """Within it nothing is traced."""
    state = torch._C._get_tracing_state()
    _set_tracing_state(None)
    try:
        yield
    finally:
        _set_tracing_state(state)


def _unpooled(func: Callable[..., Tensor], x: Tensor, indices: Tensor, *window: Any, **named: Any) -> Tensor:
    """The operator that ``max_unpool`` calls, which itself checks sizes in a way that no trace allows."""
    with untraced():
        shape = list(func(x.detach(), indices.detach(), *window, **named).shape)
    axes = UNPOOLING.index(func) + 1
    if axes == 1:
        return torch._C._nn.max_unpool2d(x.unsqueeze(-1), indices.unsqueeze(-1), [shape[-1], 1]).squeeze(-1)
    if axes == 2:
        return torch._C._nn.max_unpool2d(x, indices, shape[-2:])
    return torch._C._nn.max_unpool3d(x, indices, shape[-3:], *_steps(*window, **named))


def _steps(
    kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, output_size: Any = None
) -> list[list[int]]:
    """Stride and padding of each of three axes."""
    steps = (kernel_size if stride is None else stride, padding)
    return [[size] * 3 if isinstance(size, int) else list(size) for size in steps]
