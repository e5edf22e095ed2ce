"""Structured convolutions, and what every compression method needs: plans, costs, measurement, training."""

from sconv_search.budget import Budget, Budgets
from sconv_search.compressor import Compressor
from sconv_search.cost.counting import measure_cost
from sconv_search.inference.optimize import SiteChoice, choice_table, optimize_for_inference
from sconv_search.plan import Choice, CompressionPlan, Structure
from sconv_search.records import COLUMNS, Cost, TrialRecord
from sconv_search.structured.composite import CompositeConv2d
from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d
from sconv_search.structured.conv_transpose import (
    StructuredConvTranspose1d,
    StructuredConvTranspose2d,
    StructuredConvTranspose3d,
)
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.method import StructuredConvolution
from sconv_search.structured.regularization import structural_loss

__all__ = [
    "COLUMNS",
    "Budget",
    "Budgets",
    "Choice",
    "CompositeConv2d",
    "CompressionPlan",
    "Compressor",
    "Cost",
    "SiteChoice",
    "Structure",
    "StructuredConv1d",
    "StructuredConv2d",
    "StructuredConv3d",
    "StructuredConvTranspose1d",
    "StructuredConvTranspose2d",
    "StructuredConvTranspose3d",
    "StructuredConvolution",
    "StructuredLinear",
    "TrialRecord",
    "choice_table",
    "measure_cost",
    "optimize_for_inference",
    "structural_loss",
]
