"""How far each layer is from its structure while a network trains towards it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sconv_search.plan import CompressionPlan
from sconv_search.studies.methods import METHODS, penalty
from sconv_search.training.loop import Progress

POINTS = 12
"""A phase is looked at so many times, however long it is: the record stays small."""


class ResidualHistory:
    """Relative residuals by site, from the start of the regularized phase to its end; it reads weights and changes
    nothing.

    Args:
        network: the network in training.
        epochs: length of the phase.
    """

    def __init__(self, network: nn.Module, plan: CompressionPlan, epochs: float) -> None:
        drawn = {name: choice for name, choice in plan.sites.items() if METHODS[choice.method].regularizable}
        alone = {name: CompressionPlan(sites={name: choice}) for name, choice in drawn.items()}
        self._distances = {name: penalty(network, part) for name, part in alone.items()}
        self._epochs = epochs
        self._at: list[float] = []
        self._residuals: dict[str, list[float]] = {name: [] for name in alone}
        self._look(0.0)

    def watching(self, step: Progress) -> Progress:
        """The progress function that also looks at the residuals, at evenly spaced steps and the last."""

        def watched(done: int, total: int) -> None:
            step(done, total)
            if done * POINTS // total > (done - 1) * POINTS // total:
                self._look(done / total)

        return watched

    def state(self) -> Any:
        """What was seen so far, for a checkpoint of the training."""
        return {"at": self._at, "residuals": self._residuals}

    def resume_(self, state: Any) -> None:
        """Goes on from what was seen before the training was interrupted."""
        self._at, self._residuals = state["at"], state["residuals"]

    def columns(self) -> dict[str, Any]:
        """Epochs and, by site, the residuals at them; empty where no site has a penalty."""
        return {"epochs": self._at, "sites": self._residuals} if self._residuals else {}

    @torch.no_grad()
    def _look(self, progress: float) -> None:
        self._at.append(round(progress * self._epochs, 4))
        for name, distance in self._distances.items():
            self._residuals[name].append(round(float(distance()), 5))
