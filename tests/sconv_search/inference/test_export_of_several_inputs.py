"""Files of networks that take and give several tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sconv_search.inference.export import export_onnx, export_program, parity
from sconv_search.inference.optimize import optimize_for_inference
from sconv_search.inference.runtimes import onnx_session

pytestmark = pytest.mark.filterwarnings("ignore")


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.kind = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Embedding(3, 4)

    def forward(self, image: Tensor, kind: Tensor) -> dict[str, Tensor]:
        seen = self.norm(self.conv(image)).mean((2, 3))
        return {"sum": seen + self.kind(kind), "mean": seen}


def network() -> nn.Module:
    torch.manual_seed(0)
    return Two().eval()


TUPLE = (torch.randn(2, 1, 5, 5), torch.tensor([2, 0]))
EXAMPLES = [TUPLE, {"image": TUPLE[0], "kind": TUPLE[1]}]


@pytest.mark.parametrize("example", EXAMPLES, ids=["positional", "by keyword"])
def test_a_file_takes_all_inputs_by_name_and_gives_all_outputs(example: object, tmp_path: Path) -> None:
    for found in (
        export_onnx(network(), example, tmp_path / "two.onnx", {}),
        export_program(network(), example, tmp_path / "two.pt2", {}),
    ):
        assert all(difference < 1e-5 for difference in found.values())
    session = onnx_session((tmp_path / "two.onnx").read_bytes())
    assert [entry.name for entry in session.get_inputs()] == ["image", "kind"]
    outputs = session.run(None, {"image": torch.zeros(3, 1, 5, 5).numpy(), "kind": torch.tensor([0, 1, 2]).numpy()})
    assert [output.shape for output in outputs] == [(3, 4), (3, 4)]


def test_parity_sees_a_difference_in_any_output() -> None:
    whole = network()

    def wrong(image: Tensor, kind: Tensor) -> list[Tensor]:
        found = whole(image, kind)
        return [found["sum"], 1.5 * found["mean"]]

    assert parity(whole, wrong, TUPLE) == pytest.approx(0.5, abs=1e-5)


def test_norms_are_folded_in_networks_of_several_inputs() -> None:
    whole = network()
    ready, rows = optimize_for_inference(whole, TUPLE)
    assert rows == []
    assert isinstance(ready, Two)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    for before, after in zip(whole(*TUPLE).values(), ready(*TUPLE).values(), strict=True):
        torch.testing.assert_close(before, after)
