from __future__ import annotations

from torch import Tensor, nn

from sconv_search.inference.latency import measure_latencies_ms


def test_latencies_are_measured_in_turn() -> None:
    order: list[str] = []

    class Named(nn.Identity):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: Tensor) -> Tensor:
            order.append(self.name)
            return x

    taken = measure_latencies_ms([Named("a"), Named("b")], (1, 4, 4), rounds=3)
    assert order == ["a", "b"] * 4
    assert [len(one) for one in taken] == [3, 3]
    assert all(time > 0 for one in taken for time in one)
