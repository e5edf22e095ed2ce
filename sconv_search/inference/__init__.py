"""A trained network made ready to run: the fastest form of each layer, exported files, measured latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.inference.batch_norm_folding import fold_batch_norms_
    from sconv_search.inference.export import export_onnx, export_program, parity, require_parity
    from sconv_search.inference.implementations import DENSE
    from sconv_search.inference.latency import drawn_input, measure_ready_latencies_ms
    from sconv_search.inference.layer_times import layer_times_ms, sortable_sites
    from sconv_search.inference.optimize import WHOLE, LayerTimes, SiteChoice, choice_table, optimize_for_inference
    from sconv_search.inference.quantization import export_int8, quantize_onnx
    from sconv_search.inference.runtimes import onnx_forward, onnx_run, openvino_has_bf16, openvino_run
    from sconv_search.inference.surroundings import surrounded_runs

_HOMES = {
    "fold_batch_norms_": "batch_norm_folding",
    "export_onnx": "export",
    "export_program": "export",
    "parity": "export",
    "require_parity": "export",
    "DENSE": "implementations",
    "drawn_input": "latency",
    "measure_ready_latencies_ms": "latency",
    "layer_times_ms": "layer_times",
    "sortable_sites": "layer_times",
    "LayerTimes": "optimize",
    "SiteChoice": "optimize",
    "WHOLE": "optimize",
    "choice_table": "optimize",
    "optimize_for_inference": "optimize",
    "export_int8": "quantization",
    "quantize_onnx": "quantization",
    "onnx_forward": "runtimes",
    "onnx_run": "runtimes",
    "openvino_has_bf16": "runtimes",
    "openvino_run": "runtimes",
    "surrounded_runs": "surroundings",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "DENSE",
    "LayerTimes",
    "SiteChoice",
    "WHOLE",
    "choice_table",
    "drawn_input",
    "export_int8",
    "export_onnx",
    "export_program",
    "fold_batch_norms_",
    "layer_times_ms",
    "measure_ready_latencies_ms",
    "onnx_forward",
    "onnx_run",
    "openvino_has_bf16",
    "openvino_run",
    "optimize_for_inference",
    "parity",
    "quantize_onnx",
    "require_parity",
    "sortable_sites",
    "surrounded_runs",
]
