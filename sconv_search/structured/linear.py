"""Structured linear layers: sums of input features, then a smaller linear layer.

Source: Bhalgat et al., Structured Convolutions for Efficient Neural Network Design, NeurIPS 2020, arXiv 2008.02454.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration.geometry import require_kind
from sconv_search.structured.projected_gradient import ProjectedLayer
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.structured.sums.eager_sums import plain
from sconv_search.structured.sums.variants import NATURAL, channel_pooling
from sconv_search.system.symbolic import as_node


class StructuredLinear(ProjectedLayer):
    """Sums of input features, then a smaller linear layer; made by ``from_linear``.

    Args:
        linear: the dense layer whose sizes are kept; its weights are not read here.
        c: boxes along the input features.
        pooling: the feature sums; by default the chains of the features in their own order.

    Raises:
        TypeError: linear is not an ``nn.Linear``.
        ValueError: c is not in 1..in_features.
    """

    if TYPE_CHECKING:  # TorchScript cannot read these
        weight: Tensor
        bias: Tensor | None

    def __init__(self, linear: nn.Linear, *, c: int, pooling: NaturalChains | None = None) -> None:
        super().__init__()
        require_kind(linear, nn.Linear, "StructuredLinear")
        if not 1 <= c <= linear.in_features:
            raise ValueError(f"c must be in 1..{linear.in_features} (input features), got {c}")
        self.in_features, self.out_features, self.c = linear.in_features, linear.out_features, c
        self.pooling = pooling or NaturalChains(linear.in_features, c)
        self.weight = nn.Parameter(linear.weight.new_empty(linear.out_features, c))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, *, c: int, variant: str = NATURAL, reference: nn.Module | None = None
    ) -> Self:
        """The structured layer closest, in the least-squares sense, to the trained (out_features, in_features) weight.

        Args:
            variant: one of ``channel_layout.VARIANTS``.
            reference: layer of the same shape from whose weights the variant's sums are derived; else ``linear``.
        """
        cls(linear, c=c)  # refuses what is wrong before the sums are chosen
        layer = cls(linear, c=c, pooling=channel_pooling(reference or linear, c, variant))
        if linear.weight.is_meta:  # there are no values to project
            return layer.train(linear.training)
        with torch.no_grad():
            layer.weight.copy_(layer.pooling.coefficients(linear.weight.double()))
        return layer.train(linear.training)

    @property
    def alpha(self) -> Tensor:
        """The small weight (out_features, c) in the paper's box basis; of merged features the weight itself."""
        return self.pooling.to_boxes(self.weight)

    def dense_kernel(self) -> Tensor:
        """The structured weight (out_features, in_features) that this layer applies."""
        return self.pooling.kernel(self.weight)

    def to_dense(self) -> nn.Linear:
        """The ordinary linear layer that computes the same."""
        options: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, **options)
        with torch.no_grad():
            linear.weight.copy_(self.dense_kernel())
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear.train(self.training)

    def pooled_patches(self, patches_gnC: Tensor) -> Tensor:
        """What the small layer reads of inputs (1, n, in_features): (1, n, c)."""
        pooled: Tensor = self.pooling(patches_gnC, 2)
        return pooled

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return F.linear(self.pooling(input, input.dim() - 1), self.weight, self.bias)
        else:  # noqa: RET505  # what follows a return would be scripted
            node = as_node(self, input)
            return self._computed(input) if node is None else node

    def _computed(self, x: Tensor) -> Tensor:
        if plain():
            self.project_gradient_()  # the parameter may be another one
        return F.linear(self.pooling(x, x.dim() - 1), self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes and structure, for ``print(network)``."""
        return f"{self.in_features}, {self.out_features}, c={self.c}, bias={self.bias is not None}"
