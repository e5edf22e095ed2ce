"""How right a network's outputs are: top-1 and top-5 accuracy, and the mean intersection over union of
segmentations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sconv_search.records import Metric
from sconv_search.system.packages import require_package

if TYPE_CHECKING:
    from torch import Tensor


class Tally(Protocol):
    """Counts outputs batch by batch."""

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch: logits (N, classes, ...), labels (N, ...), of which those below 0 count nowhere."""

    def result(self) -> float:
        """The score of all that was added, in %."""


def class_logits(logits: Tensor) -> Tensor:
    """Logits (N, classes, ...) of a network's logits: one logit becomes two, those of no and yes.

    No has 0, so that the softmax of both is the sigmoid of the one.
    """
    import torch  # here: metrics are named without it

    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


class _Accuracy:
    """Share of labels among the ``most`` largest logits; exact, as it counts whole numbers."""

    def __init__(self, classes: int, *, most: int) -> None:
        self._most, self._right, self._all = min(most, classes), 0, 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch."""
        predicted = logits.argmax(1, keepdim=True) if self._most == 1 else logits.topk(self._most, dim=1).indices
        self._right += int((predicted == labels.unsqueeze(1)).sum())
        self._all += int((labels >= 0).sum())

    def result(self) -> float:
        """The share, in %."""
        return 100 * self._right / self._all


class _MeanIoU:
    """Intersection over union, averaged over the classes that occur in labels or outputs, from one confusion matrix."""

    def __init__(self, classes: int) -> None:
        # here: importing them takes seconds, and metrics are named without torch
        kinds = require_package("torchmetrics.classification", "tasks", "the mean intersection over union needs")

        from sconv_search.data.splits import IGNORED

        self._ignored = IGNORED
        self._index = kinds.MulticlassJaccardIndex(classes, average="macro", ignore_index=IGNORED, validate_args=False)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch."""
        self._index.to(logits.device).update(logits.argmax(1), labels.where(labels >= 0, self._ignored))

    def result(self) -> float:
        """The mean, in %."""
        return 100 * float(self._index.compute())


@dataclass(frozen=True)
class LogitMetric(Metric):
    """A metric of logits against labels, counted batch by batch.

    Args:
        tally: begins to count the outputs of so many classes.
    """

    tally: Callable[[int], Tally] = field(kw_only=True)


TOP1 = LogitMetric("top-1", unit="%", tally=partial(_Accuracy, most=1))
TOP5 = LogitMetric("top-5", unit="%", tally=partial(_Accuracy, most=5))
MEAN_IOU = LogitMetric("mean IoU", unit="%", tally=_MeanIoU)
METRICS = {metric.name: metric for metric in (TOP1, TOP5, MEAN_IOU)}
