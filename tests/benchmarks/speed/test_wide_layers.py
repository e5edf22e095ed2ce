from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from benchmarks.speed.compress_time import Seconds
from benchmarks.speed.wide_layers import measured


def test_sites_are_listed_and_layers_compressed_and_promises_compared() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    found = measured("tiny", network, (3, 8, 8), compressing=True)
    assert (found.layers, found.widest, found.promised) == (2, 8, None)
    assert found.compressing is not None
    fast, slow = (Seconds(processor=seconds, clock=9) for seconds in (1, 4))
    assert replace(found, listing=fast, compressing=slow, promised=4).kept
    assert not replace(found, listing=fast, compressing=slow, promised=3).kept
    assert not replace(found, listing=Seconds(processor=6, clock=6)).kept
    assert measured("tiny", network, (3, 8, 8), compressing=False).compressing is None
