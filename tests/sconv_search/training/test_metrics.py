from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.data.splits import IGNORED, DataSet, Split
from sconv_search.training.evaluation import evaluate
from sconv_search.training.metrics import MEAN_IOU, METRICS, TOP1, TOP5


def logits_of(classes: Tensor, count: int) -> Tensor:
    """Logits (N, classes, ...) whose largest is the class given."""
    return F.one_hot(classes, count).movedim(-1, 1).float()


def test_accuracy_counts_labels_among_the_largest_logits() -> None:
    logits = torch.arange(7.0).repeat(4, 1)  # the five largest are 6, 5, 4, 3, 2
    labels = torch.tensor([6, 2, 1, 5])
    for metric, expected in ((TOP1, 25.0), (TOP5, 75.0)):
        tally = metric.tally(7)
        tally.add(logits[:1], labels[:1])
        tally.add(logits[1:], labels[1:])
        assert tally.result() == expected


def test_top5_of_three_classes_is_always_right() -> None:
    tally = TOP5.tally(3)
    tally.add(torch.zeros(2, 3), torch.tensor([0, 2]))
    assert tally.result() == 100


def test_mean_iou_is_that_of_the_confusion_matrix() -> None:
    """By hand, without the pixel that counts nowhere: rows are labels, columns outputs, class 3 occurs in neither.

        0  1  2
    0   3  1  0     IoU of 0: 3 / (4 + 4 - 3) = 3/5
    1   0  2  1     IoU of 1: 2 / (3 + 3 - 2) = 2/4
    2   1  0  1     IoU of 2: 1 / (2 + 2 - 1) = 1/3
    """
    labels = torch.tensor([[[0, 0, 0, 0, 1], [1, 1, 2, 2, IGNORED]]])
    outputs = torch.tensor([[[0, 0, 0, 1, 1], [1, 2, 0, 2, 0]]])
    tally = MEAN_IOU.tally(4)
    tally.add(logits_of(outputs, 4), labels)
    assert tally.result() == pytest.approx(100 * (3 / 5 + 2 / 4 + 1 / 3) / 3, abs=1e-4)


def test_mean_iou_counts_over_all_batches_and_not_as_a_mean_of_theirs() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, outputs = (torch.randint(0, 3, (6, 4, 5), generator=generator) for _ in range(2))
    labels[0, 0] = IGNORED
    tally = MEAN_IOU.tally(3)
    for part in torch.arange(6).split(4):
        tally.add(logits_of(outputs[part], 3), labels[part])
    known = labels >= 0
    matrix = torch.bincount(3 * labels[known] + outputs[known], minlength=9).view(3, 3)
    expected = (matrix.diag() / (matrix.sum(0) + matrix.sum(1) - matrix.diag())).mean()
    assert tally.result() == pytest.approx(100 * float(expected), abs=1e-4)


def test_a_segmentation_is_scored_pixel_by_pixel() -> None:
    labels = torch.randint(0, 3, (5, 4, 4), generator=torch.Generator().manual_seed(1))
    images = labels.unsqueeze(1).to(torch.uint8)
    labels = labels.clone()
    labels[0] = IGNORED
    split = Split(images=images, labels=labels)
    data = DataSet(name="x", train=split, validation=split, test=split, mean=(0.0,), std=(1 / 255,), evaluation_batch=2)

    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * logits_of(x[:, 0].round().long(), 3)

    score = evaluate(Reads(), data, split, MEAN_IOU)
    assert score.value == 100
    assert score.loss == pytest.approx(float(-F.log_softmax(torch.tensor([3.0, 0, 0]), 0)[0]), abs=1e-6)
    assert set(METRICS) == {"top-1", "top-5", "mean IoU"}
