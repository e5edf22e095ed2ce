"""Files of weights: safetensors, and those of ``torch.save``, of which tensors alone are read and nothing is run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sconv_search.strict_json import require_regular, shortened
from sconv_search.system.state_dicts.wrappers import unwrapped

ZIP, PICKLE = b"PK\x03\x04", b"\x80\x02\x8a\x0a"
"""First bytes of what ``torch.save`` writes today, and of what it wrote before 1.6."""
SAVE_AGAIN = "save the network's state_dict() alone, by torch.save or safetensors"


@dataclass(frozen=True, kw_only=True)
class StateFile:
    """The tensors of a file.

    Args:
        shapes: name -> shape; a large file of other weights is refused by them before it is read.
        tensors: reads all of them.
        notes: what was recognized in the file, in words.
        metadata: texts beside the tensors.
    """

    shapes: Mapping[str, tuple[int, ...]]
    tensors: Callable[[], Mapping[str, Tensor]]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def state_file(path: Path) -> StateFile:
    """The tensors of a file of weights, on the CPU; its kind is told by its first bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, of neither kind, damaged, holds more than tensors and plain values, or no
            state dict.
    """
    require_regular(path, "weights file")
    with path.open("rb") as file:
        begins = file.read(4)
    if begins.startswith((ZIP, PICKLE)):
        return _pickled(path)
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(
            f"weights file {str(path)!r} is not a safetensors file, nor one of torch.save: {shortened(str(error), 200)}"
        ) from error
    return StateFile(shapes=shapes, tensors=partial(_safetensors, path), metadata=metadata)


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping


def _pickled(path: Path) -> StateFile:
    try:
        with warnings.catch_warnings(action="ignore"):  # on TorchScript, which is refused below
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights file {str(path)!r} holds Python objects beside tensors, which are not loaded, as loading runs"
            f" their code; {SAVE_AGAIN}"
        ) from error
    except Exception as error:  # of any kind: the reader trusts lengths and places that a damaged file holds
        script = "TorchScript" in str(error)
        what = "is a TorchScript program" if script else f"is damaged: {shortened(str(error), 200)}"
        raise ValueError(f"weights file {str(path)!r} {what}; {SAVE_AGAIN}") from error
    tensors, notes = unwrapped(loaded, f"weights file {str(path)!r}")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return StateFile(shapes=shapes, tensors=lambda: tensors, notes=notes)
