from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sconv_search.data.splits import DataSet, Split
from sconv_search.training.evaluation import Score, evaluate
from sconv_search.training.metrics import METRICS, Metric


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


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_labels_below_0_count_nowhere_in_scores(metric: Metric) -> None:
    images, labels = torch.randint(0, 255, (40, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (40,))
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def scored(images: torch.Tensor, labels: torch.Tensor) -> Score:
        split = Split(images=images, labels=labels)
        data = DataSet(name="three", train=split, validation=split, test=split, mean=(0.5,), std=(0.25,))
        return evaluate(network, data, split, metric)

    known = scored(images[10:], labels[10:])
    labels[:10] = -1
    found = scored(images, labels)
    assert found.value == known.value
    assert found.loss == pytest.approx(known.loss, rel=1e-6)


def test_a_score_is_top1_only_where_that_is_its_metric() -> None:
    assert Score(value=50.0, loss=1.0, metric="top-1").top1 == 50
    for score in (Score(value=50.0, loss=1.0, metric="mean IoU"), Score(value=50.0, loss=1.0)):
        with pytest.raises(AttributeError, match="not top-1"):
            _ = score.top1
