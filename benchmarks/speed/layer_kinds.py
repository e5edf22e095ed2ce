"""The layers of a network that are alike in sizes, and what they read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sconv_search.compressor import site


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Layers alike in sizes, in the order in which they run, and what each reads."""

    names: tuple[str, ...]
    x: Tensor

    @property
    def name(self) -> str:
        """The first of them."""
        return self.names[0]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.names)


def kinds(network: nn.Module, names: Sequence[str], x: Tensor, *, apart: Collection[str] = ()) -> Iterator[Kind]:
    """The named layers, those alike together, in the order in which they run.

    Args:
        apart: names that are not alike to others than these.
    """
    read: dict[str, Tensor] = {}
    hooks = [
        site(network, name).register_forward_pre_hook(
            lambda layer, given, name=name: read.update({name: given[0].detach()})
        )
        for name in names
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    alike: dict[tuple[str, torch.Size, bool], list[str]] = {}
    for name, given in read.items():
        alike.setdefault((repr(site(network, name)), given.shape, name in apart), []).append(name)
    for own in alike.values():
        yield Kind(names=tuple(own), x=read[own[0]])
