"""What calibration inputs say about layers: moments of what a layer reads, and least-squares fits to its outputs.

Legend: g groups, O outputs and C input channels of one group, F = C * taps what one output position of a group reads (a
patch), K what the last part of a compressed layer reads at a position, n patches.

A compressed layer is mostly a fixed linear map of the patch (pooling, a first factor, a choice of channels), then a
trainable last one. With the patches' moments the best last part follows in closed form, without another pass over the
inputs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration.geometry import padding_pairs
from sconv_search.compressor import site
from sconv_search.copying import copied
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind
from sconv_search.system.cache import Memo, network_content, unwritten_content

BATCH = 32
MOST_POSITIONS, MOST_PER_FEATURE = 2**13, 8
"""Output positions of a layer that are read, spread evenly over all inputs: the greater of the first and of so many
times F.

Calibrated ResNet-20 at a third of the FLOPs: eight times as many positions change its top-1 by less than 0.5 points.
"""
MOST_PAIRS, MOST_PAIRS_PER_FEATURE = 2**15, 32
"""The same of fits in sequence, whose targets are no function of what the layer reads."""
PATCH_VALUES = 2**24
"""Values of the patches that are held at a time: 128 MiB."""
KEPT_BYTES = 2**31
"""Moments that are remembered; those of all layers of a ResNet-50 are about half of it."""
RIDGE = 1e-6
"""Relative to the mean second moment; keeps directions that the calibration inputs never take where they were."""
Reduce = Callable[[Tensor], Tensor]
"""The fixed part of a compressed layer, on patches (g, n, C, taps...): -> (g, n, ...), flattened to (g, n, K)."""
Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class Moments(NamedTuple):
    """Averages over the patches x (g, F) that a layer read, in float64.

    Attributes:
        mean: of x, (g, F).
        second: of x x^T, (g, F, F).
        positions: how many patches.
    """

    mean: Tensor
    second: Tensor
    positions: int

    @property
    def covariance(self) -> Tensor:
        """Of (x - mean) (x - mean)^T, (g, F, F)."""
        return self.second - self.mean[:, :, None] * self.mean[:, None]

    def squares(self, *, intercept: bool) -> Tensor:
        """What weighs a kernel's change, (g, F, F): the covariance where a bias takes up the mean of the change."""
        return self.covariance if intercept else self.second


_KEPT: Memo[Moments] = Memo(KEPT_BYTES)


def input_moments(
    network: nn.Module, names: Iterable[str], inputs: Tensor, *, once: bool = False
) -> dict[str, Moments]:
    """Moments of what each named layer reads as the network, in evaluation mode, runs on the inputs.

    Results are kept by the contents of network and inputs, so asking again for another copy of them costs their hash
    only. Of a layer with more output positions than ``MOST_POSITIONS`` says, as many, spread evenly, are read.
    Transposed convolutions are not supported: their output positions read patches of different shapes.

    Args:
        names: Conv1d, Conv2d, Conv3d (any padding, stride, dilation, groups) or Linear layers of the network.
        inputs: (N, ...), run in batches.
        once: of this network, such as one of many that are pruned differently, they are asked once: nothing is kept.

    Returns:
        Moments by name; without the layers that never ran as modules, of which a RuntimeWarning tells.

    Raises:
        KeyError: the network lacks a named layer.
        TypeError: a named module is of another kind.
        ValueError: there is no input.
    """
    names = list(names)
    if not len(inputs):
        raise ValueError(f"calibration needs inputs (N, ...) with N >= 1, got {tuple(inputs.shape)}")
    for name in names:
        if layer_kind(site(network, name)) not in LAYER_KINDS:
            raise TypeError(
                f"site {name!r}: moments are known for convolutions and linear layers, got {site(network, name)}"
            )
    if not names:
        return {}
    if once:
        moments_by_name = _measured(network, names, inputs)
    else:
        key = (network_content(network), unwritten_content(inputs))
        moments_by_name = {name: kept for name in names if (kept := _KEPT.get((key, name))) is not None}
        fresh = _measured(network, [name for name in names if name not in moments_by_name], inputs)
        for name, moments in fresh.items():
            _KEPT.put((key, name), moments)
        moments_by_name |= fresh
    if missing := [name for name in names if name not in moments_by_name]:
        warnings.warn(f"calibration never ran {', '.join(missing)}, which keep their data-free form", RuntimeWarning, 2)
    return moments_by_name


def moment_bytes(layer: nn.Module) -> int:
    """Bytes that the moments of what this layer reads take."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    features, groups = layer.weight[0].numel(), 1 if isinstance(layer, nn.Linear) else layer.groups
    return 8 * groups * features * (features + 1)


def _measured(network: nn.Module, names: list[str], inputs: Tensor) -> dict[str, Moments]:
    if not names:
        return {}
    observed = copied(network).eval()
    sums: dict[str, Moments] = {}

    def watch(name: str) -> None:
        def see(layer: nn.Module, positional: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            x = positional[0] if positional else next(iter(named.values()))
            sums[name] = _with_patches(sums.get(name), layer, x.detach(), share=seen / len(inputs))  # type: ignore[arg-type]

        site(observed, name).register_forward_pre_hook(see, with_kwargs=True)

    for name in names:
        watch(name)
    device = next((weight.device for weight in network.parameters()), inputs.device)
    with torch.no_grad():
        for batch in inputs.split(BATCH):
            seen = len(batch)
            observed(batch.to(device, copy=True))  # a forward may write over what it is given
    return {
        name: Moments(total.mean / total.positions, total.second / total.positions, total.positions)
        for name, total in sums.items()
    }


def _with_patches(sums: Moments | None, layer: Layer, x: Tensor, *, share: float) -> Moments:
    """The sums with those of the layer's patches in the input, which is that share of all inputs."""
    linear, positions, features = isinstance(layer, nn.Linear), _positions(layer, x), layer.weight[0].numel()
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    if sums is None:
        new = torch.zeros(groups, features, features, dtype=torch.float64, device=x.device)
        sums = Moments(new[:, 0].clone(), new, 0)
    mean, second, count = sums
    most = math.ceil(share * max(MOST_POSITIONS, MOST_PER_FEATURE * features))
    chosen = spread_evenly(positions, most).to(x.device)
    rows = x.reshape(-1, features) if linear else None
    for part in chosen.split(max(1, PATCH_VALUES // (groups * features))):
        patches = rows[part][None] if rows is not None else conv_patches(layer, x, part).flatten(2)  # type: ignore[arg-type]
        # products in fp32 for fp32 inputs: 1e-7 of the greatest moment, fits of equal scores, a third faster than in
        # fp64
        patches = patches if patches.dtype == torch.float64 else patches.float()
        mean, second = mean + patches.double().sum(1), second.add_(patches.mT @ patches)
    return Moments(mean, second, count + len(chosen))


def patches_and_outputs(layer: Layer, x: Tensor, y: Tensor, *, share: float) -> Iterator[tuple[Tensor, Tensor]]:
    """What the layer reads of an input, and what stands at the same positions of y, in parts: (g, n, F) and (g, n, O).

    Args:
        y: of the shape of the layer's output.
        share: of all inputs, that x is; so many of the positions that ``MOST_PAIRS`` allows are read.
    """
    linear, positions, features = isinstance(layer, nn.Linear), _positions(layer, x), layer.weight[0].numel()
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    chosen = spread_evenly(positions, math.ceil(share * max(MOST_PAIRS, MOST_PAIRS_PER_FEATURE * features))).to(
        x.device
    )
    outputs = y if linear else y.reshape(-1, *y.shape[1 - layer.weight.dim() :]).movedim(1, -1)
    outputs = outputs.reshape(positions, groups, -1)
    rows = x.reshape(-1, features) if linear else None
    for part in chosen.split(max(1, PATCH_VALUES // (groups * features))):
        patches = rows[part][None] if rows is not None else conv_patches(layer, x, part).flatten(2)  # type: ignore[arg-type]
        yield patches, outputs[part].transpose(0, 1)


def _positions(layer: Layer, x: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return x.numel() // layer.in_features
    batch = x.shape[0] if x.dim() == layer.weight.dim() else 1
    return batch * math.prod(_output_sizes(layer, _padded(layer, x).shape[2:]))


def spread_evenly(count: int, most: int) -> Tensor:
    """At most ``most`` of the positions 0..count - 1, ascending: one of each of as many equal runs.

    Its place in the run follows multiples of the golden ratio, so that no row or column of an image is preferred.
    """
    if count <= most:
        return torch.arange(count)
    run = torch.arange(most + 1)
    starts = run * count // most
    return starts[:-1] + ((run[:-1].double() * ((math.sqrt(5) - 1) / 2)).frac() * starts.diff()).long()


def _padded(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """The input (N, C, space...) with the convolution's padding; an input without the batch axis gets one."""
    x = x if x.dim() == conv.weight.dim() else x[None]
    pads = padding_pairs(conv)
    return F.pad(x, pads, mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode) if any(pads) else x


def _output_sizes(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, sizes: Iterable[int]) -> list[int]:
    axes = zip(sizes, conv.kernel_size, conv.stride, conv.dilation, strict=True)
    return [(size - gap * (taps - 1) - 1) // step + 1 for size, taps, step, gap in axes]


def conv_patches(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, positions: Tensor) -> Tensor:
    """What the convolution reads at these output positions, counted through batch and space: (g, n, C, taps...)."""
    padded = _padded(conv, x)
    sizes = padded.shape[2:]
    read = positions // math.prod(_output_sizes(conv, sizes))  # which input of the batch, then which place in it
    coordinates = torch.unravel_index(positions % math.prod(_output_sizes(conv, sizes)), _output_sizes(conv, sizes))
    for axis, size in enumerate(sizes):
        taps = torch.arange(conv.kernel_size[axis], device=x.device) * conv.dilation[axis]
        start = (coordinates[axis] * conv.stride[axis]).view(-1, *(1 for _ in range(axis)))
        read = read[..., None] * size + start[..., None] + taps
    rows: Tensor = padded.movedim(1, -1).reshape(-1, conv.in_channels)[read]  # (n, taps..., C_in)
    patches: Tensor = rows.unflatten(-1, (conv.groups, -1)).movedim((-2, -1), (0, 2))
    # a group's patches together: sums and products of depthwise layers' are ten times as fast
    return patches.contiguous()


def grouped_kernel(layer: nn.Module) -> Tensor:
    """The trained weights by group in float64, (g, O, C, taps...)."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    kernel_gOCT: Tensor = layer.weight.detach().double().unflatten(0, (groups, -1))
    return kernel_gOCT


class Tail(NamedTuple):
    """The last part of a compressed layer, in float64.

    Attributes:
        kernel: (g, O, K).
        shift: to be added to the layer's bias, (g, O); 0 where the fit has no intercept.
        outputs: second moments of what it puts out, (g, O, O); about the mean where the fit has an intercept.
        error: mean squared difference to the dense layer's outputs over the patches that were read, summed over
            outputs.
    """

    kernel: Tensor
    shift: Tensor
    outputs: Tensor
    error: float


def least_squares_tail(
    kernel_gOCT: Tensor, tail_gOK: Tensor, moments: Moments, reduce: Reduce, *, intercept: bool, ridge: float = RIDGE
) -> Tail:
    """The last linear map T that best continues a fixed one P to the dense layer's outputs over the calibration inputs.

    ``T = T_0 + (W - T_0 P) S P^T (P S P^T + ridge)^-1``, with W the dense kernel, T_0 the data-free tail and S the
    second moments: never a greater squared error than T_0's on the patches that were read.

    Args:
        kernel_gOCT: the dense layer's kernel by group, (g, O, C, taps...), see ``grouped_kernel``.
        tail_gOK: the data-free tail, (g, O, K); any trailing axes that flatten to K do.
        reduce: applies P to patches (g, n, C, taps...), a group's to its own: -> (g, n, K), or axes that flatten to K.
        intercept: the layer has a bias, which may shift: S is then the covariance.
        ridge: relative to the mean of the diagonal of P S P^T.
    Source: the normal equations of ridge regression, as He, Zhang, Sun, Channel Pruning for Accelerating Very Deep
        Neural Networks, ICCV 2017, equation 5, without the ridge.
    """
    taken, second = kernel_gOCT.shape[2:], moments.squares(intercept=intercept)

    def reduced(rows_gnF: Tensor) -> Tensor:
        return reduce(rows_gnF.unflatten(2, taken)).flatten(2)

    kernel_gOF, start_gOK = kernel_gOCT.flatten(2).to(second), tail_gOK.flatten(2).to(second)
    to_tail_gFK = reduced(second)  # S is symmetric, so its rows may be read as patches
    square_gKK = reduced(to_tail_gFK.mT.contiguous())
    cross_gOK = kernel_gOF @ to_tail_gFK
    found_gOK = start_gOK + ridge_solved(square_gKK, cross_gOK - start_gOK @ square_gKK, ridge)
    shift_gO = kernel_gOF.new_zeros(kernel_gOF.shape[:2])
    if intercept:
        mean_gF1 = moments.mean[..., None]
        shift_gO = (kernel_gOF @ mean_gF1 - found_gOK @ reduced(moments.mean[:, None]).mT)[..., 0]
    scaled_gOK = found_gOK @ square_gKK
    error = ((kernel_gOF @ second) * kernel_gOF).sum() + ((scaled_gOK - 2 * cross_gOK) * found_gOK).sum()
    return Tail(found_gOK, shift_gO, scaled_gOK @ found_gOK.mT, max(0.0, float(error)))


def ridge_solved(square_gKK: Tensor, cross_gOK: Tensor, ridge: float = RIDGE) -> Tensor:
    """``cross (square + r I)^-1`` of positive semidefinite squares, with r relative to the mean of each diagonal."""
    diagonal = square_gKK.diagonal(dim1=1, dim2=2)
    added = (ridge * diagonal.mean(1, keepdim=True)).clamp(min=torch.finfo(diagonal.dtype).tiny)
    damped = (square_gKK + square_gKK.mT) / 2 + torch.diag_embed(added.expand_as(diagonal))
    solved: Tensor = torch.linalg.solve(damped, cross_gOK, left=False)
    return solved


def output_error(change_gOF: Tensor, moments: Moments, *, intercept: bool) -> Tensor:
    """Mean squared change of the layer's outputs, summed over them, when its kernel changes by (g, O, F).

    Args:
        intercept: the bias takes up the mean of the change.
    """
    second = moments.squares(intercept=intercept)
    change = change_gOF.flatten(2).to(second)
    return ((change @ second) * change).sum()
