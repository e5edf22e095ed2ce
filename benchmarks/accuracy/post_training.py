"""Every method without labels: what is left of a pretrained network at 90 to 40 % of its FLOPs.

Uniform allocation: every layer keeps the same share of its own cost. Each plan is carried out in four ways:
*projected*, from the weights alone; *alone*, each layer fitted to what it reads in the dense network; *sequence*,
layers fitted one after the other; *reconstructed*, blocks trained to the dense network's outputs after that. After the
first two, batch norms are re-estimated. No image that is fitted to is scored. Rows are appended to a file as they come,
so that an interrupted run continues; without ``--network`` the rows of all networks become a table and a figure.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.timing import facts, markdown_table, publish
from benchmarks.training.peak_memory import peak_mib
from sconv_search.budget import Budget
from sconv_search.calibration.moments import input_moments
from sconv_search.calibration.reconstruction import reconstruct
from sconv_search.compressor import LAYER_KINDS, site
from sconv_search.cost.counting import measure_cost
from sconv_search.data.splits import DataSet, Images, Split, cifar10
from sconv_search.networks.efficientnet_lite import efficientnet_lite0
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.plan import CompressionPlan
from sconv_search.search_space.heuristics import uniform
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies.context import StudyContext
from sconv_search.studies.methods import METHODS, compress
from sconv_search.studies.selection import EVERYTHING, offered
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import CostTable
from sconv_search.studies.task import Task
from sconv_search.studies.tasks import task_named
from sconv_search.system.cache import forget_all
from sconv_search.system.malloc import keep_freed_memory
from sconv_search.system.weights import load_weights_
from sconv_search.training.batch_norm import reestimate_batch_norm_
from sconv_search.training.evaluation import predict

SHARES = (90, 75, 60, 50, 40)
FITS = ("projected", "alone", "sequence", "reconstructed")
IMAGES = {"projected": 0, "alone": 512, "sequence": 1024, "reconstructed": 2048}
"""What each way uses, of so many as there are."""
ERROR_INPUTS = 8
SCORE_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pretrained network; ``data.train`` holds what may be fitted to, ``data.test`` what is scored."""

    name: str
    context: StudyContext

    def inputs(self, fit: str) -> Tensor:
        """The images that a way of fitting uses."""
        inputs: Tensor = self.context.data.normalized(_all(self.context.data.train).images[: IMAGES[fit]])
        return inputs


def _context(task: Task, network: nn.Module, data: DataSet) -> StudyContext:
    placed = network.eval().to(memory_format=torch.channels_last)
    return StudyContext(task=task, network=placed, data=data, weights_sha256="", data_sha256="")


def _cifar(depth: int, shared: Path) -> StudyContext:
    """5,000 training images to fit to, all 10,000 test images to score."""
    network = cifar_resnet(depth)
    load_weights_(network, shared / "weights" / f"cifar10_resnet{depth}.safetensors")
    whole = cifar10(shared, train_was_seen=True)
    kept = whole.train.take(torch.arange(45000, 50000))
    halves = [_all(half) for half in (whole.validation, whole.test)]
    images, labels = torch.cat([half.images for half in halves]), torch.cat([half.labels for half in halves])
    test = Split(images=images, labels=labels)
    data = replace(whole, train=kept, validation=test, test=test)
    return _context(task_named(f"cifar10/resnet{depth}"), network, data)


def _all(images: Images) -> Split:
    return images.take(torch.arange(len(images)))


def _lite(shared: Path) -> StudyContext:
    """Every fourth photo, of 1,000, to fit to, the other 750 to score; center crops."""
    network = efficientnet_lite0()
    load_weights_(network, shared / "weights" / "imagenet_efficientnet_lite0.safetensors")
    paths = sorted((shared / "imagenet_sample").glob("*.jpg"))
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB"))[16:240, 16:240] for path in paths])
    photos = Split(
        images=torch.from_numpy(pixels).movedim(-1, 1), labels=torch.tensor([int(path.name[:4]) for path in paths])
    )
    fitted = torch.arange(len(paths)) % 4 == 0
    train, test = photos.take(fitted.nonzero().flatten()), photos.take((~fitted).nonzero().flatten())
    data = DataSet(name="photos", train=train, validation=test, test=test, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    schedule = task_named("demo").search_schedule
    task = Task(
        name="efficientnet_lite0",
        network=efficientnet_lite0,
        data=lambda folder, seen: data,
        input_shape=(3, 224, 224),
        dense_schedule=schedule,
        search_schedule=schedule,
        confirm_schedule=schedule,
    )
    return _context(task, network, data)


NETWORKS: dict[str, Callable[[Path], StudyContext]] = {
    "resnet20": lambda shared: _cifar(20, shared),
    "resnet56": lambda shared: _cifar(56, shared),
    "efficientnet_lite0": _lite,
}


def case_of(name: str, shared: Path) -> Case:
    """The network with its data."""
    return Case(name=name, context=NETWORKS[name](shared))


def layer_space(case: Case, method: str) -> SearchSpace:
    """The method's options with their costs, and as damage the relative error of the layer's own outputs."""
    network, shape, inputs = case.context.network, case.context.task.input_shape, case.inputs("alone")
    choices = offered(network, [method], EVERYTHING)
    shapes, whole = input_shapes(network, shape, choices), measure_cost(network, shape)
    fitted = [name for name in choices if type(site(network, name)) in LAYER_KINDS]
    input_moments(network, fitted, inputs)  # once for all; the options below find them remembered
    read = _layer_inputs(network, list(choices), inputs[:ERROR_INPUTS])
    sites: dict[str, tuple[Option, ...]] = {}
    costs = CostTable()
    for name, alternatives in choices.items():
        layer, options = site(network, name), []
        for choice in alternatives:
            built = compress(network, CompressionPlan(sites={name: choice}), inputs, in_sequence=False)
            if METHODS[method].reshapes_neighbors:
                # fewer channels, more damage: the outputs are not the layer's alone
                saved = measure_cost(built, shape) - whole
                options.append(Option(choice=choice, cost=saved, damage=-saved.flops / whole.flops))
                continue
            cost = costs.difference(layer, site(built, name), choice, shapes[name])
            with torch.no_grad():
                wanted = layer(read[name])
                damage = float((site(built, name)(read[name]) - wanted).norm() / wanted.norm())
            options.append(Option(choice=choice, cost=cost, damage=damage))
        sites[name] = tuple(option for option in options if option.cost.flops < 0)
    return SearchSpace(dense=whole, sites={name: site_options for name, site_options in sites.items() if site_options})


def _layer_inputs(network: nn.Module, names: Iterable[str], inputs: Tensor) -> dict[str, Tensor]:
    read: dict[str, Tensor] = {}
    handles = [
        site(network, name).register_forward_pre_hook(lambda layer, given, name=name: read.update({name: given[0]}))
        for name in names
    ]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    return read


def row_of(
    case: Case,
    method: str,
    share: int,
    fit: str,
    space: SearchSpace,
    dense_logits: Tensor,
    carried_out: dict[tuple[str, str], dict[str, Any]],
) -> dict[str, Any]:
    """One plan carried out and scored; a plan that served another budget has its row already."""
    context = case.context
    budget = Budget.parse(f"{share}%", dense=space.dense)
    known: dict[str, Any] = {"network": case.name, "method": method, "budget": share, "fit": fit}
    if budget.of(space.floor(budget)) > budget.limit:
        return {**known, "reason": f"the cheapest plan has {budget.of(space.floor(budget)) / space.dense.flops:.0%}"}
    plan = uniform(space, budget)
    if (earlier := carried_out.get((plan.to_json(), fit))) is not None:
        return {**earlier, **known}
    inputs = case.inputs(fit)
    forget_all()
    small, seconds, mib = peak_mib(lambda: _carried_out(context.network, plan, inputs, fit))
    flops = measure_cost(small, context.task.input_shape).flops / space.dense.flops
    if fit in ("projected", "alone"):
        reestimate_batch_norm_(small, context.data, seed=0, reference=context.network)
    top1, error = _score(small, context.data, dense_logits)
    row = {
        **known,
        "images": len(inputs),
        "flops": flops,
        "top1": top1,
        "error": error,
        "seconds": seconds,
        "peak_mib": mib,
    }
    carried_out[plan.to_json(), fit] = row
    return row


def _carried_out(network: nn.Module, plan: CompressionPlan, inputs: Tensor, fit: str) -> nn.Module:
    if fit == "projected":
        return compress(network, plan)
    if fit == "reconstructed":
        return reconstruct(compress(network, plan, inputs[: IMAGES["sequence"]]), network, inputs)
    return compress(network, plan, inputs, in_sequence=fit == "sequence")


@torch.no_grad()
def _score(network: nn.Module, data: DataSet, dense_logits: Tensor) -> tuple[float, float]:
    test = _all(data.test)
    logits = predict(network.eval(), data, test.images, batch=SCORE_BATCH)
    top1 = 100 * float((logits.argmax(1) == test.labels).float().mean())
    return top1, float((logits - dense_logits).norm() / dense_logits.norm())


def measure(
    name: str, shared: Path, rows_file: Path, methods: Sequence[str], shares: Sequence[int], fits: Sequence[str] = FITS
) -> None:
    """Appends the rows that the file lacks."""
    case = case_of(name, shared)
    done = {(r["network"], r["method"], r["budget"], r["fit"]) for r in _rows([rows_file])}
    test = _all(case.context.data.test)
    with torch.no_grad():
        dense_logits = predict(case.context.network, case.context.data, test.images, batch=SCORE_BATCH)
    top1 = 100 * float((dense_logits.argmax(1) == test.labels).float().mean())
    if (name, "dense", 100, "projected") not in done:
        known = {"network": name, "method": "dense", "budget": 100, "fit": "projected"}
        _append(rows_file, {**known, "flops": 1.0, "top1": top1, "error": 0.0, "seconds": 0.0, "peak_mib": 0.0})
    for method in methods:
        wanted = [(share, fit) for share in shares for fit in fits if (name, method, share, fit) not in done]
        if wanted:
            space = layer_space(case, method)
            carried_out: dict[tuple[str, str], dict[str, Any]] = {}
            for share, fit in wanted:
                row = row_of(case, method, share, fit, space, dense_logits, carried_out)
                _append(rows_file, row)
                print(row, flush=True)


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _rows(paths: Iterable[Path]) -> list[dict[str, Any]]:
    rows = [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [{"fit": "alone" if row.get("calibrated") else "projected", **row} for row in rows]  # as older rows say it


def report(rows: list[dict[str, Any]]) -> str:
    """One table a network, and what each way of fitting gains a method on average."""
    parts = []
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        dense = next(row for row in own if row["method"] == "dense")
        parts.append(f"\n## {network}, dense top-1 {dense['top1']:.2f} %\n")
        columns = ("method", "fit", *(f"{share} %" for share in SHARES), "images", "seconds", "peak MiB")
        parts.append(markdown_table(columns, _table(own)))
        parts.append("\nTop-1 in percent (relative error of the logits; share of dense FLOPs that the plan has).\n")
        parts.append(
            markdown_table(("method", "fit", "mean gain over projection, points of top-1", "plans"), _gains(own))
        )
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    table = []
    for method in dict.fromkeys(row["method"] for row in rows if row["method"] != "dense"):
        for fit in FITS:
            own = {row["budget"]: row for row in rows if row["method"] == method and row["fit"] == fit}
            full = [row for row in own.values() if "top1" in row]
            if not full:
                continue
            images = max(row.get("images", IMAGES[fit]) for row in full)
            seconds, mib = max(row["seconds"] for row in full), max(row["peak_mib"] for row in full)
            cells = [_cell(own.get(share)) for share in SHARES]
            table.append((method, fit, *cells, images, f"{seconds:.1f}", f"{mib:.0f}"))
    return table


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return row["reason"] if "reason" in row else f"{row['top1']:.1f} ({row['error']:.2f}; {row['flops']:.0%})"


def _gains(rows: list[dict[str, Any]]) -> list[tuple[str, str, str, int]]:
    scores = {(r["method"], r["budget"], r["fit"]): r["top1"] for r in rows if "top1" in r}
    gains: dict[tuple[str, str], list[float]] = {}
    for (method, share, fit), top1 in scores.items():
        if fit != "projected" and (method, share, "projected") in scores:
            gains.setdefault((method, fit), []).append(top1 - scores[method, share, "projected"])
    return [
        (method, fit, f"{sum(differences) / len(differences):+.1f}", len(differences))
        for (method, fit), differences in gains.items()
    ]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Top-1 against the share of FLOPs, one kind of line for each way of fitting."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, panels = plt.subplots(
        1, len(networks), figsize=(5 * len(networks), 4.2), squeeze=False, layout="constrained"
    )
    for axes, network in zip(panels[0], networks, strict=True):
        own = [row for row in rows if row["network"] == network and "top1" in row]
        # a method looks the same in every panel, also where another was not measured
        for index, method in enumerate(METHODS):
            if all(row["method"] != method for row in own):
                continue
            for fit, style in zip(reversed(FITS), ("-", "--", "-.", ":"), strict=True):
                line = sorted((r["flops"], r["top1"]) for r in own if r["method"] == method and r["fit"] == fit)
                axes.plot(
                    [100 * flops for flops, _ in line],
                    [top1 for _, top1 in line],
                    color=plt.get_cmap("tab10")(index),
                    marker="osDv^<>pX"[index],
                    markersize=5,
                    linestyle=style,
                    label=f"{method}, {fit}" if line else None,
                )
        dense = next(row["top1"] for row in own if row["method"] == "dense")
        axes.axhline(dense, color="black", linewidth=0.8)
        axes.set(title=network, xlabel="FLOPs, % of dense", ylabel="top-1, %")
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, help="measure this one; without it, write table and figure")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--share", action="append", type=int, choices=SHARES)
    parser.add_argument("--fit", action="append", choices=FITS)
    parser.add_argument(
        "--data", type=Path, required="--network" in sys.argv, help="folder with weights/, cifar10/, imagenet_sample/"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, nargs="+", default=[Path("benchmarks/results/post_training.jsonl")])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.network:
        methods, shares, fits = given.method or list(METHODS), given.share or SHARES, given.fit or FITS
        measure(given.network, given.data, given.rows[0], methods, shares, fits)
        return
    rows = _rows(given.rows)
    text = f"# Compressed without training\n\n{facts(['fp32'], 1)}\n{report(rows)}\n"
    publish(text, given.out)
    if given.out:
        draw(rows, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
