"""The objective of the search benchmark: loss without training on held-out images, after batch norms are
re-estimated.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import nn
from torch.nn import functional as F

from sconv_search.compressor import swapped
from sconv_search.data.splits import DataSet, Split
from sconv_search.inference.batch_norm_folding import fold_batch_norms_
from sconv_search.plan import CompressionPlan
from sconv_search.studies import METHODS, StudyContext, compress
from sconv_search.studies.context import calibration_inputs
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import evaluate

HELD_OUT, STATISTICS = 256, 256
PHOTOS = "efficientnet_lite0"
PHOTO_STATISTICS, PHOTOS_HELD_OUT, PHOTO_SIDE, PHOTO_BATCH = 50, 200, 160, 50
"""Of a network that reads photos: how many batch norms see, how many are scored, their size, how many at once are
fastest.

It is evaluated in bf16 with folded batch norms, in half of the time.
"""


class Objective:
    """Loss and top-1 of plans on the first held-out images; each plan is evaluated once.

    Attributes:
        worked: Seconds spent on evaluations.
        charged: Seconds that all evaluations asked for would have taken, had none been known from another study.
    """

    def __init__(self, context: StudyContext) -> None:
        data, photos = context.data, context.task.name == PHOTOS
        fewer, scored = (
            data.train.take(torch.arange(min(STATISTICS, len(data.train)))),
            data.test.take(torch.arange(HELD_OUT)),
        )
        if photos:
            fewer, scored = (
                smaller(data.train.take(torch.arange(PHOTO_STATISTICS))),
                smaller(data.test.take(torch.arange(PHOTOS_HELD_OUT))),
            )
        self._context, self._inputs, self._known = (
            context,
            calibration_inputs(context),
            dict[str, tuple[float, float, float]](),
        )
        self._layers, self._photos = dict[tuple[object, ...], nn.Module](), photos
        self.worked = self.charged = 0.0
        self._data = DataSet(
            name=data.name,
            train=fewer,
            validation=data.validation,
            test=data.test,
            mean=data.mean,
            std=data.std,
            crop_padding=data.crop_padding,
            flip=data.flip,
            evaluation_batch=PHOTO_BATCH if photos else data.evaluation_batch,
        )
        self._scored = scored
        self._reference = context.network if photos else None  # 256 CIFAR images give as good statistics alone

    def __call__(self, plan: CompressionPlan) -> tuple[float, float]:
        """(loss, top-1)."""
        text = plan.to_json()
        if text not in self._known:
            began = time.perf_counter()
            small = self._compressed(plan)
            with torch.autocast("cpu", torch.bfloat16, enabled=self._photos):
                reestimate_batch_norm_(small, self._data, seed=0, reference=self._reference)
            if self._photos:
                fold_batch_norms_(small, torch.zeros(1, 3, PHOTO_SIDE, PHOTO_SIDE))
            with torch.autocast("cpu", torch.bfloat16, enabled=self._photos):
                score = evaluate(small, self._data, self._scored)
            seconds = time.perf_counter() - began
            assert score.loss is not None  # a classifier has one
            self._known[text] = (score.loss, score.value, seconds)
            self.worked += seconds
        loss, top1, seconds = self._known[text]
        self.charged += seconds
        return loss, top1

    def _compressed(self, plan: CompressionPlan) -> nn.Module:
        """The plan's network; of one method that leaves other layers as they are, each layer is made once.

        Of several, the later ones fit to what the earlier ones left.
        """
        if len(plan.methods) > 1 or any(METHODS[method].reshapes_neighbors for method in plan.methods):
            return compress(self._context.network, plan, self._inputs)
        keys = {name: (name, choice.method, *sorted(choice.structure.items())) for name, choice in plan.sites.items()}
        missing = CompressionPlan(
            sites={name: plan.sites[name] for name, key in keys.items() if key not in self._layers}
        )
        made = compress(self._context.network, missing, self._inputs)
        self._layers |= {keys[name]: made.get_submodule(name) for name in missing.sites}
        return swapped(self._context.network, {name: copy.deepcopy(self._layers[key]) for name, key in keys.items()})


def smaller(photos: Split) -> Split:
    """The same photos with sides of 160 pixels, at which all layers keep their shares of the FLOPs."""
    images = F.interpolate(photos.images.float(), size=(PHOTO_SIDE, PHOTO_SIDE), mode="bilinear", antialias=True)
    return Split(images=images.round().clamp(0, 255).byte(), labels=photos.labels)
