"""Folders and files may be given as texts wherever users name them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search import Choice, CompressionPlan, RunFolder, compress, rebuild, save_compressed
from sconv_search.system.weights import load_weights_, save_weights


def test_texts_do_where_paths_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunFolder("runs/x") == RunFolder(Path("runs/x"))
    assert RunFolder("runs/x").trials == Path("runs/x/trials.jsonl")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten()).eval()
    plan = CompressionPlan(sites={"0": Choice(method="weight_svd", structure={"rank": 2})})
    small, x = compress(network, plan), torch.randn(1, 2, 6, 6)
    save_compressed(small, plan, "small")
    assert torch.equal(rebuild(network, "small")(x), small(x))
    save_weights(network, "deep/dense.safetensors")
    other = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten())
    load_weights_(other, "deep/dense.safetensors")
    assert torch.equal(other(x), network(x))
