"""Batch norm statistics from few images: plain estimates, and the trained statistics moved by what the images show to
differ.

Networks as trained, and compressed by a plan, fitted to calibration inputs; scored on images that neither sees. ``as
trained`` keeps the statistics that the network was trained with.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.accuracy.post_training import NETWORKS, Case, case_of, layer_space
from benchmarks.timing import facts, markdown_table, publish
from sconv_search.budget import Budget
from sconv_search.cost.counting import measure_cost
from sconv_search.data.splits import DataSet
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.heuristics import uniform
from sconv_search.studies.methods import compress
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import predict

METHOD = "structured_conv"
COUNTS = (50, 125, 250, 1000)
SCORE_BATCH = 50


def forms(case: Case, share: int, plan: CompressionPlan | None) -> Iterator[tuple[str, nn.Module]]:
    """The network as it is, and compressed, uniformly by structured convolutions unless a plan is given."""
    yield "dense", copy.deepcopy(case.context.network)
    if plan is None:
        space = layer_space(case, METHOD)
        plan = uniform(space, Budget.parse(f"{share}%", dense=space.dense))
    small, shape = (
        compress(case.context.network, plan, case.inputs("alone"), in_sequence=False),
        case.context.task.input_shape,
    )
    flops = measure_cost(small, shape).flops / measure_cost(case.context.network, shape).flops
    yield f"compressed, {flops:.0%} of the FLOPs", small


def rows(
    case: Case, share: int, plan: CompressionPlan | None, counts: Sequence[int], scored: int
) -> list[tuple[object, ...]]:
    """A line for each form and number of images."""
    measured: list[tuple[object, ...]] = []
    for words, network in forms(case, share, plan):
        measured.append((case.name, words, "as trained", score(network, case.context.data, scored), ""))
        for count in counts:
            if count <= len(case.context.data.train):
                few = replace(case.context.data, train=case.context.data.train.take(torch.arange(count)))
                texts = []
                for reference in (None, case.context.network):
                    reestimate_batch_norm_(network, few, seed=0, reference=reference)
                    texts.append(score(network, few, scored))
                measured.append((case.name, words, count, *texts))
                print(measured[-1], flush=True)
    return measured


@torch.no_grad()
def score(network: nn.Module, data: DataSet, scored: int) -> str:
    """Top-1 and loss on the first test images."""
    test = data.test.take(torch.arange(min(scored, len(data.test))))
    logits = predict(network.eval(), data, test.images, batch=SCORE_BATCH)
    top1, loss = (logits.argmax(1) == test.labels).float().mean(), F.cross_entropy(logits, test.labels)
    return f"{100 * float(top1):.1f} % ({float(loss):.3f})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS, required=True)
    parser.add_argument("--share", type=int, default=90, help="of dense FLOPs, in %% (default: %(default)s)")
    parser.add_argument("--plan", type=Path, help="a plan of the one network, instead of the uniform one")
    parser.add_argument("--images", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--scored", type=int, default=750)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights/, cifar10/, imagenet_sample/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    columns = ("network", "form", "images", "top-1 (loss), plain estimates", "relative to the trained network")
    plan = None if given.plan is None else CompressionPlan.from_json(given.plan.read_text())
    cases = (case_of(name, given.data) for name in given.network)
    lines = [row for case in cases for row in rows(case, given.share, plan, given.images, given.scored)]
    publish(
        f"# Batch norm statistics from few images\n\n{facts(['fp32'], 1)}\n\n{markdown_table(columns, lines)}\n",
        given.out,
    )


if __name__ == "__main__":
    main()
