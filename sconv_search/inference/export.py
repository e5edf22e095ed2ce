"""Networks as ONNX files and ``torch.export`` archives, run again from the file before it is kept.

Files take batches of any size, and carry texts that say what they are.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.cost.network_inputs import Inputs, arguments, called, output_tensors
from sconv_search.inference.runtimes import ONNX, Forward, onnx_forward, openvino_forward
from sconv_search.system.files import atomic_write
from sconv_search.system.packages import require_package

PARITY_TOLERANCE = 1e-3
CHECKED_BATCHES = (1, 5)
METADATA = "sconv_search.json"
"""Name of the metadata in a ``torch.export`` archive; the keys of an ONNX file's begin with ``sconv_search.``."""


def export_onnx(network: nn.Module, example: Inputs, path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """Writes an ONNX file; returns its parity by onnxruntime, and by OpenVINO where that is installed.

    Parity is the largest difference to the network's outputs on random inputs, over the largest output. The file
    appears only after the check.

    Args:
        network: in evaluation mode, on the CPU; it gives tensors in any structure, which the file gives in their order.
        example: (N, ...) with N of 2 or more; of networks of several inputs, a tuple of positional arguments or a dict.

    Raises:
        ValueError: a package is missing, or the network cannot be exported for all batch sizes.
        RuntimeError: the file does not compute what the network does.
    """
    require_package("onnxscript", "onnx", ONNX)
    exported, names = _exported(network, example), dict[str, list[str]]()
    if isinstance(example, Tensor):
        names["input_names"] = ["input"]
    if len(exported.graph_signature.user_outputs) == 1:
        names["output_names"] = ["output"]
    program = torch.onnx.export(exported, dynamo=True, verbose=False, **names)  # type: ignore[arg-type]  # of names
    assert program is not None
    program.model.metadata_props.update(keyed(metadata))
    runtimes = {"onnxruntime": onnx_forward}
    if importlib.util.find_spec("openvino") is not None:
        runtimes["openvino"] = openvino_forward
    return _kept(network, example, path, lambda partial: program.save(partial), runtimes)


def export_program(network: nn.Module, example: Inputs, path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """Writes a ``torch.export`` archive; returns its parity after reloading, as ``export_onnx`` does.

    The metadata are one JSON object, the extra file ``sconv_search.json`` of ``torch.export.load``.

    Raises:
        ValueError: the network cannot be exported for all batch sizes.
        RuntimeError: the file does not compute what the network does.
    """
    program, texts = _exported(network, example), {METADATA: json.dumps(dict(metadata))}
    reloaded = {"torch.export": lambda partial: torch.export.load(partial).module()}
    return _kept(
        network, example, path, lambda partial: torch.export.save(program, partial, extra_files=texts), reloaded
    )


def require_writer(form: str) -> None:
    """Refuses a format that needs a package which is not installed.

    Raises:
        ValueError: the package, and how to get it.
    """
    if form == "onnx":
        for package in ("onnxscript", "onnxruntime"):
            require_package(package, "onnx", ONNX)


def parity(network: Forward, other: Forward, example: Inputs) -> float:
    """The largest difference of two networks' outputs over the largest output, on random inputs like the example.

    Whole numbers among the inputs, which may be indices, are the example's own.
    """
    generator, worst = torch.Generator().manual_seed(0), 0.0
    with torch.no_grad():
        for batch in CHECKED_BATCHES:
            inputs = _drawn(example, batch, generator)
            for wanted, output in zip(_outputs(network, inputs), _outputs(other, inputs), strict=True):
                largest = wanted.abs().max().clamp_min(1e-30)
                worst = max(worst, float((output.to(wanted.dtype) - wanted).abs().max() / largest), key=_nan_last)
    return worst


def _nan_last(value: float) -> tuple[bool, float]:
    return value != value, value


def _drawn(example: Inputs, batch: int, generator: torch.Generator) -> Inputs:
    def like(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.is_floating_point():
            return torch.randn(batch, *leaf.shape[1:], generator=generator)
        return leaf[:1].expand(batch, *leaf.shape[1:]).contiguous()

    drawn: Inputs = pytree.tree_map(like, example)
    return drawn


def _outputs(forward: Forward, inputs: Inputs) -> list[Tensor]:
    """All tensors that it gives: for one tensor, for the arguments of a module, or for the tensors of a file."""
    if isinstance(inputs, Tensor):
        return output_tensors(forward(inputs.clone()))  # it may write over what it is given
    if isinstance(forward, nn.Module):
        return output_tensors(called(forward, inputs))
    return output_tensors(forward(*(leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor))))


def keyed(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata under keys that tell whose they are."""
    return {f"sconv_search.{key}": text for key, text in metadata.items()}


def _exported(network: nn.Module, example: Inputs) -> torch.export.ExportedProgram:
    positional, named = arguments(network, example)
    batch = torch.export.Dim("batch", min=1)
    given = inspect.signature(network.forward).bind(*positional, **named).arguments
    shapes = {
        name: pytree.tree_map(lambda leaf: {0: batch} if isinstance(leaf, Tensor) else None, value)
        for name, value in given.items()
    }
    try:
        return torch.export.export(network, positional, named, dynamic_shapes=shapes)
    except Exception as error:  # of many kinds, from the tracer or the user's own forward
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{type(network).__name__} cannot be exported for batches of any size: {reason}") from error


def _kept(
    network: nn.Module,
    example: Inputs,
    path: Path,
    write: Callable[[Path], object],
    runtimes: Mapping[str, Callable[[Path], Forward]],
) -> dict[str, float]:
    """Writes, runs again, compares; the file gets its name at the end."""
    with atomic_write(path) as partial:
        write(partial)
        parities = {name: parity(network, load(partial), example) for name, load in runtimes.items()}
        require_parity(parities)
    return parities


def require_parity(parities: Mapping[str, float]) -> None:
    """Refuses a file that does not compute what the network does.

    Raises:
        RuntimeError: runtime and difference are named.
    """
    for name, difference in parities.items():
        if not difference <= PARITY_TOLERANCE:
            raise RuntimeError(
                f"by {name} the exported network differs by {difference:.1e} of its largest output, more than "
                f"{PARITY_TOLERANCE:.0e}; nothing is written"
            )
