"""Structured convolutions: sum-pooling followed by a smaller layer, and the loss that trains towards them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.structured.composite import CompositeConv2d
    from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d
    from sconv_search.structured.conv_transpose import (
        StructuredConvTranspose1d,
        StructuredConvTranspose2d,
        StructuredConvTranspose3d,
    )
    from sconv_search.structured.kernels import (
        box_basis,
        box_length,
        compose_chains,
        kronecker_basis,
        relative_residual,
    )
    from sconv_search.structured.kinds import LINEAR_MAPS, STRUCTURED
    from sconv_search.structured.linear import StructuredLinear
    from sconv_search.structured.method import StructuredConvolution
    from sconv_search.structured.paper_counts import PaperCounts
    from sconv_search.structured.paper_plans import PAPER_PLANS, paper_plan
    from sconv_search.structured.regularization import METHOD, site_counts, structural_loss

_HOMES = {
    "CompositeConv2d": "composite",
    "StructuredConv1d": "conv",
    "StructuredConv2d": "conv",
    "StructuredConv3d": "conv",
    "StructuredConvTranspose1d": "conv_transpose",
    "StructuredConvTranspose2d": "conv_transpose",
    "StructuredConvTranspose3d": "conv_transpose",
    "box_basis": "kernels",
    "box_length": "kernels",
    "compose_chains": "kernels",
    "kronecker_basis": "kernels",
    "relative_residual": "kernels",
    "LINEAR_MAPS": "kinds",
    "STRUCTURED": "kinds",
    "StructuredLinear": "linear",
    "StructuredConvolution": "method",
    "PaperCounts": "paper_counts",
    "PAPER_PLANS": "paper_plans",
    "paper_plan": "paper_plans",
    "METHOD": "regularization",
    "site_counts": "regularization",
    "structural_loss": "regularization",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "CompositeConv2d",
    "LINEAR_MAPS",
    "METHOD",
    "PAPER_PLANS",
    "PaperCounts",
    "STRUCTURED",
    "StructuredConv1d",
    "StructuredConv2d",
    "StructuredConv3d",
    "StructuredConvTranspose1d",
    "StructuredConvTranspose2d",
    "StructuredConvTranspose3d",
    "StructuredConvolution",
    "StructuredLinear",
    "box_basis",
    "box_length",
    "compose_chains",
    "kronecker_basis",
    "paper_plan",
    "relative_residual",
    "site_counts",
    "structural_loss",
]
