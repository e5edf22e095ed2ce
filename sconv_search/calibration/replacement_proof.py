"""The proof of layers that others may stand in for: the network is run with layers that compute the same.

They show a ``weight`` without meaning. Where the network then fails, or its outputs change, the layers at fault are
searched for by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from sconv_search.calibration.geometry import padding_pairs
from sconv_search.compressor import layers
from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.cost.network_inputs import Inputs, arguments, batch_of, example_input, is_shape, output_leaves
from sconv_search.layer_kinds import KINDS

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
LOW_PRECISION_TOLERANCE = 5e-2
"""What outputs may change by, relative to the largest, where other layers that compute the same stand in."""
READ_VALUES = 4096
"""Of each tensor that a layer reads, that are compared."""
MOST_READ = 2**22
"""Numbers that all layers together read of one input, up to which a network is run on another number of inputs too."""
MOST_RUNS = 64
"""Of one proof, in the search for the layers at fault; those that are still suspected then are left alone."""
READ_ELSEWHERE = "the network reads its weights by itself, not only by calling it"


class _Inner(nn.Module):
    """A module inside of a layer that stands in for another, as structured and factored ones have."""

    def forward(self, *given: Any, **named: Any) -> None:
        """Refuses: only its layer can know what it is for.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a module inside of the layer is called by itself")


class _StandIn(nn.Module):
    """Computes what a layer does, by tensors that it does not show, and keeps some of what it reads."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._computed, self._read, self._inner = _function(layer), list[Tensor](), _Inner()
        for name, parameter in layer._parameters.items():
            shape = () if parameter is None else (parameter.shape[0], *(1 for _ in parameter.shape[1:]))
            self.register_parameter(
                name, None if parameter is None else nn.Parameter(parameter.detach().new_full(shape, torch.nan))
            )

    def forward(self, input: Tensor, *more: Any, **named: Any) -> Tensor:
        """As the layer."""
        self._read.append(_sample(input))
        return self._computed(input, *more, **named)


def _sample(x: Tensor) -> Tensor:
    return x.detach().flatten()[:: max(1, x.numel() // READ_VALUES)].clone()


def _function(layer: nn.Module) -> Callable[..., Tensor]:
    """What a layer computes, by its weights and geometry alone."""
    taken: Any = layer
    weight, bias = taken.weight.detach(), None if taken.bias is None else taken.bias.detach()
    if isinstance(layer, nn.Linear):
        return lambda input: F.linear(input, weight, bias)
    axes = weight.dim() - 2
    if isinstance(layer, _ConvTransposeNd):
        transposed: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        geometry = taken.stride, taken.padding, taken.kernel_size, axes, taken.dilation

        def enlarge(input: Tensor, output_size: list[int] | None = None) -> Tensor:
            ends = _ConvTransposeNd._output_padding(layer, input, output_size, *geometry)
            output: Tensor = transposed(
                input, weight, bias, taken.stride, taken.padding, ends, taken.groups, taken.dilation
            )
            return output

        return enlarge
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    pads, mode = padding_pairs(taken), "constant" if taken.padding_mode == "zeros" else taken.padding_mode

    def convolved(input: Tensor) -> Tensor:
        padded = F.pad(input, pads, mode=mode) if any(pads) else input
        output: Tensor = convolve(padded, weight, bias, taken.stride, 0, taken.dilation, taken.groups)
        return output

    return convolved


@dataclass(frozen=True)
class _Situation:
    """What a network is run on, and whether gradients are enabled meanwhile."""

    inputs: Inputs
    gradients: bool


class Proof:
    """Runs of copies of a network on the same inputs; on random ones where only their shapes are given."""

    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        self._network, self._layers, self._told, self._runs = network, layers(network, KINDS), inputs, 0
        self._situations = [_Situation(_drawn(network, inputs), gradients=False)]
        self._known: list[tuple[list[Any], dict[str, list[Tensor]]]] = []

    def failures(self) -> dict[str, str]:
        """Layers for which others cannot stand in, with the reason."""
        dense = _frozen(copied(self._network))
        reads = _Reads({name: dense.get_submodule(name) for name in self._layers}, self._network)
        try:
            self._note(dense, reads)
        except Exception:  # of any kind: the forward is the user's own
            require_forward(dense, self._told)  # says it in words
            raise
        if reads.size <= MOST_READ:
            self._add_another_(dense, reads)
        with reads, suppress(Exception):  # whether it can be trained, and on what, is not what is asked here
            self._run(dense.train(), replace(self._situations[-1], gradients=True))
        failed = dict.fromkeys(reads.elsewhere(), READ_ELSEWHERE) | self._not_copied(reads.strays)
        while at_fault := self._at_fault([name for name in self._layers if name not in failed]):
            failed |= at_fault
        return {name: failed[name] for name in self._layers if name in failed}

    def _add_another_(self, dense: nn.Module, reads: _Reads) -> None:
        """Another number of inputs with gradients enabled, if it runs on that: a forward may ask for both."""
        first = self._situations[0].inputs
        given = next((leaf for leaf in pytree.tree_leaves(first) if isinstance(leaf, Tensor) and leaf.dim()), None)
        if given is None:
            return
        try:
            inputs = batch_of(self._network, first, 2 if len(given) == 1 else 1)
        except IndexError:  # a number among the tensors, of which there is no batch
            return
        self._situations.append(_Situation(inputs, gradients=True))
        try:
            self._note(dense, reads)
        except Exception:  # of any kind: the forward is the user's own, and need not take any number
            self._situations.pop()

    def _note(self, dense: nn.Module, reads: _Reads) -> None:
        """Keeps what the network gives and what its layers read in the last situation."""
        reads.read = {name: [] for name in self._layers}
        with reads:
            outputs = self._run(dense, self._situations[-1])
        self._known.append((outputs, {name: list(read) for name, read in reads.read.items()}))

    def _not_copied(self, strays: Collection[str]) -> dict[str, str]:
        """All layers, where a copy does not have every module for itself: training it would train the original."""
        reason = (
            f"the network reaches its module {next(iter(strays), '')!r} by a way that no copy follows, as through "
            "a global name or a weak reference"
        )
        return dict.fromkeys(self._layers, reason) if strays else {}

    def _at_fault(self, names: Sequence[str]) -> dict[str, str]:
        """Some of the layers that the network cannot have replaced, found by bisection; none if it can have all
        replaced.
        """
        if not names or (change := self._change(names)) is None:
            return {}
        if len(names) == 1:
            return {names[0]: f"with another layer in its place that computes the same, {change}"}
        at_fault: dict[str, str] = {}
        if self._runs < MOST_RUNS:
            half = len(names) // 2
            at_fault = self._at_fault(names[:half]) | self._at_fault(names[half:])
        together = f"with others in its place and in that of other layers, which compute the same, {change}"
        return at_fault or dict.fromkeys(names, together)

    def _change(self, names: Iterable[str]) -> str | None:
        """What is different with other layers in the places of these; None if nothing is."""
        self._runs += 1
        doubles = {name: _StandIn(self._layers[name]) for name in names}
        changed = _frozen(copied(self._network, {self._layers[name]: double for name, double in doubles.items()}))
        for situation, (wanted, read) in zip(self._situations, self._known, strict=True):
            for double in doubles.values():
                double._read.clear()
            try:
                outputs = self._run(changed, situation)
            except Exception as error:  # of any kind: the forward is the user's own
                return f"the network fails: {type(error).__name__}: {' '.join(str(error).split())}"
            for name, double in doubles.items():  # a deep network may hide a change from its outputs
                if difference := _difference(read[name], double._read):
                    return f"what {name!r} reads changes: {difference}"
            if difference := _difference(wanted, outputs):
                return f"the outputs change: {difference}"
        return None

    def _run(self, network: nn.Module, situation: _Situation) -> list[Any]:
        positional, named = arguments(network, situation.inputs)
        devices = {weight.device for weight in network.parameters() if weight.is_cuda}
        with torch.set_grad_enabled(situation.gradients), torch.random.fork_rng(list(devices)):
            torch.manual_seed(0)
            return output_leaves(network(*positional, **named))


def _frozen(network: nn.Module) -> nn.Module:
    """The network in evaluation mode; where gradients are enabled, it keeps nothing for any, which none asks for."""
    for weight in network.parameters():
        if not is_lazy(weight):
            weight.requires_grad_(False)
    return network.eval()


def _drawn(network: nn.Module, inputs: Inputs) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def drawn(value: Any) -> Any:
        if not is_shape(value):
            return value
        zeros = example_input(network, value)
        return torch.randn(zeros.shape, generator=generator).to(zeros)

    made: Inputs = pytree.tree_map(drawn, inputs, is_leaf=is_shape)
    return made


class _Reads(TorchFunctionMode):
    """Watches who reads the weights of layers, and what the layers read.

    Args:
        watched: layers by name.
        original: the network of which the one that runs is a copy.

    Attributes:
        read: by name of a layer, some of what it was given in each call.
        size: how many numbers all of them were given.
        strays: modules of the original whose weights or buffers were read.
    """

    def __init__(self, watched: Mapping[str, nn.Module], original: nn.Module) -> None:
        super().__init__()
        self._original = {
            id(tensor): name
            for name, module in original.named_modules()
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        }
        self.strays: dict[str, None] = {}
        self._names = {id(weight): name for name, layer in watched.items() for weight in layer.parameters()}
        self._watched, self._inside, self._found, self.size = watched, 0, set[str](), 0
        self.read: dict[str, list[Tensor]] = {name: [] for name in watched}
        self._handles: list[Any] = []

    def elsewhere(self) -> list[str]:
        """Layers whose weights were read outside of their own calls."""
        return [name for name in self._watched if name in self._found]

    def __enter__(self) -> None:
        self._inside = 0  # a run that failed within a layer never left it
        for name, layer in self._watched.items():
            self._handles.append(layer.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True))
            self._handles.append(layer.register_forward_hook(self._leave))
        super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str, layer: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        x = next(iter((*given, *named.values())))
        self.size += x.numel()
        self.read[name].append(_sample(x))
        self._inside += 1

    def _leave(self, layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        self._inside -= 1

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = pytree.tree_leaves((args, kwargs))
        self.strays |= {name: None for leaf in given if (name := self._original.get(id(leaf))) is not None}
        result = func(*args, **(kwargs or {}))
        if not self._inside and any(
            isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result)
        ):  # not of shape or type alone
            read = (self._names.get(id(leaf)) for leaf in given)
            self._found.update(name for name in read if name is not None)
        return result


def _difference(wanted: Sequence[Any], outputs: Sequence[Any]) -> str | None:
    """What is different between outputs beyond rounding; None if nothing is."""
    if len(wanted) != len(outputs):
        return f"there are {len(outputs)} instead of {len(wanted)}"
    for expected, other in zip(wanted, outputs, strict=True):
        if not (isinstance(expected, Tensor) and isinstance(other, Tensor)):
            continue
        if expected.shape != other.shape:
            return f"shape {tuple(expected.shape)} becomes {tuple(other.shape)}"
        moved = _moved(expected, other)
        if not moved <= TOLERANCE.get(expected.dtype, LOW_PRECISION_TOLERANCE):
            return f"by {moved:.1e} of the largest value"
    return None


def _moved(wanted: Tensor, output: Tensor) -> float:
    """The greatest change relative to the largest value; infinite where other values are finite."""
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return 0.0 if torch.equal(wanted, output) else float("inf")
    finite = wanted.isfinite()
    if not torch.equal(finite, output.isfinite()):
        return float("inf")
    values, others = wanted.detach()[finite], output.detach()[finite]
    return float((others - values).abs().max() / values.abs().max().clamp_min(1e-30)) if len(values) else 0.0
