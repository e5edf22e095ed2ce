"""Which channels meet in a network: one forward of its stand-in, in which every tensor's channels have labels.

Each layer that makes channels gives its outputs labels of their own; operators carry them on, and where two meet, both
go together. What a layer reads of them, and what becomes of those that meet something unknown, follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from sconv_search.channels.cutting import CHANNELWISE, is_depthwise, makes_channels, sizes
from sconv_search.channels.label_rules import Stays, outputs_labels
from sconv_search.channels.labels import Bonds, axes
from sconv_search.channels.stand_in import Thin, own_weights
from sconv_search.cost.network_inputs import output_tensors

MOST_CALLS = 3
"""Calls of a module that are kept."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A way to run a network: an input's shape with the batch, and whether it takes the path of training.

    On that path gradients are enabled, and modules that hold others know that they are in training; batch norms,
    dropout and other innermost modules compute as in evaluation, so that two forwards are alike.
    """

    shape: tuple[int, ...]
    training: bool = False

    def input(self, dtype: torch.dtype) -> Tensor:
        """Random numbers of that shape."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)

    def set_(self, network: nn.Module) -> None:
        """Puts the network on that path."""
        network.eval()
        for module in network.modules():
            if self.training and next(module.children(), None) is not None and not isinstance(module, _NormBase):
                module.training = True


@dataclass(frozen=True)
class Like:
    """In the place of a tensor that a module was given: the shape of random numbers."""

    shape: tuple[int, ...]


@dataclass
class Trace:
    """What one forward tells.

    Args:
        sequence: operators and layers in the order of their calls.
        bonds: of labels.
        sides: layer and side -> the label at each position; 0 where there is none.
        read_outside: layers whose weights other code reads, with the words for it.
        calls: module -> what it was given, at most ``MOST_CALLS + 1`` times.
        small: of the same path on a smaller input, once it was looked for.
    """

    form: Form
    sequence: list[str] = field(default_factory=list)
    bonds: Bonds = field(default_factory=Bonds)
    sides: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    read_outside: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = field(default_factory=dict)
    small: Trace | None = None

    @property
    def ran(self) -> set[str]:
        """Layers that were called."""
        return {layer for layer, _ in self.sides}


class WithoutDropout(TorchFunctionMode):
    """Within it functions of dropout give what they are given."""

    DROPOUTS = frozenset(
        (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout)
    )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        return (args[0] if args else named["input"]) if func in self.DROPOUTS else func(*args, **named)


def first_labels(network: nn.Module) -> dict[str, int]:
    """The label of the first output of each layer that makes channels; a single channel, which has to stay, has
    none.
    """
    made = {
        name: sizes(layer)[1]
        for name, layer in network.named_modules()
        if name and makes_channels(layer) and not is_depthwise(layer) and sizes(layer)[1] > 1
    }
    starts = itertools.accumulate(made.values(), initial=1)
    return dict(zip(made, starts, strict=False))


def traced(network: nn.Module, form: Form, whole: Collection[str] = ()) -> Trace:
    """What a forward of the stand-in tells.

    Args:
        network: a stand-in; its modules get other forwards while it runs.
        whole: layers that are followed operator by operator, as if they were of an unknown kind.

    Raises:
        Exception: of any kind, the forward's own.
    """
    form.set_(network)
    follower = _Follower(network, form)
    with torch.set_grad_enabled(form.training), follower.watching(network, whole), WithoutDropout(), follower:
        result = network(form.input(torch.float32))
    follower.hold(output_tensors(result), "its channels are the network's output")
    return follower.trace


def is_followed(layer: nn.Module) -> bool:
    """Whether a layer of a stand-in makes channels or treats each by itself, as its kind does."""
    if isinstance(layer, CHANNELWISE):
        return own_weights(layer) and not (isinstance(layer, nn.PReLU) and layer.num_parameters == 1)
    return isinstance(vars(layer).get("forward"), Thin) or (
        is_depthwise(layer) and makes_channels(layer) and own_weights(layer)
    )


class _Follower(TorchDispatchMode):
    """Labels the tensors of a forward."""

    def __init__(self, network: nn.Module, form: Form) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace(form=form)
        self._kinds = {name: type(module).__name__ for name, module in network.named_modules()}
        self._labels: Any = WeakTensorKeyDictionary()
        self._starts = first_labels(network)
        self._stack = [""]
        self._inside = 0
        owned = [
            (tensor, name)
            for name, module in network.named_modules()
            if makes_channels(module) or isinstance(module, CHANNELWISE)
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        ]
        self._owners = {id(tensor): name for tensor, name in owned}
        self._single = {tensor.data_ptr(): name for tensor, name in owned if _is_single(tensor)}

    def labels(self, tensor: Tensor) -> Tensor | None:
        """The labels of a tensor; None where it has none."""
        known: Tensor | None = self._labels.get(tensor)
        return known

    def hold(self, values: Any, reason: str) -> None:
        """The channels of all tensors among the values stay."""
        for value in values:
            if isinstance(value, Tensor) and (labels := self.labels(value)) is not None:
                self.trace.bonds.hold(labels, reason)

    @contextmanager
    def watching(self, network: nn.Module, whole: Collection[str]) -> Iterator[None]:
        """Layers that make or keep channels tell of their calls, and all modules when they begin and end."""
        forwards: list[tuple[nn.Module, Any]] = []
        handles = []
        for name, module in network.named_modules():
            handles += [
                module.register_forward_pre_hook(self._entered(name), with_kwargs=True, prepend=True),
                module.register_forward_hook(lambda *_: self._left(), always_call=True),
            ]
            if is_followed(module) and name not in whole:
                forwards.append((module, vars(module).get("forward")))
                module.forward = self._layer(name, module, module.forward)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module, own in forwards:
                del module.forward
                if own is not None:
                    module.forward = own

    def _entered(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._stack.append(name)
            calls = self.trace.calls.setdefault(name, [])
            if len(calls) <= MOST_CALLS:
                self._inside += 1  # nothing that is noted here is a part of the network
                calls.append((tree_map(_like, args), tree_map(_like, named)))
                self._inside -= 1

        return note

    def _left(self) -> None:
        self._stack.pop()

    def _layer(self, name: str, layer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            self._inside += 1
            try:
                result = forward(*args, **named)
            finally:
                self._inside -= 1
            self.trace.sequence.append(name)
            self._called(name, layer, args[0] if args else named["input"], result)
            return result

        return run

    def _called(self, name: str, layer: nn.Module, x: Tensor, result: Tensor) -> None:
        """Labels of what a layer makes, and what it reads."""
        axis = _channel_axis(layer, x)
        read = self._read(name, layer, x, axis)
        passes = isinstance(layer, CHANNELWISE) or is_depthwise(layer)
        self._at(name, "both" if passes else "in", read)
        if passes:
            if read.any() and result.dim() == x.dim():
                self._labels[result] = _along(read, axis, x.dim())
        elif name in self._starts:
            made = torch.arange(sizes(layer)[1], dtype=torch.float32) + self._starts[name]
            self._at(name, "out", made)
            self._labels[result] = _along(made, axis, result.dim())
        else:
            self._at(name, "out", torch.zeros(sizes(layer)[1]))

    def _read(self, name: str, layer: nn.Module, x: Tensor, axis: int) -> Tensor:
        """The label of each channel that a layer reads."""
        labels, count = self.labels(x), sizes(layer)[0]
        if labels is None:
            return torch.zeros(count)
        if axes(labels) == {axis} and labels.size(axis) == count:
            return labels.flatten()
        self.trace.bonds.hold(labels, f"{name!r} reads its channels along another axis, or some of them")
        return torch.zeros(count)

    def _at(self, name: str, side: str, labels: Tensor) -> None:
        before = self.trace.sides.setdefault((name, side), labels)
        if before is not labels:  # a shared layer: what it reads at one place in one call and in another goes together
            self.trace.bonds.join(before, labels)
            self.trace.sides[name, side] = torch.maximum(before, labels)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        written = func._schema.is_mutable and args and isinstance(args[0], Tensor) and self._owner(args[0])
        # a weight without contents has a single number in memory, which cannot be written to
        result = args[0] if written and _is_single(args[0]) else func(*args, **named)
        if self._inside:
            return result
        self._inside += 1
        try:
            self._follow(func, args, named, result)
        finally:
            self._inside -= 1
        return result

    def _follow(self, func: Any, args: tuple[Any, ...], named: Mapping[str, Any], result: Any) -> None:
        given = [value for value in tree_leaves((args, named)) if isinstance(value, Tensor)]
        where = f"{func._schema.name} in {self._where()}"
        self.trace.sequence.append(where)
        for tensor in given:
            if owner := self._owner(tensor):
                self.trace.read_outside.setdefault(owner, where)
        if all(self.labels(tensor) is None for tensor in given):
            return
        outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        try:
            output_labels = outputs_labels(func, args, named, outputs, self.labels, self.trace.bonds)
        except Stays as reason:
            self.hold(given, f"its channels cannot be followed through the network: {where} {reason}")
            return
        for output, labels in zip(outputs, output_labels, strict=True):
            if labels is not None and bool(labels.any()):
                self._labels[output] = labels

    def _owner(self, tensor: Tensor) -> str | None:
        """The layer whose weight or buffer it is; a weight without contents is known in views too, as by ``.data``."""
        return self._owners.get(id(tensor)) or (self._single.get(tensor.data_ptr()) if _is_single(tensor) else None)

    def _where(self) -> str:
        name = self._stack[-1]
        kind = self._kinds[name]
        return f"{name!r}, a {kind}," if name else f"the forward of {kind}"


def _is_single(tensor: Tensor) -> bool:
    """Whether it may be a weight without contents, all of whose entries are one place in memory."""
    return tensor.layout is torch.strided and 0 in tensor.stride()


def _like(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return Like(tuple(value.shape)) if value.is_floating_point() else value.detach().clone()


def _along(labels: Tensor, axis: int, count: int) -> Tensor:
    """The labels on one axis of so many."""
    return labels.reshape([-1 if a == axis else 1 for a in range(count)])


def _channel_axis(layer: nn.Module, x: Tensor) -> int:
    """The axis of the input's (and output's) channels."""
    if isinstance(layer, nn.Linear):
        return x.dim() - 1
    if isinstance(layer, _ConvNd):
        return x.dim() - 1 - len(layer.kernel_size)
    return 1 if x.dim() > 1 and x.shape[1] == sizes(layer)[0] else 0
