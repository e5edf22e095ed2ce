from __future__ import annotations

import pytest
import torch

from sconv_search.training.loss import computes_bf16


def test_bf16_is_for_devices_that_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for known, expected in (({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert computes_bf16(torch.device("cpu")) is expected
