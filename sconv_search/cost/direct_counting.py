"""What a forward costs by the functions of torch that it calls, without a trace of their operators.

A trace takes a millisecond for each convolution, most of it for notes of where in the code it was called. Here a
forward runs on tensors of shapes alone while it is traced, but the trace is interrupted for each function that is known
to run one operator: that is counted by its shapes, and by the same rules as in a trace. As there, products count
whatever becomes of their results, and all else where a result of the network depends on it.

A forward that does more is refused: it calls another function, or runs operators past functions, as scripted code does,
which the trace then holds. It has to be counted by its whole trace.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sconv_search.cost.forward_tracing import SIZES, untraced
from sconv_search.cost.network_inputs import output_tensors
from sconv_search.cost.operator_costs import costs_of_operators
from sconv_search.cost.product_costs import PRODUCTS
from sconv_search.cost.tracing import ACTIVATIONS, CONVOLUTIONS, TRANSPOSED

Counts = dict[str, Counter[str]]
"""Name of a module within the network -> the counts of what runs inside of it; those of the network under ``""``."""
PLAIN = frozenset((Tensor, nn.Parameter, nn.Buffer))
WITHOUT_TENSORS: tuple[type, ...] = (
    *(int, float, str, slice, type(None), type(Ellipsis)),
    *(torch.dtype, torch.device, torch.memory_format, torch.layout),
)
_FORMS: tuple[Any, ...] = (Tensor.dtype, Tensor.device, Tensor.ndim, Tensor.is_meta, Tensor.requires_grad)
FORMS: frozenset[Callable[..., Any]] = frozenset(
    (
        *(getattr(form, "__get__") for form in _FORMS),  # noqa: B009  # the property, which stubs take for its value
        *(Tensor.dim, Tensor.is_floating_point, Tensor.is_contiguous, Tensor.is_complex, torch.is_floating_point),
        *(torch._assert, torch._C._set_grad_enabled),
    )
)
"""Functions that tell of a tensor's form, or of none."""
METHODS = (
    *("narrow", "index_select", "to", "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose"),
    *("permute", "expand", "contiguous", "chunk", "split", "sum", "mean", "add", "sub", "mul", "div", "matmul", "cat"),
    *("add_", "mul_", "softmax", "unbind", "roll", "reshape_as"),
)
"""Functions, of torch and of tensors, that run the operator of their name."""
IN_PLACE = frozenset((Tensor.add_, Tensor.mul_))
NEW = frozenset(("convolution", "linear", "matmul", "add", "sub", "mul", "div", "cat", "sum", "mean", "index_select"))
"""Operators whose results share no memory with what they read."""
OPERATORS: dict[Callable[..., Any], str] = {
    **{getattr(home, name): name for name in METHODS for home in (torch, Tensor) if hasattr(home, name)},
    Tensor.__getitem__: "slice",
    Tensor.float: "to",
    F.linear: "linear",
    F.pad: "pad",
    F.dropout: "dropout",
    F.max_pool2d: "max_pool2d",
    F.adaptive_avg_pool2d: "adaptive_avg_pool2d",
    F.softmax: "softmax",
}
"""Function -> the one operator of ``aten`` that it runs, whose cost follows from the shapes of its first argument and
its result.
"""
BY_ARGUMENTS: dict[Callable[..., Any], tuple[str, tuple[str, ...]]] = {
    F.layer_norm: ("layer_norm", ("input", "normalized_shape", "weight", "bias")),
    F.group_norm: ("group_norm", ("input", "num_groups", "weight", "bias")),
    F.avg_pool2d: ("avg_pool2d", ("input", "kernel_size")),
}
"""The same for costs that follow from other arguments too, whose names in their order are those of the operator."""


class UnknownFunctionError(RuntimeError):
    """A forward cannot be counted by its functions."""


class Value:
    """What an operator reads or gives, in the form in which a trace shows it to the rules of costs."""

    def __init__(self, value: Any) -> None:
        self._value: Any = list(value) if isinstance(value, tuple) else value

    def type(self) -> Value:
        """Itself, which is its type too."""
        return self

    def node(self) -> Value:
        """Itself, of which nothing but its kind is asked."""
        return self

    def kind(self) -> str:
        """Whether it is a tensor, nothing, or something else."""
        return "TensorType" if isinstance(self._value, Tensor) else "NoneType" if self._value is None else ""

    def isCompleteTensor(self) -> bool:
        """Whether its shape is known."""
        return isinstance(self._value, Tensor)

    def sizes(self) -> list[int]:
        """The shape of a tensor."""
        return list(self._value.shape)

    def scalarType(self) -> str:
        """The type of a tensor's numbers, as far as it matters."""
        return "Bool" if self._value.dtype == torch.bool else ""

    def toIValue(self) -> Any:
        """What it is."""
        return self._value


class _Step:
    """One operator that ran.

    Args:
        reads: the steps whose results it was given.
        home: the innermost module in which it ran.
        counts: its cost.
        kept: whether it counts whatever becomes of its result.
        in_place: whether it wrote over what it read.
    """

    __slots__ = ("counts", "home", "in_place", "kept", "reads")

    def __init__(self, reads: list[_Step], home: str, counts: Counter[str], *, kept: bool, in_place: bool) -> None:
        self.reads, self.home, self.counts, self.kept, self.in_place = reads, home, counts, kept, in_place


class DirectCounting(TorchFunctionMode):
    """Within it the functions that a forward calls are counted.

    Args:
        network: what is counted; the modules in it are known by their names.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._inside, self._hooks = [""], list[Any]()
        self._steps: list[_Step] = []
        self._made: dict[int, tuple[Tensor, _Step]] = {}
        """By id of a tensor, which is kept alive, what made it."""
        self._shared: set[int] = set()
        """Ids of those that may share memory with others."""
        self._costs = costs_of_operators()

    def __enter__(self) -> DirectCounting:
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

    def _entered(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._inside.append(name)

    def _left(self, module: nn.Module, args: Any, result: Any) -> None:
        self._inside.pop()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        with untraced():
            if func in SIZES or func in FORMS:
                return func(*args, **named)
            if func in ACTIVATIONS or func is F.batch_norm:
                result = func(*args, **named)
                if not args or result is not args[0]:  # it is left out of traces of shapes
                    raise UnknownFunctionError(func)
                return result
            kind = self._kind(func, named)
            given = _tensors((*args, *named.values()))
            if any(type(tensor) not in PLAIN for tensor in given) or not args:
                raise UnknownFunctionError(func)
            result = _by_shapes(kind, args, named)
            if result is None:
                result = func(*args, **named)
            self._count(func, kind, args, named, given, result)
        return result

    def _kind(self, func: Callable[..., Any], named: Mapping[str, Any]) -> str:
        """The operator that the function runs.

        Raises:
            UnknownFunctionError: it is not known to run one alone.
        """
        if func in CONVOLUTIONS or func in TRANSPOSED:
            return "convolution"
        kind = BY_ARGUMENTS[func][0] if func in BY_ARGUMENTS else OPERATORS.get(func)
        if kind is None or "out" in named:
            raise UnknownFunctionError(func)
        return kind

    def _count(
        self,
        func: Callable[..., Any],
        kind: str,
        args: Sequence[Any],
        named: Mapping[str, Any],
        given: Sequence[Tensor],
        result: Any,
    ) -> None:
        outputs = _tensors((result,))
        made = [output for output in outputs if func in IN_PLACE or all(output is not tensor for tensor in given)]
        if not made:  # it gives what it is given
            return
        in_place = func in IN_PLACE
        if in_place and (id(args[0]) not in self._made or id(args[0]) in self._shared):
            raise UnknownFunctionError(func)
        if func in CONVOLUTIONS or func in TRANSPOSED:
            args = (*args[:2], *[None] * 4, func in TRANSPOSED)
        elif func in BY_ARGUMENTS:
            args = (*args, *(named.get(name) for name in BY_ARGUMENTS[func][1][len(args) :]))
        counts = self._costs[f"aten::{kind}"]([*map(Value, args)], [*map(Value, outputs)])
        reads = [self._made[id(tensor)][1] for tensor in given if id(tensor) in self._made]
        step = _Step(reads, self._inside[-1], counts, kept=kind in PRODUCTS, in_place=in_place)
        self._steps.append(step)
        for output in made:
            self._made[id(output)] = output, step
        if kind not in NEW and not in_place:
            self._shared.update(map(id, (*given, *made)))

    def counts(self, results: Sequence[Tensor]) -> Counts:
        """What each module costs, as far as the network's results depend on it.

        Raises:
            UnknownFunctionError: something ran that was not counted, or wrote where it does not show who reads it.
        """
        nodes = torch._C._get_tracing_state().graph().nodes()
        if strays := {node.kind() for node in nodes} - {"prim::Constant"}:
            raise UnknownFunctionError(strays)
        alive = {id(self._made[id(tensor)][1]) for tensor in results if id(tensor) in self._made}
        counts: Counts = {name: Counter() for name, _ in self._network.named_modules()}
        for step in reversed(self._steps):
            if step.kept or id(step) in alive:
                alive.update(map(id, step.reads))
                if step.counts:
                    for home in _within(step.home):
                        counts[home] += step.counts
            elif step.in_place:
                raise UnknownFunctionError("a result that is not read was written over")
        return counts


def _within(name: str) -> list[str]:
    """A module's own name, and those of the modules that hold it."""
    parts = name.split(".") if name else []
    return [".".join(parts[:length]) for length in range(len(parts) + 1)]


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """All tensors among values, and in lists of them.

    Raises:
        UnknownFunctionError: there may be some deeper inside.
    """
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
        elif not isinstance(value, WITHOUT_TENSORS):
            raise UnknownFunctionError(type(value))
    return found


def _by_shapes(kind: str, args: Sequence[Any], named: Mapping[str, Any]) -> Tensor | None:
    """What an operator gives whose result has an evident shape, which torch would compute in Python, for long; None for
    others.
    """
    if kind in ("add", "sub", "mul") and not named and len(args) == 2 and _alike(args):
        first, second = args
        return torch.empty(first.shape, dtype=first.dtype, device="meta") if first.shape == second.shape else None
    if kind != "cat" or len(args) + len(named) > 2 or not isinstance(args[0], (list, tuple)) or not _alike(args[0]):
        return None
    first, axis = args[0][0], args[1] if len(args) == 2 else named.get("dim", 0)
    shapes = [list(part.shape) for part in args[0]]
    if type(axis) is not int or not -first.dim() <= axis < first.dim():
        return None
    joined = sum(shape.pop(axis % first.dim()) for shape in shapes)
    if any(shape != shapes[0] for shape in shapes):
        return None
    shape = shapes[0]
    shape.insert(axis % first.dim(), joined)
    return torch.empty(shape, dtype=first.dtype, device="meta")


def _alike(values: Sequence[Any]) -> bool:
    """Whether all are plain tensors without values, of one type and number of axes, and laid out in their order."""
    first = values[0] if values else None
    return isinstance(first, Tensor) and all(
        type(value) in PLAIN
        and value.is_meta
        and value.dtype == first.dtype
        and value.dim() == first.dim() > 0
        and value.is_contiguous()
        for value in values
    )


def counted_directly(network: nn.Module, args: Sequence[Any], named: Mapping[str, Any]) -> Counts:
    """What each module of a network without values costs in a call with these arguments.

    Raises:
        Exception: of any kind; it cannot be counted so.
    """
    call = _Call(network, args, named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a trace says of constants
        torch.jit._get_trace_graph(call, (torch.zeros(()),))  # type: ignore[attr-defined, no-untyped-call]
    assert call.counts is not None
    return call.counts


class _Call(nn.Module):
    """A call of the network, as that of a module which can be traced.

    Attributes:
        counts: of the call, once it was made.
    """

    def __init__(self, network: nn.Module, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self._args, self._named = network, args, named
        self.counts: Counts | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Makes it; gives what it is given."""
        with DirectCounting(self.network) as counting:
            results = output_tensors(self.network(*self._args, **self._named))
            self.counts = counting.counts(results)
        return x
