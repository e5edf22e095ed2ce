from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sconv_search.data.splits import DataSet, Split
from sconv_search.training.evaluation import evaluate


def test_evaluation_counts_right_answers() -> None:
    labels = torch.arange(128) % 2
    split = Split(images=torch.zeros(128, 1, 8, 8, dtype=torch.uint8), labels=labels)
    data = DataSet(name="two", train=split, validation=split, test=split, mean=(0.5,), std=(0.25,))
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        constant[1].weight.zero_()
        constant[1].bias.copy_(torch.tensor([1.0, 0.0]))
    score = evaluate(constant.train(), data, data.test)
    assert score.value == 50
    assert score.loss == pytest.approx(math.log(1 + math.e) - 0.5, abs=1e-5)
    assert constant.training
