"""Seconds of ``ss.compress`` for ResNet-18 at half of its FLOPs: from the weights alone, and fitted to photos."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor

import sconv_search as ss
from benchmarks.timing import facts, markdown_table, publish

SIZE, MEAN, STD = 224, 0.45, 0.23


def photos(folder: Path, count: int) -> Tensor:
    """The first photos of a folder as inputs (N, 3, 224, 224).

    Raises:
        ValueError: it holds too few.
    """
    paths = sorted(folder.glob("*.jpg"))[:count]
    if len(paths) < count:
        raise ValueError(f"{str(folder)!r} holds {len(paths)} .jpg files, {count} are needed")
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((SIZE, SIZE))) for path in paths])
    return (torch.from_numpy(pixels).movedim(-1, 1).float() / 255 - MEAN) / STD


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of .jpg files")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network, inputs, lines = torchvision.models.resnet18().eval(), photos(given.photos, given.count), []
    for name, data in (("weights alone", None), (f"{given.count} photos", [inputs])):
        clock, processor = time.perf_counter(), time.process_time()
        small = ss.compress(network, (3, SIZE, SIZE), budget="50%", data=data, progress=False)
        seconds = time.perf_counter() - clock, time.process_time() - processor
        lines.append((name, f"{small.cost.flops / small.dense_cost.flops:.1%}", *(f"{value:.1f}" for value in seconds)))
    table = markdown_table(("data", "FLOPs left", "seconds by the clock", "of processor"), lines)
    title = "# Seconds of one call: ResNet-18 at 224×224"
    publish(f"{title}\n\n{facts(['fp32'], given.threads)}\n\nRandom weights; each call once.\n\n{table}", given.out)


if __name__ == "__main__":
    main()
