"""A network in somebody else's training loop: drawn towards a plan, step by step, then compressed where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sconv_search.compressor import site
from sconv_search.copying import copied
from sconv_search.plan import CompressionPlan
from sconv_search.studies.methods import METHODS, compress, penalty


class TowardsPlan:
    """The penalty of a plan on a network in training, and the replacement of its layers in place.

    Args:
        network: the dense network; its weights are read at each step.
        plan: sites of methods without a penalty are only replaced.
        weight: the penalty's weight at the end of its rise.

    Raises:
        KeyError: the plan names a site that the network lacks.
        TypeError: a site's layer has no structured form.
        ValueError: the weight is negative, or a method of the plan changes other layers than its own.
    """

    def __init__(self, network: nn.Module, plan: CompressionPlan, weight: float) -> None:
        if not weight >= 0:
            raise ValueError(f"the penalty's weight must be at least 0, got {weight}")
        if beyond := [name for name in plan.methods if METHODS[name].reshapes_neighbors]:
            raise ValueError(
                f"{', '.join(beyond)} changes other layers than its own, which cannot be done in the middle of a"
                " training; compress the network first, and train the result"
            )
        for name in plan.sites:
            site(network, name)
        drawn = [name for name, choice in plan.sites.items() if METHODS[choice.method].regularizable]
        self.network, self.plan, self.weight = network, plan, weight
        self.compressed = False
        self._penalty = penalty(network, plan)
        parts = {name: CompressionPlan(sites={name: plan.sites[name]}) for name in drawn}
        self._residuals = {name: penalty(network, part) for name, part in parts.items()}
        self._start = copied(network)  # which channels share a sum follows from these weights

    def add_gradient_(self, progress: float) -> float:
        """Adds the gradient of ``weight * progress * penalty`` to the network's, as if it were part of the loss.

        Args:
            progress: 0 to 1, along which the weight rises.

        Returns:
            The penalty, unweighted; 0 once the network is compressed.
        """
        if self.compressed or not self._residuals:
            return 0.0
        parameters = [weight for weight in self.network.parameters() if weight.requires_grad]
        with torch.enable_grad():
            value = self._penalty()
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)  # no hooks of other libraries run
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                scaled = self.weight * min(1.0, max(0.0, progress)) * gradient
                parameter.grad = scaled if parameter.grad is None else parameter.grad.add_(scaled)
        return float(value.detach())

    @torch.no_grad()
    def residuals(self) -> dict[str, float]:
        """How far each structured layer is from its structure, 0 to 1; empty once the network is compressed."""
        return {} if self.compressed else {name: float(part()) for name, part in self._residuals.items()}

    @torch.no_grad()
    def compress_(self, optimizers: Iterable[Optimizer] = ()) -> None:
        """Replaces the plan's layers, and their weights in the optimizers, which keep what they know of all others."""
        built = compress(self.network, self.plan, None, self._start)
        replaced: dict[int, list[Tensor]] = {}
        for name in self.plan.sites:
            old, new = site(self.network, name), site(built, name)
            new.train(old.training)
            weights = list(old.parameters())
            replaced |= {id(weight): [] for weight in weights}
            replaced[id(weights[0])] = list(new.parameters())
            parent, _, attribute = name.rpartition(".")
            setattr(self.network.get_submodule(parent), attribute, new)
        for optimizer in optimizers:
            _replace_(optimizer, replaced)
        self.compressed = True


def _replace_(optimizer: Optimizer, replaced: Mapping[int, list[Tensor]]) -> None:
    """Puts new weights into the groups of those that they replace; what was known of those is forgotten."""
    for group in optimizer.param_groups:
        kept: list[Any] = []
        for weight in group["params"]:
            if id(weight) in replaced:
                optimizer.state.pop(weight, None)
            kept += replaced.get(id(weight), [weight])
        group["params"] = kept
