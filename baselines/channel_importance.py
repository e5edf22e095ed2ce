"""How much each channel of a coupled group matters, by its weights, by gradients, or by what the layers that read it
lose.

Legend: O outputs and F = C * taps features of one group of a reading layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from sconv_search.calibration.moments import BATCH, input_moments
from sconv_search.channels.cutting import by_channel, reading_kernel
from sconv_search.channels.dependency_graph import Group
from sconv_search.copying import copied
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind
from sconv_search.system.cache import KEPT_BYTES, Memo, network_content, unwritten_content

Importance = Literal["magnitude", "batch_norm", "taylor", "activation", "reconstruction"]
RIDGE = 1e-4
"""Relative, on the moments that the elimination inverts."""
MOST_ROUNDS = 64
"""Of the elimination: with more channels, several go in one round."""
_KEPT: Memo[tuple[Tensor, ...]] = Memo(KEPT_BYTES)


def kept_channels(
    network: nn.Module, group: Group, keep: int, importance: Importance, calibration: Tensor | None = None
) -> Tensor:
    """The most important channels of a group, ascending; equally many of each block, the earlier of equals.

    Raises:
        ValueError: the importance needs calibration inputs and there are none.
    """
    scores = channel_importance(network, group, importance, calibration).view(group.blocks, -1)
    best = scores.argsort(dim=1, descending=True, stable=True)[:, : keep // group.blocks]
    offsets = torch.arange(group.blocks)[:, None] * scores.shape[1]
    return (best + offsets).flatten().sort().values


def channel_importance(
    network: nn.Module, group: Group, importance: Importance = "magnitude", calibration: Tensor | None = None
) -> Tensor:
    """A number a channel, (channels,) in float64: the larger, the more the channel matters.

    - ``magnitude``: the sum of the squares of all weights of the group that belong to the channel: those that make it,
    scale
      it and read it (Fang et al. 2023, section 3.3).
    - ``batch_norm``: the sum of the batch norms' absolute scales (Liu et al., Learning Efficient Convolutional Networks
      through Network Slimming, ICCV 2017); the magnitude where there is none.
    - ``taylor``: the sum of the same weights' (weight * gradient)^2 (Molchanov et al., Importance Estimation for Neural
      Network Pruning, CVPR 2019, equation 8), the loss being the cross-entropy to the network's own predictions.
    - ``activation``: the mean square of what the channel adds to the outputs of the layers that read it, relative to
    theirs.
    - ``reconstruction``: the round in which backward elimination gives the channel up. A round takes the channel whose
    loss
      costs the readers' outputs the least squared error after the best refit of all that is left (optimal brain
      surgeon: Hassibi, Stork, NIPS 1992, with the inputs' second moments as the Hessian).

    Args:
        calibration: inputs (N, ...), which the last three need; readers without moments are taken to read white noise.

    Raises:
        ValueError: the importance needs calibration inputs and there are none, or the network's outputs are no class
            scores.
    """
    if importance in ("magnitude", "batch_norm"):
        return _by_weights(network, group, importance)
    if calibration is None:
        raise ValueError(
            f"importance {importance!r} needs calibration inputs (N, ...); 'magnitude' and 'batch_norm' need none"
        )
    key = (network_content(network), unwritten_content(calibration), group.site, importance)
    known = _KEPT.get(key)
    if known is None:
        rank = {"taylor": _taylor, "activation": _activation, "reconstruction": _reconstruction}[importance]
        known = (rank(network, group, calibration),)
        _KEPT.put(key, known)
    return known[0]


def _by_weights(network: nn.Module, group: Group, importance: str) -> Tensor:
    scores = torch.zeros(group.channels, dtype=torch.float64)
    scaled = False
    for member in group.members:
        layer = network.get_submodule(member.layer)
        if importance == "batch_norm" and not isinstance(layer, _NormBase):
            continue
        if layer.weight is not None:
            weights = by_channel(layer, member.side).detach().double().cpu()[member.positions]
            values = weights.abs() if importance == "batch_norm" else weights.square()
            scores.index_add_(0, member.channels, values.sum(1))
            scaled = True
    return scores if scaled else _by_weights(network, group, "magnitude")


def _taylor(network: nn.Module, group: Group, calibration: Tensor) -> Tensor:
    key = (network_content(network), unwritten_content(calibration))
    terms = _KEPT.get(key)
    if terms is None:
        terms = _first_order(network, calibration)
        _KEPT.put(key, terms)
    squares = copied(network)
    with torch.no_grad():
        for weight, term in zip(squares.parameters(), terms, strict=True):
            weight.copy_(term.sqrt())
    return _by_weights(squares, group, "magnitude")


def _first_order(network: nn.Module, calibration: Tensor) -> tuple[Tensor, ...]:
    """Sums of (weight * gradient)^2 over batches, one tensor a parameter."""
    observed = copied(network).eval()
    weights = [weight.requires_grad_(True) for weight in observed.parameters()]
    sums = [torch.zeros_like(weight) for weight in weights]
    for batch in calibration.to(weights[0].device).split(BATCH):
        with torch.enable_grad():
            scores = observed(batch)
            if not isinstance(scores, Tensor) or scores.dim() < 2 or scores.shape[1] < 2:
                raise ValueError("importance 'taylor' needs a network whose output is class scores (N, classes, ...)")
            loss = F.cross_entropy(scores, scores.detach().argmax(1))
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for total, weight, gradient in zip(sums, weights, gradients, strict=True):
            if gradient is not None:
                total += (weight.detach() * gradient).square()
    return tuple(sums)


@dataclass
class _Reader:
    """One group of a layer that reads the channels, and what of it backward elimination has left.

    Args:
        kernel: (O, F).
        square: (F, F), the moments of the inputs, or their inverse; of that the features of the channels alone.
        energy: of the whole layer's outputs.
        features: of each channel that this group reads.
    """

    kernel: Tensor
    square: Tensor
    energy: float
    features: dict[int, list[int]]

    def losses(self, channels: Iterable[int], *, inverse: bool) -> dict[int, float]:
        """Of each channel trace(W_c B_c W_c^T), relative to the energy, with its block B_c, or that block's inverse."""
        by_count: dict[int, list[int]] = {}
        for channel in channels:
            if channel in self.features:
                by_count.setdefault(len(self.features[channel]), []).append(channel)
        loss_by_count: dict[int, float] = {}
        for group in by_count.values():
            index = torch.tensor([self.features[channel] for channel in group], device=self.square.device)
            blocks = self.square[index[:, :, None], index[:, None]]
            taken = self.kernel[:, index].movedim(1, 0)  # (channels, O, features)
            values = ((taken @ (torch.linalg.inv(blocks) if inverse else blocks)) * taken).sum((1, 2)) / self.energy
            loss_by_count |= dict(zip(group, values.tolist(), strict=True))
        return loss_by_count

    def inverted(self) -> _Reader:
        """The group's own part of the inverse of the square, whose diagonal is raised a little, and of the kernel:
        elimination reads and changes no more of them.

        A layer of a DenseNet reads the channels of up to 48 groups, side by side.
        """
        added = RIDGE * self.square.diagonal().mean().clamp(min=1e-300)
        raised = self.square + added * torch.eye(len(self.square)).to(self.square)
        own = sorted(feature for features in self.features.values() for feature in features)
        place = {feature: index for index, feature in enumerate(own)}
        inverse = torch.linalg.solve(raised, torch.eye(len(raised))[:, own].to(raised))[own]
        features = {channel: [place[feature] for feature in known] for channel, known in self.features.items()}
        return replace(self, kernel=self.kernel[:, own], square=inverse, features=features)

    def without(self, channels: Iterable[int]) -> _Reader:
        """The kernel refit without these channels, and the inverse of the moments of the others."""
        gone = [feature for channel in channels for feature in self.features.get(channel, ())]
        if not gone:
            return self
        rows = torch.linalg.solve(self.square[gone][:, gone], self.square[gone])
        return replace(
            self, kernel=self.kernel - self.kernel[:, gone] @ rows, square=self.square - self.square[:, gone] @ rows
        )


def _readers(network: nn.Module, group: Group, calibration: Tensor) -> list[_Reader]:
    members = [member for member in group.members if member.side == "in"]
    known = [m.layer for m in members if layer_kind(network.get_submodule(m.layer)) in LAYER_KINDS]
    moments = input_moments(network, known, calibration)
    readers = []
    for member in members:
        kernel_gOCT = reading_kernel(network.get_submodule(member.layer))[..., None].flatten(3)
        groups, _, channels, taps = kernel_gOCT.shape
        kernel = kernel_gOCT.flatten(2)
        white = torch.eye(channels * taps, dtype=kernel.dtype, device=kernel.device).expand(groups, -1, -1)
        second = moments[member.layer].second if member.layer in moments else white
        energy = max(float(((kernel @ second) * kernel).sum()), 1e-300)
        for own in range(groups):
            features: dict[int, list[int]] = {}
            for position, channel in zip(member.positions.tolist(), member.channels.tolist(), strict=True):
                if position // channels == own:
                    start = position % channels * taps
                    features.setdefault(channel, []).extend(range(start, start + taps))
            readers.append(_Reader(kernel[own], second[own], energy, features))
    return readers


def _summed(readers: Iterable[_Reader], channels: Collection[int], *, inverse: bool) -> dict[int, float]:
    losses = dict.fromkeys(channels, 0.0)
    for reader in readers:
        for channel, loss in reader.losses(channels, inverse=inverse).items():
            losses[channel] += loss
    return losses


def _activation(network: nn.Module, group: Group, calibration: Tensor) -> Tensor:
    losses = _summed(_readers(network, group, calibration), range(group.channels), inverse=False)
    return torch.tensor([losses[channel] for channel in range(group.channels)], dtype=torch.float64)


def _reconstruction(network: nn.Module, group: Group, calibration: Tensor) -> Tensor:
    readers = [reader.inverted() for reader in _readers(network, group, calibration)]
    left, order = list(range(group.channels)), list[int]()
    at_a_time = -(-group.channels // MOST_ROUNDS)
    while left:
        losses = _summed(readers, left, inverse=True)
        gone = sorted(left, key=lambda channel: losses[channel])[:at_a_time]
        readers = [reader.without(gone) for reader in readers]
        left, order = [channel for channel in left if channel not in gone], order + gone
    rounds = torch.empty(group.channels, dtype=torch.float64)
    rounds[order] = torch.arange(group.channels, dtype=torch.float64)
    return rounds
