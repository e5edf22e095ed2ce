"""Weights of networks, written as safetensors; what is read is loaded after names and shapes are checked."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sconv_search.strict_json import shortened
from sconv_search.system.files import write_whole
from sconv_search.system.state_dicts.files import state_file
from sconv_search.system.state_dicts.wrappers import prefix_of

SHOWN = 5
CHECKSUM = "sconv_search.crc32"
"""The metadata that tells what the tensors' checksum was when they were written."""


def save_weights(network: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the network's state dict with its checksum, and texts that say what it is; the file appears whole or not
    at all.
    """
    write_whole(Path(path), weights_file(network, metadata)[0])  # bytes, of which a full disk says how many it lacks


def weights_file(network: nn.Module, metadata: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """The content of a file of the network's weights, and the checksum that it names."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    checksum = str(tensors_checksum(tensors))
    return _in_order(save(tensors, metadata={CHECKSUM: checksum, **(metadata or {})})), checksum


def _in_order(content: bytes) -> bytes:
    """The same safetensors file, its header's names in order: the library writes texts in another order each time."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    names = header.encode()
    padded = names + b" " * (-len(names) % 8)
    return len(padded).to_bytes(8, "little") + padded + content[8 + length :]


def load_weights_(network: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Loads a file's state dict into the network; weights of another precision are converted.

    The file is safetensors, or what ``torch.save`` wrote, of which tensors alone are read, without running anything;
    state dicts inside of checkpoints are found, and prefixes such as ``module.`` are left out.

    Returns:
        What was recognized in the file, in words.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no state dict, its names, shapes or kinds of numbers are not the network's, it holds
            other numbers than were written to it, or numbers that are not finite; the differences are listed. The
            network is then untouched.
    """
    file = state_file(Path(path))
    title, state = f"weights file {str(path)!r}", network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    optional = {name for name in expected if name.endswith("num_batches_tracked")} | _added_by_hooks(network, expected)
    prefix = prefix_of(file.shapes, expected)
    wrong = _differences(expected, {name[len(prefix) :]: shape for name, shape in file.shapes.items()}, optional)
    tensors = {} if wrong else file.tensors()
    given = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    if wrong := wrong or _other_kinds(state, given):
        raise ValueError(f"{title} does not fit {type(network).__name__}: {_listed(wrong)}")
    written = file.metadata.get(CHECKSUM)
    if written is not None and written != (read := str(tensors_checksum(tensors))):
        raise ValueError(
            f"{title} is damaged: the checksum of its numbers is {read}, and was "
            f"{shortened(written, 20)} when they were written; take a copy that is whole, or write it anew"
        )
    if wrong := not_finite(given, {name for name, _ in network.named_buffers()}):
        raise ValueError(f"{title} holds numbers that are not finite: {_listed(wrong)}")
    loaded = network.load_state_dict(given, strict=not optional)
    if left := [name for name in loaded.missing_keys if name not in optional]:
        raise ValueError(f"{title} does not fit {type(network).__name__}: no hook gives {_listed(left)}")
    without = (f"names are taken without {prefix!r}",) if prefix else ()
    return tuple(f"{path}: {note}" for note in (*file.notes, *without))


def _added_by_hooks(network: nn.Module, names: Iterable[str]) -> set[str]:
    """Entries of the state dict that are no tensors of the network's, which hooks of its state may add."""
    if not any(module._state_dict_hooks for module in network.modules()):
        return set()
    own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    own |= {name for name, _ in network.named_buffers(remove_duplicate=False)}
    return {name for name in names if name not in own and not name.endswith("_extra_state")}


def tensors_checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 over names and contents: what a disk or a transfer damages shows."""
    checksum = 0
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(content.data, zlib.crc32(name.encode(), checksum))
    return checksum


def not_finite(tensors: Mapping[str, Tensor], buffers: Collection[str]) -> list[str]:
    """Tensors with numbers that no trained network has, in words; buffers may hold infinities, as masks do."""
    names = []
    for name, tensor in tensors.items():
        if tensor.is_meta or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        bad = tensor.isnan() if name in buffers else ~tensor.isfinite()
        if count := int(bad.sum()):
            kind = "NaN" if bool(tensor.isnan().any()) else "infinite"
            names.append(f"{name} is {kind} in {count} of {tensor.numel()} places")
    return names


def _listed(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")


def _other_kinds(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Whole numbers where others are expected, or the other way round; a precision may differ."""
    return [
        f"{name} must be {expected[name].dtype}, is {tensor.dtype}"
        for name, tensor in given.items()
        if _kind(expected[name]) != _kind(tensor)
    ]


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _differences(
    expected: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]], optional: set[str]
) -> list[str]:
    missing = [f"{name} is missing" for name in expected if name not in given and name not in optional]
    unknown = [f"{name} is unknown" for name in given if name not in expected]
    shapes = [
        f"{name} must be {expected[name]}, is {given[name]}"
        for name in expected
        if name in given and given[name] != expected[name]
    ]
    return missing + shapes + unknown


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state_checksum(network: nn.Module) -> str:
    """SHA-256 of the network's weights and buffers, in hexadecimal."""
    plain = torch.contiguous_format  # the file format knows no other
    state = {name: tensor.detach().clone(memory_format=plain) for name, tensor in network.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()
