"""What inputs without labels say about layers, and fits of layers to what the dense network puts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.calibration.blocks import block_of
    from sconv_search.calibration.geometry import ReplacedConv, require_kind
    from sconv_search.calibration.moments import (
        BATCH,
        KEPT_BYTES,
        Moments,
        Tail,
        grouped_kernel,
        input_moments,
        least_squares_tail,
        moment_bytes,
    )
    from sconv_search.calibration.reconstruction import reconstruct
    from sconv_search.calibration.replaceable import left_alone
    from sconv_search.calibration.replay import Given, called_once, outputs_before, replay_
    from sconv_search.calibration.sequential_fit import FittedAlone, compress_layers, fit_in_sequence

_HOMES = {
    "block_of": "blocks",
    "ReplacedConv": "geometry",
    "require_kind": "geometry",
    "BATCH": "moments",
    "KEPT_BYTES": "moments",
    "Moments": "moments",
    "Tail": "moments",
    "grouped_kernel": "moments",
    "input_moments": "moments",
    "least_squares_tail": "moments",
    "moment_bytes": "moments",
    "reconstruct": "reconstruction",
    "left_alone": "replaceable",
    "Given": "replay",
    "called_once": "replay",
    "outputs_before": "replay",
    "replay_": "replay",
    "FittedAlone": "sequential_fit",
    "compress_layers": "sequential_fit",
    "fit_in_sequence": "sequential_fit",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "BATCH",
    "FittedAlone",
    "Given",
    "KEPT_BYTES",
    "Moments",
    "ReplacedConv",
    "Tail",
    "block_of",
    "called_once",
    "compress_layers",
    "fit_in_sequence",
    "grouped_kernel",
    "input_moments",
    "least_squares_tail",
    "left_alone",
    "moment_bytes",
    "outputs_before",
    "reconstruct",
    "replay_",
    "require_kind",
]
