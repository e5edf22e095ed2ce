"""What the callbacks of all training libraries do: a penalty's gradient a step, and compression in the middle."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sconv_search.compressor import require_sites
from sconv_search.copying import copied
from sconv_search.plan import CompressionPlan
from sconv_search.studies.methods import METHODS, compress, penalty


class RegularizedTraining:
    """A network's training towards a plan, up to its compression.

    Args:
        network: dense; which channels are summed together is chosen by its weights now.
        plan: for layers by their names in the network.
        weight: of the penalty at the end of the phase, towards which it rises linearly.
        calibration: inputs (N, ...) to which compressed layers are fitted; None fits to the weights alone.

    Raises:
        KeyError: the plan names a layer that the network lacks, or an unknown method.
        ValueError: the weight is negative or not finite.
    """

    def __init__(
        self, network: nn.Module, plan: CompressionPlan, *, weight: float, calibration: Tensor | None = None
    ) -> None:
        if not 0 <= weight < float("inf"):
            raise ValueError(f"the weight of the structural regularization must be at least 0 and finite, got {weight}")
        require_sites(network, plan.sites)
        self._plan, self._weight, self._calibration = plan, weight, calibration
        self._reference = copied(network).eval()
        self._penalty = penalty(network, plan)
        self._by_site = {
            name: penalty(network, CompressionPlan(sites={name: choice}))
            for name, choice in plan.sites.items()
            if METHODS[choice.method].regularizable
        }
        self._sites = [parameter for name in plan.sites for parameter in network.get_submodule(name).parameters()]

    def add_gradient_(self, progress: float, optimizer: Optimizer) -> float:
        """Adds the penalty's gradient to the weights', if the optimizer steps them; returns the penalty's weight.

        Args:
            progress: share of the phase that is done, 0 to 1.
        """
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        weight = self._weight * min(max(progress, 0.0), 1.0)
        if weight and any(id(parameter) in held for parameter in self._sites):
            with torch.enable_grad():
                value = weight * self._penalty()
            if value.requires_grad:
                value.backward()
        return weight

    @torch.no_grad()
    def residuals(self) -> Mapping[str, float]:
        """By layer with a penalty, how far it is from its structure: relative residual, 0 to 1."""
        return {name: float(distance()) for name, distance in self._by_site.items()}

    def compressed(self, network: nn.Module) -> nn.Module:
        """The network compressed by the plan; the argument is not modified."""
        training = network.training
        small = compress(network, self._plan, self._calibration, reference=self._reference)
        return small.train(training)


def adopt_(target: nn.Module, small: nn.Module) -> None:
    """Puts a compressed copy's layers, weights and buffers in the place of the network's own."""
    for kind in ("_parameters", "_buffers", "_modules"):
        getattr(target, kind).clear()
        getattr(target, kind).update(getattr(small, kind))


def follow_(optimizer: Optimizer, before: Mapping[str, nn.Parameter], network: nn.Module) -> None:
    """Lets an optimizer step the weights of a network of which some layers were replaced, in its own groups.

    What it remembers of a weight (momentum) is kept where name and shape are the same. A new weight joins the group
    of the layer that it stands for; one whose layer was not trained is not.

    Args:
        before: the weights before the replacement, by name.
        network: as it is now.
    """
    group_of = {id(p): index for index, group in enumerate(optimizer.param_groups) for p in group["params"]}
    replaced = {id(parameter) for parameter in before.values()}
    members: list[list[nn.Parameter]] = [
        [parameter for parameter in group["params"] if id(parameter) not in replaced]
        for group in optimizer.param_groups
    ]
    states = {name: optimizer.state.pop(old) for name, old in before.items() if old in optimizer.state}
    for name, new in network.named_parameters():
        index = _group(name, before, group_of)
        if index is None:
            continue
        members[index].append(new)
        if name in states and before[name].shape == new.shape:
            optimizer.state[new] = states[name]
    for group, own in zip(optimizer.param_groups, members, strict=True):
        group["params"] = own


def _group(name: str, before: Mapping[str, nn.Parameter], group_of: Mapping[int, int]) -> int | None:
    """The group of the weight of that name, or else of the first weight of the innermost module around it."""
    if name in before:
        return group_of.get(id(before[name]))
    path = name
    while path:
        path = path.rpartition(".")[0]
        inside = [old for own, old in before.items() if not path or own.startswith(f"{path}.")]
        if inside:
            return next((group_of[id(old)] for old in inside if id(old) in group_of), None)
    return None
