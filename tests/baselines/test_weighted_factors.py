"""Factors are refit to outputs: to the least-squares solution, never to a greater error, within the work allowed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sconv_search import METHODS, Choice, CompressionPlan
from sconv_search.baselines import cp, tucker
from sconv_search.baselines.weighted_factors import FEWEST, MOST_WORK, STEPS, SWEEPS, refit_factor, steps_within
from sconv_search.studies.methods import compress


def test_enough_steps_give_the_least_squares_solution() -> None:
    kernel, core = torch.randn(6, 20).double(), torch.randn(6, 3, 4).double()
    rows = torch.randn(200, 20).double() * torch.linspace(0.1, 3, 20).double()

    def composed(factor: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ort,cr->oct", core, factor).flatten(1)

    found = refit_factor(kernel, rows.T @ rows / 200, composed, torch.zeros(5, 3).double(), 200)
    units = torch.eye(15).double().view(15, 5, 3)
    design = torch.stack([(rows @ composed(unit).T).flatten() for unit in units], dim=1)
    wanted = torch.linalg.lstsq(design, (rows @ kernel.T).flatten()[:, None]).solution
    torch.testing.assert_close(found.flatten(), wanted[:, 0], rtol=1e-6, atol=1e-8)


def test_steps_are_as_many_as_the_work_allows() -> None:
    assert steps_within(64, 576, factors=3) == STEPS
    assert steps_within(512, 4608, factors=1) == 0
    steps = steps_within(128, 3000, factors=1)
    assert FEWEST <= steps < STEPS
    assert steps * SWEEPS * 128 * 3000**2 <= MOST_WORK


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("method", "structure"), [("tucker", {"rank_in": 5, "rank_out": 6}), ("cp", {"rank": 12})])
def test_rounds_lower_the_error_of_the_outputs(
    monkeypatch: pytest.MonkeyPatch, method: str, structure: dict[str, int], bias: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1, bias=bias))
    x = torch.randn(64, 8, 6, 6) * torch.linspace(0.1, 2, 8).view(1, 8, 1, 1) + 0.5
    plan = CompressionPlan(sites={"0": Choice(method=method, structure=structure)})
    assert method in METHODS

    def error() -> float:
        return float((compress(network, plan, x)(x) - network(x)).detach().square().mean())

    with_rounds = error()
    for module in (tucker, cp):
        monkeypatch.setattr(module, "SWEEPS", 0)
    without = error()
    assert with_rounds < 0.995 * without
