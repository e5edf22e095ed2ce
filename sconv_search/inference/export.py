"""Networks as ONNX files and ``torch.export`` archives, run again from the file before it is kept.

Files take batches of any size, and carry texts that say what they are.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sconv_search.inference.runtimes import ONNX, Forward, onnx_forward, openvino_forward
from sconv_search.system.files import atomic_write
from sconv_search.system.packages import require_package

PARITY_TOLERANCE = 1e-3
CHECKED_BATCHES = (1, 5)
METADATA = "sconv_search.json"
"""Name of the metadata in a ``torch.export`` archive; the keys of an ONNX file's begin with ``sconv_search.``."""


def export_onnx(network: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """Writes an ONNX file; returns its parity by onnxruntime, and by OpenVINO where that is installed.

    Parity is the largest difference to the network's outputs on random inputs, over the largest output. The file
    appears only after the check.

    Args:
        network: in evaluation mode, on the CPU; its forward takes one tensor and gives one.
        example: (N, ...) with N of 2 or more.

    Raises:
        ValueError: a package is missing, or the network cannot be exported for all batch sizes.
        RuntimeError: the file does not compute what the network does.
    """
    require_package("onnxscript", "onnx", ONNX)
    program = torch.onnx.export(
        _exported(network, example), dynamo=True, verbose=False, input_names=["input"], output_names=["output"]
    )
    assert program is not None
    program.model.metadata_props.update(keyed(metadata))
    runtimes = {"onnxruntime": onnx_forward}
    if importlib.util.find_spec("openvino") is not None:
        runtimes["openvino"] = openvino_forward
    return _kept(network, example, path, lambda partial: program.save(partial), runtimes)


def export_program(network: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
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


def parity(network: Forward, other: Forward, example: Tensor) -> float:
    """The largest difference of two networks' outputs over the largest output, on random inputs like the example."""
    generator, worst = torch.Generator().manual_seed(0), 0.0
    with torch.no_grad():
        for batch in CHECKED_BATCHES:
            x = torch.randn(batch, *example.shape[1:], generator=generator)
            wanted = network(x)
            worst = max(worst, float((other(x) - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30)))
    return worst


def keyed(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata under keys that tell whose they are."""
    return {f"sconv_search.{key}": text for key, text in metadata.items()}


def _exported(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except Exception as error:  # of many kinds, from the tracer or the user's own forward
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{type(network).__name__} cannot be exported for batches of any size: {reason}") from error


def _kept(
    network: nn.Module,
    example: Tensor,
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
