"""After channels are chosen: the layers that read them are refit to what they put out before, from the channels that
stay.

Source: He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, equation 5: W S[:, K]
S[K, K]^-1.

Legend: g groups, O outputs, C input channels and T taps of one group, F = C * T features, D of them pruned, K kept.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from sconv_search.calibration.moments import RIDGE, Moments, grouped_kernel, input_moments, least_squares_tail
from sconv_search.channels.cutting import of_each_group, sizes
from sconv_search.channels.dependency_graph import Group
from sconv_search.channels.removal import remaining
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind

FEW = 0.25
"""Share of a layer's features up to which what its pruned groups make is taken out by the inverse of all moments."""
_ROWS: MutableMapping[Tensor, tuple[Tensor, bool, Tensor]] = WeakTensorKeyDictionary()
"""Of second moments, while these are kept: of which features, about the mean or not, and the rows of the inverse; those
asked for last, as the numbers of channels that one group may keep are tried one after the other.
"""


def refit_readers_(
    result: nn.Module, network: nn.Module, kept: Sequence[tuple[Group, Tensor]], calibration: Tensor
) -> None:
    """Changes the weights with which layers of ``result``, a copy of the network still of its shape, read kept
    channels.

    The inputs are those that the layers have in the network as given; the fit never has a greater squared error on
    them. Without a bias, the second moments are taken about 0: fits about the mean leave a shift in the outputs that a
    batch norm must be re-estimated to take off (ResNet-20 at half the FLOPs: equal scores after that, 5 to 30 points
    less before).
    """
    readers = {name: positions for (name, side), positions in remaining(network, kept).items() if side == "in"}
    known = {
        name: positions for name, positions in readers.items() if layer_kind(network.get_submodule(name)) in LAYER_KINDS
    }
    none_kept = [(group, torch.arange(0)) for group, _ in kept]
    left = {name: positions for (name, side), positions in remaining(network, none_kept).items() if side == "in"}
    moments = input_moments(network, known, calibration)
    for name, positions in known.items():
        if name in moments:
            layer = result.get_submodule(name)
            others = left[name]
            if _is_few(layer, others):
                _take_out_(layer, positions, others, moments[name])
            else:
                _refit_(layer, positions, moments[name])


def _is_few(layer: nn.Module, others: Tensor) -> bool:
    """Whether the pruned groups make few of the channels that a layer reads.

    Args:
        others: positions of the other groups' channels.
    """
    channels = sizes(layer)[0]
    return getattr(layer, "groups", 1) == 1 and channels - len(others) <= FEW * channels


def _take_out_(layer: nn.Module, kept: Tensor, others: Tensor, moments: Moments) -> None:
    """The refit where few features may go, as in a layer of a DenseNet, which reads up to 48 groups side by side.

    ``W_K - W_D (B_DD)^-1 B_DK``, with B the inverse of all moments plus the ridge: rows of B serve every number of
    channels that a group may keep, and then D features are to be solved for in place of K.

    Args:
        kept: positions of the channels that stay.
        others: of those of groups that are not pruned.
    """
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    kernel_OF = grouped_kernel(layer)[0].flatten(1).to(moments.second)
    channels = sizes(layer)[0]
    taps = kernel_OF.shape[1] // channels
    own = _features(_complement(others, channels), taps)
    rows = _inverse_rows(moments, own, intercept=layer.bias is not None)
    gone, stays = _features(_complement(kept, channels), taps), _features(kept, taps)
    rows_DF = rows[torch.searchsorted(own, gone)].to(kernel_OF)
    solved_DF = torch.linalg.solve(rows_DF[:, gone], rows_DF)
    change_OF = kernel_OF[:, gone] @ solved_DF
    with torch.no_grad():
        refitted = (kernel_OF - change_OF)[:, stays].unflatten(1, (len(kept), taps))
        layer.weight[:, kept] = refitted.reshape(len(layer.weight), len(kept), *layer.weight.shape[2:]).to(layer.weight)
        if layer.bias is not None:  # the change is all of W where features go
            layer.bias.add_((change_OF @ moments.mean[0].to(change_OF)).to(layer.bias))


def _inverse_rows(moments: Moments, own: Tensor, *, intercept: bool) -> Tensor:
    """Of the inverse of all moments, the rows of these features, (D, F)."""
    known = _ROWS.get(moments.second)
    if known is not None and known[1] is intercept and known[0].equal(own):
        return known[2]
    square = moments.squares(intercept=intercept)[0]
    added = (RIDGE * square.diagonal().mean()).clamp(min=torch.finfo(square.dtype).tiny)
    columns = torch.eye(len(square), dtype=square.dtype)[:, own].to(square)
    rows: Tensor = torch.linalg.solve(square + added * torch.eye(len(square)).to(square), columns).mT.contiguous()
    _ROWS[moments.second] = (own, intercept, rows)
    return rows


def _complement(positions: Tensor, count: int) -> Tensor:
    others = torch.ones(count, dtype=torch.bool)
    others[positions] = False
    return others.nonzero().flatten()


def _features(positions: Tensor, taps: int) -> Tensor:
    return (positions[:, None] * taps + torch.arange(taps)).flatten()


def _refit_(layer: nn.Module, kept: Tensor, moments: Moments) -> None:
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    kernel_gOCT = grouped_kernel(layer)
    kept_gC = of_each_group(kept, sizes(layer)[0], len(kernel_gOCT)).to(layer.weight.device)

    def chosen(patches_gnCT: Tensor) -> Tensor:
        return torch.stack([patches[:, own] for patches, own in zip(patches_gnCT, kept_gC, strict=True)])

    start = chosen(kernel_gOCT)
    tail = least_squares_tail(kernel_gOCT, start, moments, chosen, intercept=layer.bias is not None)
    with torch.no_grad():
        for weight, own, refitted in zip(
            layer.weight.unflatten(0, (len(kernel_gOCT), -1)), kept_gC, tail.kernel, strict=True
        ):
            weight[:, own] = refitted.unflatten(1, start.shape[2:]).to(weight)
        if layer.bias is not None:
            layer.bias.add_(tail.shift.flatten())
