"""Which sums of input channels a structured layer makes, and the kernels that such sums can express.

Legend: g groups of the convolution, C input channels and c sums of one group; w (O, C, ...) a kernel, v (O, c, ...) the small
kernel of the same layer. Channels enter a sum with the weight 1, or -1 where signs are given.

- ``NaturalChains``: the paper's boxes, channels in the order of the network.
- ``PermutedChains``: the same after a permutation of the channels, chosen so that the kernel is nearer to the structure.
- ``MergedChannels``: disjoint groups of channels, each summed: a composite kernel whose masks are the groups. ``C - c``
  additions a position, and perfectly conditioned.

The choice is a buffer, so that a plan and a state dict rebuild the network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sconv_search import structure
from sconv_search.pooling import pool_grouped_channels


def _columns(w: Tensor, groups: int) -> Tensor:
    """A kernel (O, C, ...) with one column for each input channel of the layer: (O / g, g C, ...)."""
    found: Tensor = w.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)
    return found


def _rows(columns: Tensor, groups: int) -> Tensor:
    """Undoes ``_columns``."""
    found: Tensor = columns.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)
    return found


class NaturalChains(nn.Module):
    """Chains of the channels in their own order; nothing is pooled where all channels are kept.

    Args:
        channels: input channels of one group.
        count: sums of one group.
        groups: groups of the convolution.
    """

    def __init__(self, channels: int, count: int, groups: int = 1) -> None:
        super().__init__()
        self.channels, self.count, self.groups = channels, count, groups

    def forward(self, x: Tensor, dim: int = 1) -> Tensor:
        """The sums, in the chain basis: ``g C`` channels along ``dim`` become ``g c``."""
        return x if self.count == self.channels else pool_grouped_channels(x, self.groups, self.count, dim)

    def coefficients(self, w: Tensor) -> Tensor:
        """The small kernel (O, c, ...) whose ``kernel`` is the closest to w (O, C, ...) in the least-squares sense."""
        return w if self.count == self.channels else structure.chain_coefficients(w, 1, self.count)

    def kernel(self, v: Tensor) -> Tensor:
        """The kernel (O, C, ...) that a layer with this pooling and the small kernel v (O, c, ...) applies."""
        return v if self.count == self.channels else structure.compose_chains(v, 1, self.channels)

    def to_boxes(self, v: Tensor) -> Tensor:
        """The small kernel (O, c, ...) in the paper's box basis, for chains as they stand in this layer's order."""
        return v if self.count == self.channels else structure.from_chain_basis(v, 1)

    def extra_repr(self) -> str:
        """Sizes, for ``print(network)``."""
        return f"{self.groups} x {self.channels} -> {self.groups} x {self.count}"


class PermutedChains(NaturalChains):
    """Chains of the channels in a given order.

    Args:
        order: (g C,) int64, within each group a permutation of its channels: position -> channel.
        signs: (g C,) of 1 and -1, by channel; None sums all with 1.
    """

    order: Tensor
    signs: Tensor | None

    def __init__(self, count: int, groups: int, order: Tensor, signs: Tensor | None) -> None:
        super().__init__(len(order) // groups, count, groups)
        self.register_buffer("order", order)
        self.register_buffer("signs", signs)

    def forward(self, x: Tensor, dim: int = 1) -> Tensor:
        """The sums, in the chain basis: ``g C`` channels along ``dim`` become ``g c``."""
        return super().forward(_signed(x, self.signs, dim).index_select(dim, self.order), dim)

    def coefficients(self, w: Tensor) -> Tensor:
        """The small kernel (O, c, ...) whose ``kernel`` is the closest to w (O, C, ...) in the least-squares sense."""
        columns = _signed(_columns(w, self.groups), self.signs, 1)
        return super().coefficients(_rows(columns.index_select(1, self.order), self.groups))

    def kernel(self, v: Tensor) -> Tensor:
        """The kernel (O, C, ...) that a layer with this pooling and the small kernel v (O, c, ...) applies."""
        columns = _columns(super().kernel(v), self.groups).index_select(1, self.order.argsort())
        return _rows(_signed(columns, self.signs, 1), self.groups)


class MergedChannels(NaturalChains):
    """Sums over disjoint groups of channels.

    Args:
        members: (g C,) int64: channel -> the sum that it enters, in ``i c .. (i + 1) c - 1`` for the i-th group of the
            convolution; every sum has a channel.
        signs: (g C,) of 1 and -1, by channel; None sums all with 1.
    """

    members: Tensor
    signs: Tensor | None

    def __init__(self, count: int, groups: int, members: Tensor, signs: Tensor | None) -> None:
        super().__init__(len(members) // groups, count, groups)
        self.register_buffer("members", members)
        self.register_buffer("signs", signs)
        self._arrange()

    def _arrange(self) -> None:
        """Tables of the forward: the k-th member of each sum that has so many, the larger sums first."""
        sizes = torch.bincount(self.members, minlength=self.groups * self.count)
        by_size = sizes.argsort(descending=True, stable=True)
        channels = self.members.argsort(stable=True)  # those of the first sum, of the second, ...
        first = sizes.cumsum(0) - sizes
        self._depth = int(sizes.max())
        for stale in [name for name in self._buffers if name.startswith("_member")]:
            del self._buffers[stale]
        for k in range(self._depth):
            holders = by_size[sizes[by_size] > k]
            self.register_buffer(f"_member{k}", channels[first[holders] + k], persistent=False)
        identity = torch.equal(by_size, torch.arange(len(by_size), device=by_size.device))
        self.register_buffer("_back", None if identity else by_size.argsort(), persistent=False)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._arrange()

    def forward(self, x: Tensor, dim: int = 1) -> Tensor:
        """The sums over the groups: ``g C`` channels along ``dim`` become ``g c``, by ``g (C - c)`` additions a position."""
        x = _signed(x, self.signs, dim)
        total = x.index_select(dim, self.get_buffer(f"_member{self._depth - 1}"))
        for k in reversed(range(self._depth - 1)):
            part, deeper = x.index_select(dim, self.get_buffer(f"_member{k}")), total.shape[dim]
            rest = part.narrow(dim, deeper, part.shape[dim] - deeper)
            total = torch.cat([part.narrow(dim, 0, deeper) + total, rest], dim)
        back = self._back
        return total if back is None else total.index_select(dim, back)  # type: ignore[arg-type]  # a buffer

    def to_boxes(self, v: Tensor) -> Tensor:
        """The small kernel itself: the masks are the groups, not boxes."""
        return v

    def coefficients(self, w: Tensor) -> Tensor:
        """The small kernel (O, c, ...): the means over the groups, which are the closest in the least-squares sense."""
        columns = _signed(_columns(w, self.groups), self.signs, 1)
        sums = columns.new_zeros(columns.shape[0], self.groups * self.count, *columns.shape[2:])
        sums = sums.index_add(1, self.members, columns)
        sizes = torch.bincount(self.members, minlength=sums.shape[1]).to(w.dtype)
        return _rows(sums / sizes.view(-1, *[1] * (w.dim() - 2)), self.groups)

    def kernel(self, v: Tensor) -> Tensor:
        """The kernel (O, C, ...) that a layer with this pooling and the small kernel v (O, c, ...) applies."""
        return _rows(_signed(_columns(v, self.groups).index_select(1, self.members), self.signs, 1), self.groups)


def _signed(x: Tensor, signs: Tensor | None, dim: int) -> Tensor:
    """x with the channels along ``dim`` negated where their sign is -1."""
    return x if signs is None else x * signs.to(x.dtype).view(-1, *[1] * (x.dim() - dim - 1))
