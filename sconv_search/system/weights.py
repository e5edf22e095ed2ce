"""Weights as safetensors files: no pickles, and nothing is loaded before names and shapes are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from sconv_search.strict_json import shortened
from sconv_search.system.files import write_whole

SHOWN = 5


def save_weights(network: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the network's state dict, and texts that say what it is; the file appears whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    # As bytes first, so that the size is known before a full disk refuses them.
    write_whole(path, save(tensors, metadata=None if metadata is None else dict(metadata)))


def load_weights_(network: nn.Module, path: Path) -> None:
    """Loads the state dict that ``save_weights`` wrote into the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or its names or shapes are not the network's; the differences are
            listed. The network is then untouched.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights file {str(path)!r} does not exist")
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ValueError(
            f"weights file {str(path)!r} is not a safetensors file: {shortened(str(error), 200)}"
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    if wrong := _differences(expected, shapes, optional):
        listed = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        raise ValueError(f"weights file {str(path)!r} does not fit {type(network).__name__}: {listed}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"weights file {str(path)!r} cannot be read: {shortened(str(error), 200)}") from error
    network.load_state_dict(tensors, strict=not optional)


def _differences(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], optional: set[str]
) -> list[str]:
    missing = [f"{name} is missing" for name in expected if name not in found and name not in optional]
    unknown = [f"{name} is unknown" for name in found if name not in expected]
    shapes = [
        f"{name} must be {expected[name]}, is {found[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    return missing + shapes + unknown


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
