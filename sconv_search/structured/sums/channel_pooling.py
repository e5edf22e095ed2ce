"""Which sums of input channels a structured layer makes, and the kernels that such sums can express.

Legend: g groups of the convolution, C input channels and c sums of one group; w (O, C, ...) a kernel, v (O, c, ...) the
small kernel of the same layer. Channels enter a sum with the weight 1, or -1 where signs are given.

- ``NaturalChains``: the paper's boxes, channels in the order of the network.
- ``PermutedChains``: the same after a permutation of the channels, chosen so that the kernel is nearer to the
structure.
- ``MergedChannels``: disjoint groups of channels, each summed: a composite kernel whose masks are the groups. ``C - c``
  additions a position, and perfectly conditioned.

The choice is a buffer, so that a plan and a state dict rebuild the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from sconv_search.structured import kernels
from sconv_search.structured.sums.eager_sums import channel_products, plain, products_pay, traced
from sconv_search.structured.sums.spatial_pooling import pool_grouped_channels
from sconv_search.system.derived import Derivation


def _columns(w: Tensor, groups: int) -> Tensor:
    """A kernel (O, C, ...) with one column for each input channel of the layer: (O / g, g C, ...)."""
    columns: Tensor = w.unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)
    return columns


def _rows(columns: Tensor, groups: int) -> Tensor:
    """Undoes ``_columns``."""
    rows: Tensor = columns.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)
    return rows


class _Linear(torch.autograd.Function):
    """A linear map of the channels, whose gradient is one gather.

    By itself autograd undoes a gather by ``index_add``, which loops over single channels: with it, a training step of a
    network whose first linear layer reads 3,136 features took seconds.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, apply: Callable[[Tensor], Tensor], dim: int, back: Tensor) -> Tensor:
        ctx.dim = dim
        ctx.save_for_backward(back)
        return apply(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = ctx.saved_tensors
        return grads[0].index_select(ctx.dim, back), None, None, None


def _gathered(x: Tensor, apply: Callable[[Tensor], Tensor], dim: int, back: Tensor) -> Tensor:
    """``apply(x)``, a gather or sums over disjoint channels; ``back`` says from which output each channel's gradient
    comes.
    """
    if not (x.requires_grad and torch.is_grad_enabled() and plain()):
        return apply(x)
    result: Tensor = _Linear.apply(x, apply, dim, back)
    return result


class NaturalChains(nn.Module):
    """Chains of the channels in their own order; nothing is pooled where all channels are kept.

    Args:
        channels: input channels of one group.
        count: sums of one group.
        groups: groups of the convolution.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["work"]
    _most_products = 32
    """Sums up to which they are made as products where these pay; slices are cheaper than gathers."""

    def __init__(self, channels: int, count: int, groups: int = 1) -> None:
        super().__init__()
        self.channels, self.count, self.groups = channels, count, groups
        self._inverse: Tensor | None = None
        self._sums_matrix: Tensor | None = None
        self._derivation = Derivation()

    def choice(self) -> tuple[Tensor | None, ...]:
        """The buffers that say which channels are summed; all else is derived from them."""
        return ()

    def refresh_(self) -> None:
        """Derives anew what was derived of another choice than the one that is now in the buffers.

        Every call outside of compiled, exported and traced graphs begins with it. A graph keeps the choice of when it
        was made.
        """
        if traced() or self._derivation.is_of(*self.choice()):
            return
        self._sums_matrix = None
        self._arrange()
        self._derivation = Derivation(*self.choice())

    def _arrange(self) -> None:
        """Makes the tables of the sums."""

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.refresh_()  # a graph may be made next

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._derivation = Derivation()  # the tables may be without values now
        return self

    def forward(self, x: Tensor, dim: int = 1) -> Tensor:
        """The sums, in this pooling's basis: ``g C`` channels along ``dim`` become ``g c``.

        Raises:
            ValueError: x has another number of channels.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._scripted(x, dim)
        else:  # noqa: RET505  # what follows a return would be scripted
            return self._computed(x, dim)

    def _computed(self, x: Tensor, dim: int) -> Tensor:
        if not torch.jit.is_tracing() and x.shape[dim] != self.groups * self.channels:  # type: ignore[no-untyped-call, attr-defined]
            raise ValueError(
                f"the layer reads {self.groups * self.channels} channels, got {x.shape[dim]}: {tuple(x.shape)}"
            )
        if not traced() and any(tensor is not None and is_functorch_wrapped_tensor(tensor) for tensor in self.choice()):
            return self._scripted(x, dim)  # a choice for each of several layers
        self.refresh_()
        fewer = self.groups == 1 and self.count < self.channels and self.count <= self._most_products
        return channel_products(x, self._matrix()) if fewer and dim == 1 and products_pay(x) else self._sums(x, dim)

    def _scripted(self, x: Tensor, dim: int) -> Tensor:
        """The same in TorchScript's part of Python."""
        return x if self.count == self.channels else pool_grouped_channels(x, self.groups, self.count, dim)

    def _sums(self, x: Tensor, dim: int) -> Tensor:
        return x if self.count == self.channels else pool_grouped_channels(x, self.groups, self.count, dim)

    def _matrix(self) -> Tensor:
        """(c, C): what each sum takes of each channel."""
        if self._sums_matrix is not None:
            return self._sums_matrix
        with torch.inference_mode(False), torch.no_grad():  # first met in inference mode, it must serve training, too
            made = self._sums(torch.eye(self.channels, device="cpu"), 1).T.contiguous()
        if type(made) is Tensor:  # none of those whose values are not computed
            self._sums_matrix = made
        return made

    @property
    def work(self) -> int:
        """What the sums cost eagerly on a CPU, in multiplications a position of the small kernel that would take as
        long.
        """
        return 0 if self.count == self.channels else self.groups * self.channels * min(self.count, self._most_products)

    def coefficients(self, w: Tensor) -> Tensor:
        """The small kernel (O, c, ...) whose ``kernel`` is the closest to w (O, C, ...) in the least-squares sense."""
        return w if self.count == self.channels else kernels.chain_coefficients(w, 1, self.count)

    def kernel(self, v: Tensor) -> Tensor:
        """The kernel (O, C, ...) that a layer with this pooling and the small kernel v (O, c, ...) applies."""
        return v if self.count == self.channels else kernels.compose_chains(v, 1, self.channels)

    def solved(self, v: Tensor) -> Tensor:
        """``(A^T A)^-1`` times v (O, c, ...), with the matrix A of this pooling's masks (order and signs do not
        matter).
        """
        inverse = self._inverse
        if inverse is None or inverse.dtype != v.dtype or inverse.device != v.device:
            masks = kernels.compose_chains(torch.eye(self.count, dtype=torch.float64), 1, self.channels)
            inverse = torch.linalg.inv(masks @ masks.T).to(v)
            self._inverse = inverse if type(inverse) is Tensor else None
        return (v.movedim(1, -1) @ inverse).movedim(-1, 1)

    def to_boxes(self, v: Tensor) -> Tensor:
        """The small kernel (O, c, ...) in the paper's box basis, for chains as they stand in this layer's order."""
        return v if self.count == self.channels else kernels.from_chain_basis(v, 1)

    def extra_repr(self) -> str:
        """Sizes, for ``print(network)``."""
        return f"{self.groups} x {self.channels} -> {self.groups} x {self.count}"


class PermutedChains(NaturalChains):
    """Chains of the channels in a given order.

    Args:
        order: (g C,) int64, within each group a permutation of its channels: position -> channel.
        signs: (g C,) of 1 and -1, by channel; None sums all with 1.
    """

    _most_products = 128
    if TYPE_CHECKING:  # TorchScript cannot read these
        order: Tensor
        signs: Tensor | None

    def __init__(self, count: int, groups: int, order: Tensor, signs: Tensor | None) -> None:
        super().__init__(len(order) // groups, count, groups)
        self.register_buffer("order", order)
        self.register_buffer("signs", signs)
        self.refresh_()

    def choice(self) -> tuple[Tensor | None, ...]:
        """Order and signs."""
        return self.order, self.signs

    def _scripted(self, x: Tensor, dim: int) -> Tensor:
        """The same in TorchScript's part of Python."""
        x = _signed(x, self.signs, dim).index_select(dim, self.order)
        return pool_grouped_channels(x, self.groups, self.count, dim)

    def _sums(self, x: Tensor, dim: int) -> Tensor:
        x, order = _signed(x, self.signs, dim), self.order
        back = order.argsort() if x.requires_grad else order
        return super()._sums(_gathered(x, lambda given: given.index_select(dim, order), dim, back), dim)

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

    _most_products = 128
    if TYPE_CHECKING:  # TorchScript cannot read these
        members: Tensor
        signs: Tensor | None
        _sizes: Tensor

    def __init__(self, count: int, groups: int, members: Tensor, signs: Tensor | None) -> None:
        super().__init__(len(members) // groups, count, groups)
        self.register_buffer("members", members)
        self.register_buffer("signs", signs)
        self.refresh_()

    def choice(self) -> tuple[Tensor | None, ...]:
        """Members and signs."""
        return self.members, self.signs

    def _arrange(self) -> None:
        """Tables of the forward: in each round, the members of a sum are added in pairs; what has no partner waits."""
        if self.members.is_meta:  # there are no values; tables made before have the right shapes
            return
        for stale in [name for name in self._buffers if name.startswith("_round")]:
            del self._buffers[stale]
        positions: list[list[int]] = [[] for _ in range(self.groups * self.count)]
        for channel, position in enumerate(self.members.tolist()):
            positions[position].append(channel)
        self._rounds = 0
        while any(len(own) > 1 for own in positions):
            first = [channel for own in positions for channel in own[: len(own) // 2 * 2 : 2]]
            second = [channel for own in positions for channel in own[1::2]]
            waiting = [own[-1] for own in positions if len(own) % 2]
            for name, table in (("first", first), ("second", second), ("waiting", waiting)):
                self._keep(f"_round{self._rounds}_{name}", table)
            pair, single = 0, len(first)
            for place, own in enumerate(positions):
                left, alone = len(own) // 2, len(own) % 2
                positions[place] = [*range(pair, pair + left), *range(single, single + alone)]
                pair, single = pair + left, single + alone
            self._rounds += 1
        order = [own[0] for own in positions]
        self._keep("_back", None if order == sorted(order) else order)
        self._keep("_sizes", torch.bincount(self.members.cpu(), minlength=len(positions)).tolist())

    def _keep(self, name: str, table: list[int] | None) -> None:
        kept = None if table is None else torch.tensor(table, dtype=torch.int64, device=self.members.device)
        self.register_buffer(name, kept, persistent=False)

    def _scripted(self, x: Tensor, dim: int) -> Tensor:
        """The same in TorchScript's part of Python, without tables."""
        shape = list(x.shape)
        shape[dim] = self.groups * self.count
        return x.new_zeros(shape).index_add(dim, self.members, _signed(x, self.signs, dim))

    def _sums(self, x: Tensor, dim: int) -> Tensor:
        return _gathered(_signed(x, self.signs, dim), lambda given: self._added(given, dim), dim, self.members)

    def _added(self, x: Tensor, dim: int) -> Tensor:
        """``g (C - c)`` additions a position."""
        for k in range(self._rounds):
            first, second, waiting = (
                x.index_select(dim, self.get_buffer(f"_round{k}_{name}")) for name in ("first", "second", "waiting")
            )
            x = torch.cat([first + second, waiting], dim) if waiting.shape[dim] else first + second
        back = self._back
        return x if back is None else x.index_select(dim, back)  # type: ignore[arg-type]  # a buffer

    def solved(self, v: Tensor) -> Tensor:
        """``(A^T A)^-1`` times v (O, c, ...): each row divided by the size of its group."""
        self.refresh_()
        return _rows(_columns(v, self.groups) / self._sizes.to(v.dtype).view(-1, *[1] * (v.dim() - 2)), self.groups)

    def to_boxes(self, v: Tensor) -> Tensor:
        """The small kernel itself: the masks are the groups, not boxes."""
        return v

    def coefficients(self, w: Tensor) -> Tensor:
        """The small kernel (O, c, ...): the means over the groups, which are the closest in the least-squares sense."""
        columns = _signed(_columns(w, self.groups), self.signs, 1)
        sums = columns.new_zeros(columns.shape[0], self.groups * self.count, *columns.shape[2:])
        sums = sums.index_add(1, self.members, columns)
        return self.solved(_rows(sums, self.groups))

    def kernel(self, v: Tensor) -> Tensor:
        """The kernel (O, C, ...) that a layer with this pooling and the small kernel v (O, c, ...) applies."""
        return _rows(_signed(_columns(v, self.groups).index_select(1, self.members), self.signs, 1), self.groups)


def _signed(x: Tensor, signs: Tensor | None, dim: int) -> Tensor:
    """x with the channels along ``dim`` negated where their sign is -1."""
    return x if signs is None else x * signs.to(x.dtype).view([-1] + [1] * (x.dim() - dim - 1))  # for TorchScript
