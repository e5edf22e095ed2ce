"""A file that does not compute what the network does is not kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search.inference import export as exporting
from sconv_search.inference.export import export_program, parity, require_parity

pytestmark = pytest.mark.filterwarnings("ignore")


def test_parity_is_the_largest_difference_over_the_largest_output() -> None:
    x = torch.zeros(2, 3)
    assert parity(lambda given: given * 0 + 4, lambda given: given * 0 + 3, x) == 0.25
    assert parity(nn.Identity(), nn.Identity(), x) == 0


def test_a_difference_or_nan_is_refused_by_name() -> None:
    require_parity({"onnxruntime": 1e-6})
    for wrong in (0.25, float("nan")):
        with pytest.raises(RuntimeError, match="by openvino the exported network differs by"):
            require_parity({"onnxruntime": 0.0, "openvino": wrong})


def test_a_wrong_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "parity", lambda network, other, example: 0.5)
    with pytest.raises(RuntimeError, match="nothing is written"):
        export_program(nn.Sequential(nn.Linear(3, 2)).eval(), torch.zeros(2, 3), tmp_path / "a.pt2", {})
    assert list(tmp_path.iterdir()) == []
