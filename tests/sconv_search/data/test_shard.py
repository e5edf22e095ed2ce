from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sconv_search.data.augmentation import augmented
from sconv_search.data.imagenet import Crops, imagenet
from sconv_search.data.shard import Shard
from sconv_search.data.splits import Split
from tests.small_datasets import image_folders

SHARDS = [Shard(index=place, count=3) for place in range(3)]
SPLIT = Split(images=torch.arange(24, dtype=torch.uint8).view(24, 1, 1, 1), labels=torch.arange(24))


def test_shares_are_the_batch_in_turn() -> None:
    batch = torch.arange(12)
    assert torch.equal(torch.cat([shard.of(batch) for shard in SHARDS]), batch)
    with pytest.raises(ValueError, match="a batch of 11 does not fall into 3 equal parts"):
        SHARDS[0].of(batch[:11])
    with pytest.raises(ValueError, match=r"Shard.index must be in 0..1, got 2"):
        Shard(index=2, count=2)


def test_an_image_is_augmented_alike_in_its_share_and_in_the_whole_batch() -> None:
    images = torch.randint(0, 255, (12, 2, 6, 6), dtype=torch.uint8)
    states = [torch.Generator().manual_seed(4) for _ in range(4)]
    whole = augmented(images, 2, True, states[0])
    parts = [
        augmented(shard.of(images), 2, True, state, shard) for shard, state in zip(SHARDS, states[1:], strict=True)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, images)
    assert all(torch.equal(state.get_state(), states[0].get_state()) for state in states)


def test_batches_in_memory_are_shared_and_passed_over() -> None:
    index = list(torch.randperm(24).split(6))
    found = [[batch.labels for batch in SPLIT.batches(index, shard=shard, start=1)] for shard in SHARDS]
    assert [torch.cat(shares).tolist() for shares in zip(*found, strict=True)] == [part.tolist() for part in index[1:]]


def test_images_on_disk_are_distorted_alike_in_shares_and_after_a_resumption(tmp_path: Path) -> None:
    data = imagenet(image_folders(tmp_path, train=4, val=2), train_was_seen=True, crops=Crops(size=32), classes=4)
    train: Any = replace(data.train, workers=0)  # type: ignore[type-var]
    index = list(torch.arange(12).split(6))
    whole = [batch.images for batch in train.batches(index, 5)]
    found = [[batch.images for batch in train.batches(index, 5, shard=shard)] for shard in SHARDS]
    assert all(
        torch.equal(torch.cat(shares), batch) for shares, batch in zip(zip(*found, strict=True), whole, strict=True)
    )
    (resumed,) = (batch.images for batch in train.batches(index, 5, start=1))
    assert torch.equal(resumed, whole[1])
