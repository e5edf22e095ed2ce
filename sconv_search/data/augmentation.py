"""Random crops and flips of whole batches, on the device where the images are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sconv_search.data.shard import WHOLE, Shard


def augmented(
    images_NCHW: Tensor, padding: int, flip: bool, generator: torch.Generator, shard: Shard = WHOLE
) -> Tensor:
    """Each image shifted by up to ``padding`` pixels over a border of zeros, and mirrored with probability 1/2.

    The random numbers are drawn on the CPU, so that every device sees the same images for a seed; and for the whole
    batch, of which the images are a share, so that an image looks the same however many processes there are.
    """
    count, _, height, width = images_NCHW.shape
    device, whole = images_NCHW.device, count * shard.count
    if flip:
        mirrored = (shard.of(torch.rand(whole, generator=generator)) < 0.5).to(device)
        images_NCHW = torch.where(mirrored.view(-1, 1, 1, 1), images_NCHW.flip(3), images_NCHW)
    if padding:
        shift = shard.of(torch.randint(0, 2 * padding + 1, (2, whole), generator=generator).T).T.to(device)
        rows = (shift[0, :, None] + torch.arange(height, device=device)).view(count, 1, height, 1)
        columns = (shift[1, :, None] + torch.arange(width, device=device)).view(count, 1, 1, width)
        image = torch.arange(count, device=device).view(-1, 1, 1, 1)
        channel = torch.arange(images_NCHW.shape[1], device=device).view(1, -1, 1, 1)
        images_NCHW = F.pad(images_NCHW, [padding] * 4)[image, channel, rows, columns]
    return images_NCHW
