from __future__ import annotations

import math

import pytest

from sconv_search.training.schedule import Schedule


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"epochs": math.nan},
        {"epochs": math.inf},
        {"accumulation": 3},
        {"average_decay": 2},
        {"learning_rate": -1},
        {"momentum": 2},
        {"curve": "steps"},
        {"precision": "int8"},
        {"batch_size": 0},
    ],
)
def test_a_senseless_schedule_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Schedule(**{"epochs": 1, **wrong})


@pytest.mark.parametrize("curve", ["one_cycle", "cosine"])
def test_the_learning_rate_ends_near_zero(curve) -> None:
    factors = [Schedule(epochs=1, curve=curve).factor(step / 100) for step in range(100)]
    assert max(factors) == pytest.approx(1, abs=1e-3)
    assert 0 < factors[-1] < 0.01
