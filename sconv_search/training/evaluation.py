"""How right a network is on a split of its data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.data.splits import DataSet, Images
from sconv_search.training.metrics import TOP1, LogitMetric, class_logits

EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Score:
    """How right a network is, and its cross-entropy in nat, the mean over all predictions.

    Args:
        value: the score by the task's metric, in its unit.
        loss: None where a user's own function gives the score alone.
        metric: name of that metric, where it is known.
    """

    value: float
    loss: float | None = None
    metric: str | None = None

    @property
    def top1(self) -> float:
        """The score of a classification in %.

        Raises:
            AttributeError: it is a score by another metric.
        """
        if self.metric != TOP1.name:
            raise AttributeError(f"this score is by {self.metric or 'a metric that is not named'}, not top-1")
        return self.value


@torch.no_grad()
def predict(network: nn.Module, data: DataSet, images: Tensor, batch: int = EVALUATION_BATCH) -> Tensor:
    """The network's logits (N, classes) for uint8 images, in whatever mode it is in."""
    return torch.cat([network(data.normalized(part)).float() for part in images.split(batch)])


@torch.no_grad()
def evaluate(network: nn.Module, data: DataSet, split: Images, metric: LogitMetric = TOP1) -> Score:
    """Score and loss on a split, in evaluation mode; the network's own mode is put back.

    Args:
        metric: what the score is.
    """
    was_training, tally, loss, predictions = network.training, None, 0.0, 0
    network.eval()
    for batch in split.batches(torch.arange(len(split)).split(data.evaluation_batch)):
        logits = class_logits(predict(network, data, batch.images, batch=data.evaluation_batch))
        tally = tally or metric.tally(logits.shape[1])
        tally.add(logits, batch.labels)
        loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        predictions += int((batch.labels >= 0).sum())
    network.train(was_training)
    if tally is None or not predictions:
        raise ValueError(f"data set {data.name!r} has no labeled image to score")
    return Score(value=tally.result(), loss=loss / predictions, metric=metric.name)
