"""What the baselines that factorize kernels share: factors kept by content, layers made from them, ranks and refusals."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping
from functools import wraps
from threading import Lock
from typing import TypeVar

import tensorly
import torch
from tensorly import tenalg
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sconv_search.compressor import Penalty, require_sites, site, swapped
from sconv_search.plan import CompressionPlan, Structure

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Result = TypeVar("Result", bound=tuple[object, ...])
KEPT_BYTES = 2**30
"""Results that one remembered function keeps; the SVDs of all layers of a ResNet-50 are about a quarter of it."""


def _content(tensor: Tensor) -> tuple[Hashable, ...]:
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return (hashlib.blake2b(plain, digest_size=16).digest(), tuple(tensor.shape), tensor.dtype, tensor.device)


def remembered(compute: Callable[..., Result]) -> Callable[..., Result]:
    """The function of one tensor and some numbers, its last results kept by the tensor's content.

    By content, because every trial of a search decomposes another copy of the same trained weights.
    """
    kept: OrderedDict[Hashable, Result] = OrderedDict()
    lock = Lock()

    def total() -> int:
        return sum(t.numel() * t.element_size() for result in kept.values() for t in result if isinstance(t, Tensor))

    @wraps(compute)
    def look_up(tensor: Tensor, *numbers: float) -> Result:
        key = (_content(tensor), numbers)
        with lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        result = compute(tensor, *numbers)
        with lock:
            kept[key] = result
            while len(kept) > 1 and total() > KEPT_BYTES:
                kept.popitem(last=False)
        return result

    return look_up


@remembered
def singular_factors(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SVD (U, S, Vh) of each of the (g, M, N) matrices in float64; computed once, whatever ranks are cut from it."""
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        found = [tenalg.svd_interface(matrix, flip_sign=False) for matrix in matrices.detach().double()]
    u, s, vh = (torch.stack(parts) for parts in zip(*found, strict=True))
    return u, s, vh


def convolution(conv: Conv, kernel: Tensor, *, axes: Collection[int], groups: int = 1, bias: Tensor | None = None) -> Conv:
    """A convolution by that (O, C / groups, taps...) kernel, with the geometry of ``conv`` along the named spatial axes.

    Along the other axes it has stride 1 and no padding; its kernel should have one tap there.
    """

    def along(values: tuple[int, ...], other: int) -> tuple[int, ...]:
        return tuple(value if axis in axes else other for axis, value in enumerate(values))

    named = isinstance(conv.padding, str)
    padding: object = (conv.padding if axes else 0) if named else along(conv.padding, 0)  # type: ignore[arg-type]
    result: Conv = skip_init(  # draws no random numbers
        type(conv), kernel.shape[1] * groups, kernel.shape[0], tuple(kernel.shape[2:]), stride=along(conv.stride, 1),
        padding=padding, dilation=along(conv.dilation, 1), groups=groups, bias=bias is not None,
        padding_mode=conv.padding_mode if axes else "zeros", device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    fill_(result, kernel, bias)
    return result


def fill_(layer: Conv | nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    """Copies the values into the layer's own parameters."""
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)


def ranks_in_steps(dense: int, unit: int, *, steps: int, most: int) -> list[int]:
    """Ranks up to ``most`` at equal steps of the dense layer's MACs, cheapest first, where one rank takes ``unit`` MACs."""
    most = min(most, (dense - 1) // unit)
    return sorted({rank for step in range(1, steps) if 1 <= (rank := dense * step // (steps * unit)) <= most})


def require_ranks(name: str, method: str, structure: Structure, largest: Mapping[str, int]) -> None:
    """Refuses a structure that has not exactly these entries, each from 1 to its largest.

    Raises:
        ValueError: entries are missing, unknown or out of range; site, value and what would be right are named.
    """
    if set(structure) != set(largest):
        raise ValueError(f"site {name!r}: {method} takes {sorted(largest)}, got {sorted(structure)}")
    for entry, most in largest.items():
        if not 1 <= structure[entry] <= most:
            raise ValueError(f"site {name!r}: {entry} must be in 1..{most}, got {structure[entry]}")


def no_penalty(network: nn.Module) -> Penalty:
    """Constant 0, on the network's device: the method works on trained weights."""
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    return lambda: torch.zeros((), device=device)


def replaced(
    network: nn.Module, plan: CompressionPlan, method: str, build: Callable[[str, nn.Module, Structure], nn.Module]
) -> nn.Module:
    """A copy of the network in which ``build(name, layer, structure)`` stands at each of the plan's sites of that method.

    Raises:
        KeyError: the plan names a site that the network lacks.
    """
    require_sites(network, plan.sites)
    chosen = {name: choice.structure for name, choice in plan.only(method).sites.items()}
    return swapped(network, {name: build(name, site(network, name), structure) for name, structure in chosen.items()})
