"""What a network is called with: what was told of networks of its architecture, else an input on which it runs."""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict
from collections.abc import Hashable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from sconv_search.copying import copied
from sconv_search.cost.counting import require_forward
from sconv_search.cost.network_inputs import Inputs, first_of, is_shape
from sconv_search.system.cache import architecture

SIZES = (32, 64, 28, 12, 16, 8, 96, 128, 224, 227, 299, 1024, 16000, 256, 384, 240, 288, 320, 448, 512)
"""Lengths of each spatial axis that are tried where no shape was told, in turn."""
MOST_POSITIONS = 2**18
MOST_KINDS = 4
"""Numbers of input channels that are tried: those that the first layers read."""
TOKENS = (16, 8, 64, 50, 197, 128)
POSITIONS = (8, 16, 32)
"""Lengths of both axes of images whose positions a linear layer reads."""
FITTED_FROM = (32, 128)
"""Lengths from which a size is looked for that a linear layer after a flattening can read."""
MOST_FITS = 5
TOLD = 16
_TOLD: OrderedDict[Hashable, Inputs] = OrderedDict()


def takes(network: nn.Module, inputs: Inputs) -> None:
    """Remembers what networks of this architecture are called with, for all that has to run them."""
    key = architecture(network)
    _TOLD[key] = tuple(inputs) if is_shape(inputs) else inputs
    _TOLD.move_to_end(key)
    if len(_TOLD) > TOLD:
        _TOLD.popitem(last=False)


def learn_from(network: nn.Module, calibration: Inputs) -> None:
    """Remembers what calibration inputs (N, ...) tell, where nothing was told before, and the network runs on one."""
    tensors = [leaf for leaf in pytree.tree_leaves(calibration) if isinstance(leaf, Tensor)]
    if _TOLD.get(architecture(network)) is not None or not all(leaf.numel() for leaf in tensors):
        return
    if isinstance(calibration, Tensor) and calibration.is_floating_point():
        one: Inputs = tuple(calibration.shape[1:])
    else:
        device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
        one = pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), first_of(calibration, 1))
    with torch.random.fork_rng():
        if _runs(copied(network).eval(), one):
            takes(network, one)


def told_inputs(same: Hashable) -> Inputs | None:
    """What ``takes`` was told of networks of this ``architecture``."""
    return _TOLD.get(same)


def told_shape(same: Hashable) -> tuple[int, ...] | None:
    """The shape of one input, without the batch, where that is all that ``takes`` was told; of one tensor, too."""
    told = _TOLD.get(same)
    if isinstance(told, Tensor):
        return tuple(told.shape[1:])
    return tuple(told) if told is not None and is_shape(told) else None  # type: ignore[arg-type]  # of whole numbers


def guesses(network: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of one input, without the batch, that the first layers could read; the likeliest come first."""
    readers: dict[tuple[int, int], None] = {}
    for layer in network.modules():
        if isinstance(layer, _ConvNd):
            readers.setdefault((len(layer.kernel_size), layer.in_channels))
        elif isinstance(layer, nn.Linear):
            readers.setdefault((0, layer.in_features))
    first = list(readers)[:MOST_KINDS]
    for axes, channels in first:
        yield from ((channels, *[size] * axes) for size in (SIZES if axes else (1,)) if size**axes <= MOST_POSITIONS)
    for channels in (channels for axes, channels in first if not axes):  # linear layers that read tokens or positions
        yield from ((length, channels) for length in _token_counts(network))
        yield from (shape for size in POSITIONS for shape in ((channels, size, size), (size, size, channels)))


def guessed_inputs(network: nn.Module) -> Inputs | None:
    """What a copy of the network runs on: one of the guesses, also as each of several inputs, a size that its linear
    layers fit to, or a row of tokens; None if it runs on none.
    """
    tried, count = copied(network).eval(), _required(network)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the forward says of inputs that nobody gave
        return next((inputs for inputs in _attempts(tried, count) if _runs(tried, inputs)), None)


def _attempts(network: nn.Module, count: int) -> Iterator[Inputs]:
    first = next((layer for layer in network.modules() if isinstance(layer, (nn.Embedding, nn.Linear, _ConvNd))), None)
    if isinstance(first, nn.Embedding):
        for length in _token_counts(network):
            tokens = (torch.arange(length, device=first.weight.device) % first.num_embeddings)[None]
            yield tokens if count == 1 else (tokens,) * count
    for shape in guesses(network):
        yield shape if count == 1 else (shape,) * count
    for shape in guesses(network) if count == 1 else ():
        if len(shape) > 1 and shape[-1] in FITTED_FROM:
            yield from _fitted(network, shape)


def _fitted(network: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Shapes that come nearer to what the linear layer reads at which a forward fails, as after a flattening."""
    channels, size, axes = shape[0], shape[1], len(shape) - 1
    for _ in range(MOST_FITS):
        reads = _reads_of_linear_layers(network, (channels, *[size] * axes))
        wanted, given = reads[-1] if reads else (1, 1)
        if wanted == given:
            return
        fitted = max(1, round(size * (wanted / given) ** (1 / axes)))
        size = fitted if fitted != size else size + (1 if wanted > given else -1)
        if size < 1 or size**axes > MOST_POSITIONS:
            return
        yield (channels, *[size] * axes)


def _reads_of_linear_layers(network: nn.Module, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """How many numbers each linear layer that is called has to read, and how many it is given."""
    reads: list[tuple[int, int]] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, given: reads.extend((layer.in_features, x.shape[-1]) for x in given[:1] if x.dim())
        )
        for layer in network.modules()
        if isinstance(layer, nn.Linear)
    ]
    _runs(network, shape)
    for handle in handles:
        handle.remove()
    return reads


def _token_counts(network: nn.Module) -> list[int]:
    """Numbers of tokens: those of learned positions, of shape (1, T, C), and a few."""
    positions = (
        weight.shape[1]
        for weight in network.parameters()
        if not is_lazy(weight) and weight.dim() == 3 and len(weight) == 1
    )
    return [*dict.fromkeys([*positions, *TOKENS])]


def _required(network: nn.Module) -> int:
    """How many arguments the forward cannot do without; at least one."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(one.kind in positional and one.default is one.empty for one in parameters))


def _runs(network: nn.Module, inputs: Inputs) -> bool:
    try:
        require_forward(network, inputs)
    except ValueError:
        return False
    return True
