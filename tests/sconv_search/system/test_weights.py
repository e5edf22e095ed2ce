from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_of_torch_that_was_cut_short_is_named_wherever_it_ends(tmp_path: Path, old_format: bool) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=not old_format)
    whole = (tmp_path / "w.pth").read_bytes()
    for share in range(1, 20):
        (tmp_path / "w.pth").write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(ValueError, match=r"weights file '.*w\.pth' "):
            load_weights_(network(), tmp_path / "w.pth")


def test_a_folder_is_not_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights file '.*' is not a regular file, it is a folder"):
        load_weights_(network(), tmp_path)


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


def wrapped_by(keys: tuple[str, ...], prefix: str) -> dict[str, Any]:
    state: dict[str, Any] = {prefix + name: tensor for name, tensor in network().state_dict().items()}
    for key in reversed(keys):
        state = {key: state, "epoch": 3, "best": 0.5}
    return state


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    ("keys", "prefix", "said"),
    [
        ((), "", []),
        (("state_dict",), "", ["its state dict is taken from 'state_dict'"]),
        (("model",), "module.", ["taken from 'model'", "names are taken without 'module.'"]),
        (
            ("checkpoint", "model_state_dict"),
            "model._orig_mod.",
            ["'checkpoint' / 'model_s", "without 'model._orig_mod.'"],
        ),
    ],
)
def test_state_dicts_of_torch_are_read_from_wrappers_and_without_prefixes(
    tmp_path: Path, keys: tuple[str, ...], prefix: str, said: list[str], old_format: bool
) -> None:
    saved = wrapped_by(keys, prefix)
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=not old_format)
    for key in keys:
        saved = saved[key]
    other = network()
    notes = load_weights_(other, tmp_path / "w.pth")
    assert all(torch.equal(tensor, saved[prefix + name]) for name, tensor in other.state_dict().items())
    assert len(notes) == len(said)
    assert all(word in note for word, note in zip(said, notes, strict=True))


def test_an_average_of_the_weights_is_taken_before_the_last_ones(tmp_path: Path) -> None:
    last, average = network(), network()
    averaged = torch.optim.swa_utils.AveragedModel(average)
    torch.save({"model": last.state_dict(), "model_ema": averaged.state_dict()}, tmp_path / "w.pth")
    other = network()
    notes = load_weights_(other, tmp_path / "w.pth")
    assert torch.equal(other[0].weight, average[0].weight)
    assert "'model_ema'" in notes[0]


def test_a_network_whose_own_names_have_the_prefix_keeps_it(tmp_path: Path) -> None:
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})
    torch.save(own.state_dict(), tmp_path / "w.pth")
    other = nn.ModuleDict({"module": nn.Linear(2, 2)})
    assert load_weights_(other, tmp_path / "w.pth") == ()
    assert torch.equal(other["module"].weight, own["module"].weight)


class Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it_ran"),)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Dangerous()}, "w.pth")
    with pytest.raises(ValueError, match=r"w.pth' holds Python objects .* save the network's state_dict\(\) alone"):
        load_weights_(network(), "w.pth")
    assert not Path("it_ran").exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            lambda p: torch.save({"epoch": 3, "lr": [0.1]}, p),
            r"no state dict: its keys are 'epoch' \(int\), 'lr' \(list\)",
        ),
        (lambda p: torch.save(torch.zeros(2), p), "no state dict: it is a Tensor"),
        (lambda p: torch.save({}, p), "no state dict: it is empty"),
        (lambda p: torch.jit.script(nn.Linear(2, 2)).save(str(p)), "is a TorchScript program"),
        (lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "is damaged"),
        (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "is not a safetensors file, nor one of torch.save"),
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path: Path, write: Callable[[Path], object], words: str) -> None:
    write(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=words):
        load_weights_(network(), tmp_path / "w.pt")


def test_safetensors_whose_first_byte_is_that_of_a_pickle_are_read(tmp_path: Path) -> None:
    for width in range(1, 40):  # the header's length is the first number of the file
        tensors = {"a" * width: torch.ones(1), "b": torch.zeros(1, 3)}
        save_file(tensors, tmp_path / "w")
        if (tmp_path / "w").read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header of such a length was made")
    holder = nn.Module()
    for name, tensor in tensors.items():
        holder.register_buffer(name, torch.full_like(tensor, 7))
    load_weights_(holder, tmp_path / "w")
    assert float(holder.state_dict()["a" * width]) == 1


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


def test_entries_that_state_hooks_add_may_be_missing_and_are_not_loaded(tmp_path: Path) -> None:
    plain, hooked = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_state_dict_post_hook(lambda _, state, prefix, __: state.update({f"{prefix}more": torch.ones(1)}))
    for network in (plain, hooked):
        save_weights(network, tmp_path / "weights.safetensors")
        other = copy.deepcopy(hooked)
        nn.init.zeros_(other[0].weight)
        load_weights_(other, tmp_path / "weights.safetensors")
        assert torch.equal(other[0].weight, network[0].weight)


def test_weights_that_a_state_hook_renames_are_missed_where_no_hook_gives_them_back(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network[0].register_state_dict_post_hook(lambda _, state, prefix, __: state.update(w=state.pop(f"{prefix}weight")))
    save_weights(network, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"does not fit Sequential: no hook gives 0\.weight"):
        load_weights_(network, tmp_path / "weights.safetensors")
