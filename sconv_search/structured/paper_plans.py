"""The plans of the structured convolutions' paper, by rule, so that they can be costed, tried and beaten.

A rule takes a network and chooses a structure for its layers by their kind. The first convolution stays dense in all of
them. The rules of the CIFAR ResNets, ResNet-18, ResNet-34 and MobileNetV2 are the paper's, and give its costs (the
table is in docs/papers-plans.md). Those of ResNet-50, EfficientNet-B1 and HRNet are this project's: the same rules,
applied to them.

Source: Bhalgat et al., Structured Convolutions for Efficient Neural Network Design, NeurIPS 2020, arXiv 2008.02454.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import nn

from sconv_search.compressor import layers
from sconv_search.named import named
from sconv_search.plan import Choice, CompressionPlan, Structure
from sconv_search.structured.regularization import METHOD

NARROW = 64
"""Input channels up to which plan "B" of a ResNet keeps all of them."""
Rule = Callable[[nn.Module], Structure | None]
"""The structure (c, n) of a layer; None leaves it dense."""


def spatial(layer: nn.Module) -> Structure | None:
    """``(C, (N + 1) / 2)`` for N x N taps, which is ``(C, 2)`` for 3x3; pointwise and linear layers stay dense."""
    taps = _taps(layer)
    return {"c": _channels(layer), "n": (taps + 1) // 2} if taps > 1 else None


def spatial_and_channels(layer: nn.Module) -> Structure | None:
    """``spatial``, with half of the channels where there are more than 64."""
    structure, channels = spatial(layer), _channels(layer)
    return structure if structure is None or channels <= NARROW else {**structure, "c": channels // 2}


def bottleneck(layer: nn.Module) -> Structure | None:
    """``spatial_and_channels``, and half of the channels of pointwise convolutions too."""
    pointwise = isinstance(layer, nn.Conv2d) and _taps(layer) == 1
    return {"c": _channels(layer) // 2, "n": 1} if pointwise else spatial_and_channels(layer)


def inverted_residual(layer: nn.Module, *, quarters: int) -> Structure | None:
    """So many quarters of the channels of pointwise and linear layers, and ``spatial`` for depthwise ones."""
    if _taps(layer) > 1:
        return spatial(layer)
    taps = {"n": 1} if isinstance(layer, nn.Conv2d) else {}
    return {"c": _channels(layer) * quarters // 4, **taps}


_MOBILE: Mapping[str, Rule] = {"A": partial(inverted_residual, quarters=3), "B": partial(inverted_residual, quarters=2)}
PAPER_PLANS: Mapping[str, Rule] = {
    "resnet18/A": spatial,
    "resnet18/B": spatial_and_channels,
    "resnet34/A": spatial,
    "resnet34/B": spatial_and_channels,
    "resnet50/A": spatial,
    "resnet50/B": bottleneck,
    **{f"mobilenet_v2/{letter}": rule for letter, rule in _MOBILE.items()},
    **{f"efficientnet_b1/{letter}": rule for letter, rule in _MOBILE.items()},
    "hrnet_w18_small_v2/A": spatial,
    "hrnet_w18_small_v2/B": spatial_and_channels,
    **{f"cifar/resnet{depth}/A": spatial for depth in (20, 32, 56)},
    **{f"cifar/mobilenet_v2/{letter}": rule for letter, rule in _MOBILE.items()},
}
"""Name of a plan -> its rule. A rule serves any network of that family."""


def paper_plan(name: str, network: nn.Module, method: str = METHOD) -> CompressionPlan:
    """The named plan of a network, its channels summed in their natural order.

    Args:
        name: key of ``PAPER_PLANS``.
        method: key of the method that carries the plan out, ``structured_conv`` or ``structured_natural``.

    Raises:
        KeyError: there is no plan of that name; the nearest and all are given.
        ValueError: the rule finds no layer in the network.
    """
    rule = named("plan", name, PAPER_PLANS)
    chosen = {site: structure for site, layer in _ruled(network) if (structure := rule(layer)) is not None}
    if not chosen:
        raise ValueError(f"plan {name!r} finds no layer to structure in {type(network).__name__}")
    return CompressionPlan(
        sites={site: Choice(method=method, structure=site_structure) for site, site_structure in chosen.items()}
    )


def _ruled(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """2-D convolutions and linear layers after the first convolution, but those of squeeze-and-excitation blocks.

    Those see one position each, so that they cost next to nothing.
    """
    squeezes = tuple(
        f"{name}." for name, module in network.named_modules() if type(module).__name__.startswith("Squeeze")
    )
    convolutions = [
        (name, layer) for name, layer in layers(network).items() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    stem = next((name for name, layer in convolutions if isinstance(layer, nn.Conv2d)), None)
    return ((name, layer) for name, layer in convolutions if name != stem and not name.startswith(squeezes))


def _channels(layer: nn.Module) -> int:
    """Input channels of one group, or input features."""
    return int(layer.weight.shape[1])  # type: ignore[index]  # a tensor


def _taps(layer: nn.Module) -> int:
    """Taps along the longer axis of a convolution; 1 for linear layers."""
    return max(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
