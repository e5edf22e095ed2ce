from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search.system.weights import load_weights_, save_weights


def network(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, 2))


def test_weights_survive_saving_bit_for_bit(tmp_path: Path) -> None:
    first, second = network(), network()
    first[1].running_mean.fill_(3)
    save_weights(first.to(memory_format=torch.channels_last), tmp_path / "deep" / "weights.safetensors")
    load_weights_(second, tmp_path / "deep" / "weights.safetensors")
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["weights.safetensors"]


def test_weights_of_another_network_are_refused_before_any_is_loaded(tmp_path: Path) -> None:
    save_weights(network(6), tmp_path / "w")
    other = network()
    before = other[3].bias.clone()
    with pytest.raises(
        ValueError, match=r"does not fit Sequential: 0.weight must be \(4, 1, 3, 3\), is \(6, 1, 3, 3\); .*and 2 more"
    ):
        load_weights_(other, tmp_path / "w")
    assert torch.equal(other[3].bias, before)


def test_missing_and_unknown_names_are_listed(tmp_path: Path) -> None:
    save_weights(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "w")
    with pytest.raises(
        ValueError, match=r"1\.weight is unknown; 1\.bias is unknown|1\.bias is unknown; 1\.weight is unknown"
    ):
        load_weights_(nn.Sequential(nn.Linear(2, 2)), tmp_path / "w")
    with pytest.raises(ValueError, match=r"2\.weight is missing; 2\.bias is missing"):
        load_weights_(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)), tmp_path / "w")


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent' does not exist"):
        load_weights_(network(), tmp_path / "absent")
    save_weights(network(), tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:100])
    with pytest.raises(ValueError, match="w' is not a safetensors file"):
        load_weights_(network(), tmp_path / "w")
