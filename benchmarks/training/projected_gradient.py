"""What projecting the gradient of structured layers does for training: validation accuracy by learning rate, with and
without.

A pretrained CIFAR-10 ResNet-20 is compressed by one plan, its batch norms re-estimated, and trained for a part of an
epoch: once as the layers are (their gradient projected, see ``sconv_search/structured/projected_gradient.py``), once
with the plain gradient of the small kernel.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.timing import facts, markdown_table, publish
from sconv_search.cost.counting import measure_cost
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.studies import StudyContext, compress, context_from_task
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.tasks import task_named
from sconv_search.studies.trials.trial import run_trial
from sconv_search.training.schedule import Schedule

RATES = (0.01, 0.05)
STRUCTURES = {"spatial": "(C, 2)", "merged": "(C / 1.8, 3), merged"}
CONV2D = "sconv_search.structured.conv.project_gradient_"


def plan_of(context: StudyContext, *, spatial: bool) -> CompressionPlan:
    """Every 3x3 convolution but the first: all channels and 2 taps an axis, or 1 / 1.8 of the channels, merged."""
    sites = {}
    for name, layer in context.network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and name.startswith("layer"):
            structure = {"c": layer.in_channels, "n": 2}
            merged = {"c": int(layer.in_channels / 1.8), "n": 3, "merged": 1}
            sites[name] = Choice(method="structured_conv", structure=structure if spatial else merged)
    return CompressionPlan(sites=sites)


@contextmanager
def gradient(projected: bool) -> Iterator[None]:
    """Layers made within have their gradient projected, or plain."""
    if projected:
        yield
    else:
        with patch(CONV2D, lambda *arguments: None):
            yield


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights/ and cifar10/")
    parser.add_argument("--epochs", type=float, default=0.15)
    parser.add_argument("--structure", choices=STRUCTURES, action="append", help="else all")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    weights, cpu = given.data / "weights" / "cifar10_resnet20.safetensors", torch.device("cpu")
    task = task_named("cifar10/resnet20")
    context = context_from_task(task, data=given.data, weights=weights, cache=given.data, device=cpu, monitor=Monitor())
    dense, rows = measure_cost(context.network, task.input_shape).flops, []
    for name in given.structure or STRUCTURES:
        words, plan = STRUCTURES[name], plan_of(context, spatial=name == "spatial")
        share = measure_cost(compress(context.network, plan), task.input_shape).flops / dense
        for rate in RATES:
            scores = []
            for projected in (True, False):
                with gradient(projected):
                    outcome = run_trial(
                        context,
                        plan,
                        Schedule(epochs=given.epochs, learning_rate=rate),
                        seed=0,
                        regularization=None,
                        regularized_share=0.5,
                        monitor=Monitor(),
                        watch_compression=True,
                    )
                scores.append(f"{outcome.final.value:.1f}")
                print(words, rate, projected, outcome.final.value, flush=True)
            before = f"{outcome.after.value:.1f}" if outcome.after else ""
            rows.append((words, f"{share:.0%}", rate, before, *scores))
    columns = ("structure", "FLOPs", "learning rate", "untrained", "projected gradient", "plain gradient")
    note = f"Validation top-1, %, after {given.epochs} epochs at batch 128, one seed."
    text = f"# The gradient of structured layers\n\n{facts(['fp32'], 1)}\n\n{markdown_table(columns, rows)}\n\n{note}\n"
    publish(text, given.out)


if __name__ == "__main__":
    main()
