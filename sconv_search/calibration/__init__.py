"""What inputs without labels say about layers, and fits of layers to what the dense network puts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.calibration.geometry import ReplacedConv
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
    from sconv_search.calibration.replay import Given, called_once, outputs_before, replayed

_HOMES = {
    "ReplacedConv": "geometry",
    "BATCH": "moments",
    "KEPT_BYTES": "moments",
    "Moments": "moments",
    "Tail": "moments",
    "grouped_kernel": "moments",
    "input_moments": "moments",
    "least_squares_tail": "moments",
    "moment_bytes": "moments",
    "Given": "replay",
    "called_once": "replay",
    "outputs_before": "replay",
    "replayed": "replay",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "BATCH",
    "Given",
    "KEPT_BYTES",
    "Moments",
    "ReplacedConv",
    "Tail",
    "called_once",
    "grouped_kernel",
    "input_moments",
    "least_squares_tail",
    "moment_bytes",
    "outputs_before",
    "replayed",
]
