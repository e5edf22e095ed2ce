"""Which layers of a network another layer can stand in for, found by running the network with such layers.

A network may do more with a layer than call it: read its weights by itself, ask for its class, or reach it by a way
that a copy does not follow. So all layers are put to the proof on one input: layers stand in for them that compute the
same, but show a ``weight`` without meaning. Where the network then fails, or its outputs change, the layers at fault
are left alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping

from torch import nn
from torch.nn.parameter import is_lazy

from sconv_search.calibration.replacement_proof import Proof
from sconv_search.compressor import layers, site
from sconv_search.copying import hooked
from sconv_search.cost.input_shape import guessed_inputs, told_inputs
from sconv_search.layer_kinds import KINDS, obstacles
from sconv_search.strict_json import shortened
from sconv_search.system.cache import Memo, architecture
from sconv_search.system.content import content_of, tensor_content

SMALL = 64
"""Values of a tensor with which, as a gate does, it may decide on the forward."""
_KEPT: Memo[tuple[Mapping[str, str] | None]] = Memo(2**20, results=32)


def replaceable(network: nn.Module) -> dict[str, nn.Module]:
    """The convolutions and linear layers that another layer can stand in for, by name, in the order of the network.

    A shared layer comes once, by its first name. See ``left_alone``.
    """
    left = left_alone(network)
    return {name: layer for name, layer in layers(network, KINDS).items() if name not in left}


def left_alone(network: nn.Module) -> dict[str, str]:
    """Why each module with weights that no other layer can stand in for is left alone.

    Known of every network is what shows without running it. Where its tensors have values, it is run in evaluation
    mode on what ``takes`` was told, else on the first common input on which it runs: twice, if nothing is wrong; twice
    on another number of inputs with gradients enabled, unless it is large; and once in training mode, for weights that
    it reads in training alone. Another network of the same architecture, with equal gates, is not run again. A network
    that runs on none of those inputs is not tested, and a warning says so.

    Raises:
        ValueError: the network fails on what was told.
        TypeError: it cannot be copied.
    """
    failures = _failures(network)
    if failures is None:
        warnings.warn(
            f"{type(network).__name__} runs on none of the inputs that were tried, so whether it reads its layers' "
            "weights by itself is not known, and all of them are offered; name what it is called with, a shape or an "
            "example: sconv_search.cost.takes(network, (3, 64, 64))"
        )
    return {**obstacles(network), **(failures or {})}


def require_no_failures(network: nn.Module, names: Iterable[str]) -> None:
    """Refuses sites where the network would fail, or compute something else, with any other layer: see ``left_alone``.

    Where it runs on no input that is known, nothing is refused: the plan is the caller's.

    Raises:
        TypeError: the site is named, with the reason.
        ValueError: the network fails on what was told.
    """
    failures = _failures(network) or {}
    reasons = {network.get_submodule(name): reason for name, reason in failures.items()}
    for name in names:
        if (reason := reasons.get(site(network, name))) is not None:
            raise TypeError(shortened(f"site {name!r}: no other layer can stand in its place: {reason}"))


def _failures(network: nn.Module) -> Mapping[str, str] | None:
    """What the proof says of layers that could be replaced as far as that shows without running the network; None where
    the network runs on no input that is known.
    """
    if not layers(network, KINDS) or any(tensor.is_meta for tensor in network.parameters()) or _is_one_layer(network):
        return {}
    same = architecture(network)
    told = told_inputs(same)
    key = same, content_of(told), _gates(network)
    known = _KEPT.get(key)
    if known is None:
        inputs = guessed_inputs(network) if told is None else told
        known = (None if inputs is None else Proof(network, inputs).failures(),)
        _KEPT.put(key, known)
    return known[0]


def _is_one_layer(network: nn.Module) -> bool:
    """Whether it is a sequence of one layer, without hooks: it does nothing with the layer but to call it."""
    plain = type(network) is nn.Sequential and len(network) == 1 and "forward" not in vars(network)
    return plain and not any(map(hooked, network.modules()))


def _gates(network: nn.Module) -> Hashable:
    """The contents of small parameters and buffers of modules that are none of torch's, by which a forward may go one
    way or another.
    """
    own = [module for module in network.modules() if not type(module).__module__.startswith("torch.")]
    tensors = [tensor for module in own for tensor in (*module._parameters.values(), *module._buffers.values())]
    small = (tensor for tensor in tensors if tensor is not None and not is_lazy(tensor) and tensor.numel() <= SMALL)
    return tuple(map(tensor_content, small))
