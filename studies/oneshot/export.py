"""``ss.export``: a network as a file of another runtime, in the forms that are fastest there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from sconv_search.cost.network_inputs import Inputs, batch_of, is_shape
from sconv_search.cost.timing import Prepare, eager
from sconv_search.data.loaders.batches import first_inputs
from sconv_search.inference.export import export_onnx, export_program
from sconv_search.inference.optimize import optimize_for_inference
from sconv_search.inference.quantization import export_int8
from sconv_search.inference.runtimes import onnx_forward, onnx_run, openvino_run
from sconv_search.plan import CompressionPlan
from sconv_search.studies.oneshot.arguments import require_fit, require_functions, require_iterable

Runtime = Literal["onnxruntime", "openvino", "torch"]
SUFFIXES: Mapping[str, Runtime] = {".onnx": "onnxruntime", ".pt2": "torch"}
QUANTIZED_INPUTS = 256
TIMED_BATCH = 16


def export(
    network: nn.Module,
    path: str | Path,
    *,
    example: Inputs | None = None,
    optimize: bool = True,
    runtime: Runtime | None = None,
    int8: bool = False,
    data: Iterable[Any] | None = None,
    inputs: Callable[[Any], Inputs] | None = None,
    overwrite: bool = False,
) -> dict[str, float]:
    """Writes the network as ``.onnx`` or ``.pt2``, checked by running it from there; returns the parity by runtime.

    Parity is the largest difference to the network's outputs over the largest of them; of a file of 8 bits on the
    data's first inputs.

    Args:
        network: it takes and gives tensors in any structure.
        path: its suffix is the format: ONNX, or an archive of ``torch.export``.
        example: what the network is called with, as for ``compress``; by default what that was given.
        optimize: fold batch norms, and compute every structured layer in the form that is measured to be fastest in the
            runtime that the file is for; the dense form where none is faster.
        runtime: that runtime: onnxruntime or OpenVINO for ONNX; by default onnxruntime for ONNX, PyTorch for archives.
        int8: quantize an ONNX file to 8 bits, by the ranges of the data's first inputs.
        data: batches for that, such as a ``DataLoader``; they are read, and checked, before any work.
        inputs: what of a batch the network is called with; by default the batch itself, or its first entry.
        overwrite: whether a file that is there is replaced.

    Raises:
        FileExistsError: the file is there, and ``overwrite`` is not given.
        TypeError: ``data`` cannot be iterated, or ``inputs`` is no function.
        ValueError: the suffix, the runtime, the example or the data does not fit, a package is missing, or the network
            cannot be exported.
        RuntimeError: what the file computes is not what the network does; nothing is written then.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r} must end in {' or '.join(SUFFIXES)}, which says the format")
    chosen = runtime or SUFFIXES[path.suffix]
    if chosen not in get_args(Runtime) or (path.suffix == ".pt2") != (chosen == "torch"):
        raise ValueError(f"runtime {chosen!r} does not run {path.suffix} files; onnxruntime and openvino run .onnx")
    if int8 and (path.suffix != ".onnx" or data is None):
        raise ValueError("int8=True writes .onnx files and reads the ranges of activations from data=; give both")
    if path.is_file() and not overwrite:
        raise FileExistsError(f"the file {str(path)!r} is there already; name another, or replace it by overwrite=True")
    kinds = {weight.dtype for weight in network.parameters() if weight.is_floating_point()}
    if path.suffix == ".onnx" and kinds - {torch.float32}:
        names = ", ".join(sorted(map(str, kinds - {torch.float32})))
        raise ValueError(
            f"ONNX files are written of networks in torch.float32, this one has {names}; call .float() first"
        )
    require_functions({"inputs": inputs})
    given = _example(network, example)
    quantized = _quantized_inputs(network, data, inputs) if int8 else None
    ready = network.eval()
    if optimize:
        prepare: Mapping[Runtime, Prepare] = {"onnxruntime": onnx_run, "openvino": openvino_run, "torch": eager}
        ready, _ = optimize_for_inference(ready, batch_of(network, given, TIMED_BATCH), prepare=prepare[chosen])
    plan = getattr(network, "plan", None)
    metadata = {"torch": torch.__version__, **({"plan": plan.to_json()} if isinstance(plan, CompressionPlan) else {})}
    two = batch_of(network, given, 2)
    if quantized is not None:
        assert isinstance(two, Tensor)  # as the network takes the data's
        export_int8(ready, two, quantized, path, metadata)
        return {"onnxruntime": _difference(ready, onnx_forward(path), quantized[:TIMED_BATCH])}
    return (export_onnx if path.suffix == ".onnx" else export_program)(ready, two, path, metadata)


def _quantized_inputs(network: nn.Module, data: object, inputs: Callable[[Any], Inputs] | None) -> Tensor:
    """The first inputs of the data, which the network takes."""
    require_iterable(data)
    read = first_inputs(cast(Iterable[Any], data), QUANTIZED_INPUTS, inputs, torch.device("cpu"))
    if not isinstance(read, Tensor):
        raise ValueError("int8=True needs a network of one tensor; batches must be tensors, or begin with one")
    require_fit(network.eval(), read)
    return read


def _difference(network: nn.Module, other: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
    with torch.no_grad():
        wanted, given = network(inputs.clone()), other(inputs)  # a forward may write over what it is given
    return float((given - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def _example(network: nn.Module, example: Inputs | None) -> Inputs:
    inputs = getattr(network, "example", None) if example is None else example
    if inputs is None:
        raise ValueError("export needs an example input; give example=, a tensor (N, ...) or the shape of one input")
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1 and isinstance(inputs[0], Tensor):
        inputs = inputs[0]
    made: Inputs = tuple(inputs) if is_shape(inputs) else inputs
    return made
