"""A layer has a writer only where that is no matter of the batch's size, or of hooks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sconv_search.inference.channel_order import common_writer
from sconv_search.inference.dataflow import flows_of

X = torch.zeros(2, 4, 3, 3)


class Parting(nn.Module):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.first, self.other, self.last = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) if len(x) <= self.most else self.other(x))


def test_a_writer_is_common_where_each_batch_takes_the_same_way() -> None:
    same, parting = Parting(2).eval(), Parting(1).eval()
    found = common_writer(flows_of(same, X, (nn.Conv2d,)), same.last)
    assert found is not None
    assert found.layer is same.first
    assert common_writer(flows_of(parting, X, (nn.Conv2d,)), parting.last) is None


def test_a_layer_whose_hook_may_read_its_channels_is_no_writer() -> None:
    network = Parting(2).eval()
    network.first.register_forward_hook(lambda _, given, made: made * torch.arange(4).view(4, 1, 1))
    assert common_writer(flows_of(network, X, (nn.Conv2d,)), network.last) is None


def test_a_network_that_takes_one_size_of_batches_has_one_flow() -> None:
    class Fixed(Parting):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(2, 4, 3, 3))

    assert len(flows_of(Fixed(2).eval(), X, (nn.Conv2d,))) == 1
