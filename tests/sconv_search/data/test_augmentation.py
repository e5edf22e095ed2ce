from __future__ import annotations

import torch

from sconv_search.data.augmentation import augmented


def test_crops_shift_whole_images_and_flips_mirror_them() -> None:
    images = torch.zeros(512, 1, 5, 5, dtype=torch.uint8)
    images[:, 0, 2, 1] = 9
    seen = {
        tuple((image[0] == 9).nonzero()[0].tolist())
        for image in augmented(images, 1, True, torch.Generator().manual_seed(0))
    }
    assert seen == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2, 3, 4)}
    same = augmented(images, 0, False, torch.Generator().manual_seed(0))
    assert torch.equal(same, images)
