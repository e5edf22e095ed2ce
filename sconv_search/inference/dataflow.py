"""Which layer's output feeds what, seen in one run of a network on an example.

A value is one state of a tensor: an operation in place makes a new value of the same tensor. Layers of the kinds that
are asked for are steps of their own, whatever they call; outside of them every function that reads a tensor is a step.

Seen, not derived: another input may take another way through a network whose forward branches on its data. Another
number of inputs is looked at too, see ``flows_of``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from sconv_search.copying import hooked

_OF_SHAPE_ALONE = {
    *("__get__", "__len__", "dim", "ndimension", "size", "stride", "numel", "element_size"),
    *("is_contiguous", "is_floating_point", "is_complex"),
}
"""Functions that read a tensor's form, not its values, where they return no tensor."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of a layer, or of a function outside of the layers: the numbers of the values that it reads and
    writes.
    """

    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(kw_only=True)
class Dataflow:
    """The steps of one run, in order.

    Attributes:
        shapes: of all values.
        read: the first tensor that each layer read.
        loose: parameters and buffers of layers that were read by functions outside of the layers.
        output: what the network returned.
    """

    steps: list[Step] = field(default_factory=list)
    shapes: dict[int, torch.Size] = field(default_factory=dict)
    read: dict[nn.Module, Tensor] = field(default_factory=dict)
    loose: list[Tensor] = field(default_factory=list)
    output: Any = None

    def calls(self, module: nn.Module) -> list[Step]:
        """The calls of a layer."""
        return [step for step in self.steps if step.module is module]

    def is_called_once(self, module: nn.Module) -> bool:
        """Whether the layer was called once, without hooks, and its weights and buffers were read by itself alone."""
        own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        return (
            len(self.calls(module)) == 1
            and not any(map(hooked, module.modules()))
            and not any(id(loose) in own for loose in self.loose)
        )

    def producer(self, value: int) -> Step | None:
        """The step that wrote a value; None for the network's inputs and parameters."""
        return next((step for step in self.steps if value in step.outputs), None)

    def readers(self, value: int) -> list[Step]:
        """The steps that read a value; what the network returns is read by a last step, ``output``."""
        return [step for step in self.steps if value in step.inputs]


def traced(network: nn.Module, example: Tensor, kinds: Collection[type[nn.Module]]) -> Dataflow:
    """The flow of values between the layers of exactly these kinds, in one run without gradients."""
    recorder = _Recorder(network.buffers())
    layers = {module: name for name, module in network.named_modules() if type(module) in kinds}
    own = example.clone()  # a forward may write over what it is given
    with torch.no_grad(), recorder.watching(layers), recorder:
        recorder.flow.output = network(own)
    recorder.note("output", None, recorder.values_of(recorder.flow.output), ())
    return recorder.flow


def flows_of(network: nn.Module, example: Tensor, kinds: Collection[type[nn.Module]]) -> list[Dataflow]:
    """The flow on the example, and that on another number of its inputs where the network runs on it.

    What holds of both is no matter of the batch's size, on which a forward may branch.
    """
    flows = [traced(network, example, kinds)]
    with suppress(Exception):  # of any kind: the forward is the user's own, and need not take another batch
        flows.append(traced(network, example[:1] if len(example) > 1 else torch.cat([example, example]), kinds))
    return flows


class _Recorder(TorchFunctionMode):
    """Numbers the values as they appear; keeps every tensor alive, so that no number is of two of them."""

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        super().__init__()
        self.flow = Dataflow()
        self._buffers = {id(buffer) for buffer in buffers}
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []
        self._inside: list[tuple[nn.Module, tuple[int, ...]]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self._inside:
            return func(*args, **(kwargs or {}))
        inputs, given = self.values_of((args, kwargs)), self._tensors((args, kwargs))
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if name not in _OF_SHAPE_ALONE or self._tensors(result):
            self.flow.loose += [x for x in given if isinstance(x, nn.Parameter) or id(x) in self._buffers]
            self.note(name, None, inputs, self._written(result))
        return result

    @contextmanager
    def watching(self, layers: Mapping[nn.Module, str]) -> Iterator[None]:
        """Hooks on the layers, which make each a step."""

        def entered(module: nn.Module, args: Any, kwargs: Any) -> None:
            if not self._inside and (read := self._tensors((args, kwargs))):
                self.flow.read.setdefault(module, read[0])
            self._inside.append((module, self.values_of((args, kwargs))))

        def left(module: nn.Module, args: Any, result: Any) -> None:
            _, inputs = self._inside.pop()
            if not self._inside:
                self.note(layers[module], module, inputs, self._written(result))

        with ExitStack() as stack:
            for module in layers:
                for hook in (
                    module.register_forward_pre_hook(entered, with_kwargs=True),
                    module.register_forward_hook(left),
                ):
                    stack.callback(hook.remove)
            yield

    def note(self, name: str, module: nn.Module | None, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        self.flow.steps.append(Step(name=name, module=module, inputs=inputs, outputs=outputs))

    def values_of(self, tree: Any) -> tuple[int, ...]:
        """Numbers of the tensors' present values."""
        return tuple(self._numbers[id(x)] if id(x) in self._numbers else self._numbered(x) for x in self._tensors(tree))

    def _written(self, tree: Any) -> tuple[int, ...]:
        """New numbers, also where a function returns the very tensor that it read: it may have changed it."""
        return tuple(self._numbered(x) for x in self._tensors(tree))

    def _numbered(self, x: Tensor) -> int:
        number = self._numbers[id(x)] = len(self.flow.shapes)
        with torch._C.DisableTorchFunction():
            self.flow.shapes[number] = x.shape
        self._alive.append(x)
        return number

    @staticmethod
    def _tensors(tree: Any) -> list[Tensor]:
        return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
