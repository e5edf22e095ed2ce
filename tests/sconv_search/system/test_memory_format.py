"""Kernels lie as the inputs do, in networks of layers of any number of dimensions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sconv_search import CompressionPlan, StructuredConv2d, optimize_for_inference
from sconv_search.inference.implementations import DENSE, implementations
from sconv_search.inference.latency import measure_latencies_ms, measure_ready_latencies_ms
from sconv_search.inference.optimize import FASTEST
from sconv_search.plan import Choice
from sconv_search.studies import compress
from sconv_search.system.memory_format import channels_last_, lay_out_, layout

LAYOUTS = {"plain": torch.contiguous_format, "last": torch.channels_last}


class Clips(nn.Module):
    """Convolves volumes inside a network that reads images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.deep = nn.Conv2d(3, 8, 3), nn.Conv3d(8, 4, (1, 3, 3))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(torch.relu(self.flat(x)).unsqueeze(2)).mean((2, 3, 4)))


def test_the_layout_of_a_tensor() -> None:
    x, volume = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5, 6)
    assert layout(x) == layout(volume) == layout(x[0]) == torch.contiguous_format
    assert layout(x.to(memory_format=torch.channels_last)) == torch.channels_last
    assert layout(volume.to(memory_format=torch.channels_last_3d)) == torch.channels_last_3d


def test_a_network_of_layers_of_several_dimensions_is_laid_out() -> None:
    network, before = channels_last_(Clips()), Clips()
    assert (layout(network.flat.weight), layout(network.deep.weight)) == (torch.channels_last, torch.contiguous_format)
    assert layout(lay_out_(network, torch.channels_last_3d).deep.weight) == torch.channels_last_3d
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(network(x), before(x))


def test_networks_with_volumes_are_timed_as_they_are_and_made_ready() -> None:
    deep, flat = ({"c": c, "n": 2} for c in (4, 2))
    sites = {name: Choice(method="structured_conv", structure=one) for name, one in (("deep", deep), ("flat", flat))}
    networks = [Clips(), compress(Clips(), CompressionPlan(sites=sites))]
    for measured in (measure_latencies_ms, measure_ready_latencies_ms):
        assert all(time > 0 for times in measured(networks, (3, 8, 8), rounds=1) for time in times)


@pytest.mark.parametrize("name", LAYOUTS)
def test_however_a_layer_is_computed_its_kernels_lie_as_its_input_does(name: str) -> None:
    torch.manual_seed(0)
    structured = StructuredConv2d.from_conv(nn.Conv2d(8, 4, 3, padding=1), c=3, n=2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), structured, nn.ReLU()).eval()
    if name == "last":
        channels_last_(network)
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=LAYOUTS[name])
    ways = implementations(structured, torch.randn(2, 8, 6, 6), sortable=True)
    assert len(ways) > 5
    for way in ways:
        fast = {way} if way == DENSE else {way, FASTEST}
        ready, rows = optimize_for_inference(
            network, x, timer=lambda runs, fast=fast: {run: [1.0 + (run not in fast)] for run in runs}
        )
        assert rows[0].chosen == way
        kernels = [weight for weight in ready[2].parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
        assert {layout(kernel) for kernel in kernels} == {LAYOUTS[name]}
        torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)
