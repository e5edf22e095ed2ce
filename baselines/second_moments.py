"""What calibration inputs say about layers: second moments of a dense layer's outputs, and least-squares refits to them.

Legend: g groups, O outputs of one group, F features that a group's last layer reads at a position, P positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.compressor import site
from sconv_search.replaced_conv import padding_pairs

RIDGE = 1e-6
"""Relative to the mean second moment; keeps directions that the calibration inputs never take where they were."""
See = Callable[[str, Tensor, Tensor], None]


def _watch(network: nn.Module, names: Iterable[str], inputs: Tensor, see: See) -> None:
    """Calls ``see(name, input, output)`` for each named layer as the network (in evaluation mode) runs on the inputs."""
    observed = copy.deepcopy(network).eval()

    def hooked(name: str) -> None:
        site(observed, name).register_forward_hook(lambda _, taken, given: see(name, taken[0], given))

    for name in names:
        hooked(name)
    with torch.no_grad():
        observed(inputs)


def _without_bias(layer: nn.Module, y: Tensor) -> Tensor:
    """The layer's outputs (N, C, positions...) or (..., C) as (g, O, P) in float64, the bias taken off."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    if isinstance(layer, nn.Linear):
        channels, groups = y.double().reshape(-1, layer.out_features).T, 1
    else:
        axis = y.dim() - len(layer.kernel_size) - 1  # 0 for an input without a batch
        channels, groups = y.double().movedim(axis, 0).flatten(1), layer.groups
    if layer.bias is not None:
        channels = channels - layer.bias.detach().double()[:, None]
    return channels.reshape(groups, -1, channels.shape[1])


def output_second_moments(network: nn.Module, names: Iterable[str], inputs: Tensor) -> dict[str, Tensor]:
    """Sums of y y^T, (g, O, O) in float64, over all positions of the named layers' outputs y without their bias.

    With W a group's unfolded weights and S the same sums of its unfolded inputs, this is W S W^T.

    Raises:
        KeyError: the network lacks a named layer.
    """
    found: dict[str, Tensor] = {}

    def see(name: str, x: Tensor, y: Tensor) -> None:
        y_gOP = _without_bias(site(network, name), y)
        found[name] = found.get(name, torch.zeros((), dtype=y_gOP.dtype, device=y_gOP.device)) + y_gOP @ y_gOP.mT

    _watch(network, names, inputs, see)
    return found


def _features(conv: nn.Conv2d, z: Tensor) -> Tensor:
    """What each output position of the convolution reads, (g, F, P) in float64."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = F.pad(z.double(), padding_pairs(conv), mode=mode)
    read_NFP = F.unfold(padded, conv.kernel_size, dilation=conv.dilation, stride=conv.stride)
    return read_NFP.movedim(1, 0).reshape(conv.groups, read_NFP.shape[1] // conv.groups, -1)


def refit_last_(compressed: nn.Module, network: nn.Module, names: Iterable[str], inputs: Tensor) -> None:
    """Changes the last convolution of each named factorized layer to its least-squares fit to the dense layer's outputs.

    The inputs of every layer are those it has in the dense network; the fit never has a greater squared error on them.
    """
    names = list(names)
    moments: dict[str, tuple[Tensor, Tensor]] = {}

    def last(name: str) -> nn.Conv2d:
        layer = site(compressed, name)
        assert isinstance(layer, nn.Sequential)
        assert isinstance(layer[-1], nn.Conv2d)
        return layer[-1]

    def see(name: str, x: Tensor, y: Tensor) -> None:
        factorized = site(compressed, name)
        assert isinstance(factorized, nn.Sequential)
        z_gFP = _features(last(name), factorized[:-1](x))
        kernel_gOF = last(name).weight.detach().double().reshape(z_gFP.shape[0], -1, z_gFP.shape[1])
        missed_gOP = _without_bias(site(network, name), y) - kernel_gOF @ z_gFP
        square, cross = moments.get(name, (0.0, 0.0))
        moments[name] = (square + z_gFP @ z_gFP.mT, cross + missed_gOP @ z_gFP.mT)

    _watch(network, names, inputs, see)
    for name, (square_gFF, cross_gOF) in moments.items():
        diagonal = square_gFF.diagonal(dim1=1, dim2=2)
        ridge = RIDGE * diagonal.mean(1, keepdim=True).clamp(min=torch.finfo(diagonal.dtype).tiny)
        change_gOF = torch.linalg.solve(square_gFF + torch.diag_embed(ridge.expand_as(diagonal)), cross_gOF, left=False)
        with torch.no_grad():
            last(name).weight.add_(change_gOF.reshape(last(name).weight.shape))
