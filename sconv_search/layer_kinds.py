"""The kinds of layers that can be replaced, and why a layer is of none of them.

A layer is of a kind if it computes by the kind's own methods from a ``weight`` and a ``bias`` that are its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

LAYER_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layer kinds that methods may replace; see ``layer_kind``."""
TRANSPOSED_KINDS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Transposed convolutions, which some methods may replace too."""
KINDS: tuple[type[nn.Module], ...] = (*LAYER_KINDS, *TRANSPOSED_KINDS)
COMPUTING = ("__call__", "forward", "_conv_forward", "_output_padding")
"""Methods that decide what a layer of a kind computes."""


def layer_kind(layer: nn.Module) -> type[nn.Module] | None:
    """The one of ``KINDS`` whose function the layer computes; None for all other modules."""
    return None if obstacle(layer) else _base(layer)


def _base(layer: nn.Module) -> type[nn.Module] | None:
    return next((kind for kind in KINDS if isinstance(layer, kind)), None)


def obstacle(layer: nn.Module) -> str | None:
    """Why a module, seen by itself, is of no kind; None for a layer of one.

    A subclass is of the kind of its base where it leaves the methods that compute as they are.
    """
    kind, base = type(layer).__name__, _base(layer)
    if base is None:
        if any(True for _ in layer.children()):
            return f"{kind} uses weights of its own, which belong to no layer"
        return f"{kind} is not supported"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return f"{kind} has no weights before the network has run once"
    if any(getattr(type(layer), name, None) is not getattr(base, name, None) for name in COMPUTING):
        return f"{kind} is a subclass of {base.__name__}, which may compute something else"
    if patched := [name for name, value in vars(layer).items() if callable(value) and hasattr(base, name)]:
        return f"its method {patched[0]!r} was replaced on this layer, which may compute something else"
    return _obstacle_in_weights(layer)


def _obstacle_in_weights(layer: nn.Module) -> str | None:
    own = [*layer._parameters, *layer._buffers, *layer._modules]
    for name in ("weight", "bias"):
        tensor = layer._parameters.get(name)
        if name not in layer._parameters or (name == "weight" and tensor is None):
            sources = ", ".join(other for other in own if other not in ("weight", "bias")) or "elsewhere"
            return f"its {name} is no parameter: it is computed from {sources}"
        if tensor is not None and type(tensor) is not nn.Parameter:
            return f"its {name} is a {type(tensor).__name__}, no plain parameter"
        if tensor is not None and not tensor.is_floating_point():
            return (
                f"its {name} is of type {str(tensor.dtype).removeprefix('torch.')}, not of real floating-point numbers"
            )
    if more := [name for name in own if name not in ("weight", "bias")]:
        return f"it holds {', '.join(more)} beside its weight and bias"
    return None


def reads_single_input(layer: nn.Module, x: Tensor) -> bool:
    """Whether the batch axis is missing from what a convolution or linear layer, whose weight is (O, C, taps...),
    reads.
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return x.dim() == weight.dim() - 1


def with_batch(module: nn.Module, x: Tensor) -> Tensor:
    """What a module reads, with the batch axis that convolutions and linear layers may do without."""
    return x.unsqueeze(0) if isinstance(module, KINDS) and reads_single_input(module, x) else x


def _sharing_memory(parameters: Iterable[nn.Parameter]) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Pairs of parameters that reach into the same memory: what changes one changes the other."""
    places = []
    for parameter in parameters:
        if type(parameter) is not nn.Parameter or parameter.is_meta or not parameter.numel():
            continue
        last = sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
        places.append((parameter.data_ptr(), parameter.data_ptr() + last * parameter.element_size(), parameter))
    reach: tuple[int, nn.Parameter] | None = None
    for begin, end, parameter in sorted(places, key=lambda extent: extent[:2]):
        if reach is not None and begin <= reach[0]:
            yield reach[1], parameter
        if reach is None or end > reach[0]:
            reach = end, parameter


def obstacles(network: nn.Module) -> dict[str, str]:
    """Why each module with weights of its own cannot be replaced, as far as that shows without running the network.

    A shared module goes by its first name. Convolutions and linear layers that are not named here may be replaced.
    """
    holders: dict[nn.Parameter, list[str]] = {}
    for name, module in network.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(parameter, []).append(name)
    for first, other in _sharing_memory(holders):
        holders[first], holders[other] = [*holders[first], *holders[other]], [*holders[other], *holders[first]]
    reasons = {}
    for name, module in network.named_modules():
        own = [
            parameter for parameter in module._parameters.values() if parameter is not None and not is_lazy(parameter)
        ]
        if _base(module) is None and all(parameter.dim() < 2 for parameter in own):
            continue
        others = [other for parameter in own for other in holders[parameter] if other != name]
        reason = obstacle(module)
        if reason is None and not name:
            reason = "it is the network itself, which has no name to be replaced under"
        if reason is None and others:
            reason = (
                f"its weights are those of {others[0]!r} too" if others[0] else "its weights are read outside of it"
            )
        if reason:
            reasons[name] = reason
    return reasons
