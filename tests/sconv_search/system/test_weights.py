from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
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


def changed(path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    """Saves the network's weights with one tensor changed."""
    tensors = dict(network().state_dict())
    tensors[name] = change(tensors[name])
    save_file(tensors, path)
    return tensors


def with_value(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: tensor.flatten().index_fill(0, torch.tensor([1]), value).view_as(tensor)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("3.weight", lambda t: t.int(), "does not fit Sequential: 3.weight must be torch.float32, is torch.int32"),
        ("3.weight", lambda t: t.bool(), "3.weight must be torch.float32, is torch.bool"),
        ("1.num_batches_tracked", lambda t: t.float(), "1.num_batches_tracked must be torch.int64, is torch.float32"),
        ("0.weight", with_value(float("nan")), "numbers that are not finite: 0.weight is NaN in 1 of 36 places"),
        ("0.weight", with_value(float("-inf")), "0.weight is infinite in 1 of 36 places"),
        ("1.running_var", with_value(float("nan")), "1.running_var is NaN in 1 of 4 places"),
    ],
)
def test_weights_that_no_network_has_are_refused_before_any_is_loaded(
    tmp_path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    changed(tmp_path / "w", name, change)
    other = network()
    before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"w' .*{words}"):
        load_weights_(other, tmp_path / "w")
    assert all(torch.equal(tensor, before[key]) for key, tensor in other.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = changed(tmp_path / "w", "3.weight", lambda tensor: tensor.to(kind))
    other = network()
    load_weights_(other, tmp_path / "w")
    assert torch.equal(other[3].weight, tensors["3.weight"].float())


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    save_weights(network(), tmp_path / "w", {"of": "a test"})
    content = bytearray((tmp_path / "w").read_bytes())
    content[-1] ^= 1
    (tmp_path / "w").write_bytes(content)
    other = network()
    before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"w' is damaged: the checksum of its numbers is \d+, and was \d+ when"):
        load_weights_(other, tmp_path / "w")
    assert all(torch.equal(tensor, before[key]) for key, tensor in other.state_dict().items())


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    """The library writes the texts in an order that differs from file to file."""
    saved, texts = network(), {name: f"λ {name}" for name in "abcdefgh"}
    files = set()
    for number in range(5):
        save_weights(saved, tmp_path / str(number), texts)
        files.add((tmp_path / str(number)).read_bytes())
    assert len(files) == 1
    with safe_open(tmp_path / "0", "pt") as file:
        assert {name: text for name, text in file.metadata().items() if name in texts} == texts
