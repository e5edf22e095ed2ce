"""Whether the search earns its keep: loss without training against the number of evaluations, for rules and samplers.

The objective is real and cheap: compress a pretrained network, re-estimate its batch norms, and take the loss on held-out
images. Rules (uniform, greedy, minimax, least error) are one evaluation each. Compared are the surrogate, TPE and random
search over budget-filling preferences, and TPE and random search over one integer a layer with the budget as a constraint.
Rows are appended as they come, so an interrupted run continues; without ``--network`` they become a table and a figure.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, NullFormatter
from post_training import NETWORKS
from timing import facts, markdown_table, publish
from torch import nn
from torch.nn import functional as F

from reports.hypervolume import hypervolume_course
from sconv_search.allocation import keep_freed_memory
from sconv_search.batch_norm import reestimate_batch_norm_
from sconv_search.batch_norm_folding import fold_batch_norms_
from sconv_search.budget import Budgets
from sconv_search.compressor import swapped
from sconv_search.data import DataSet, Split
from sconv_search.plan import CompressionPlan
from sconv_search.plan_rules import RULES
from sconv_search.records import TrialRecord
from sconv_search.search_space import Option, SearchSpace
from sconv_search.space_arrays import SpaceArrays
from sconv_search.training import evaluate
from studies import METHODS, Start, compress
from studies.monitor import Monitor
from studies.optuna_samplers import SamplerName
from studies.preferences import Preferences
from studies.proposals import Proposals
from studies.sampler import Domain, Sampler
from studies.space import measured_space
from studies.spec import StudySpec
from studies.start import calibration_inputs

HELD_OUT, STATISTICS = 256, 256
PHOTOS = "efficientnet_lite0"
PHOTO_STATISTICS, PHOTOS_HELD_OUT, PHOTO_SIDE, PHOTO_BATCH = 50, 200, 160, 50
"""Of a network that reads photos: how many batch norms see, how many are scored, their size, how many at once are fastest.

It is evaluated in bf16 with folded batch norms, in half of the time.
"""
BUDGETS = (70, 50, 35)
RANDOM = "random, fills the budget"
OURS = "ours (surrogate, fills the budget)"


class Objective:
    """Loss and top-1 of plans on the first held-out images; each plan is evaluated once.

    Attributes:
        worked: Seconds spent on evaluations.
        charged: Seconds that all evaluations asked for would have taken, had none been known from another study.
    """

    def __init__(self, start: Start) -> None:
        data, photos = start.data, start.task.name == PHOTOS
        fewer, scored = data.train.take(torch.arange(min(STATISTICS, len(data.train)))), data.test.take(torch.arange(HELD_OUT))
        if photos:
            fewer, scored = (
                smaller(data.train.take(torch.arange(PHOTO_STATISTICS))),
                smaller(data.test.take(torch.arange(PHOTOS_HELD_OUT))),
            )
        self._start, self._inputs, self._known = start, calibration_inputs(start), dict[str, tuple[float, float, float]]()
        self._layers, self._photos = dict[tuple[object, ...], nn.Module](), photos
        self.worked = self.charged = 0.0
        self._data = DataSet(
            name=data.name, train=fewer, validation=data.validation, test=data.test, mean=data.mean, std=data.std,
            crop_padding=data.crop_padding, flip=data.flip, evaluation_batch=PHOTO_BATCH if photos else data.evaluation_batch,
        )  # fmt: skip
        self._scored = scored
        self._reference = start.network if photos else None  # 256 CIFAR images give as good statistics alone

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
            self._known[text] = (score.loss, score.top1, seconds)
            self.worked += seconds
        loss, top1, seconds = self._known[text]
        self.charged += seconds
        return loss, top1

    def _compressed(self, plan: CompressionPlan) -> nn.Module:
        """The plan's network; of one method that leaves other layers as they are, each layer is made once.

        Of several, the later ones fit to what the earlier ones left.
        """
        if len(plan.methods) > 1 or any(METHODS[method].reshapes_neighbours for method in plan.methods):
            return compress(self._start.network, plan, self._inputs)
        keys = {name: (name, one.method, *sorted(one.structure.items())) for name, one in plan.sites.items()}
        missing = CompressionPlan(sites={name: plan.sites[name] for name, key in keys.items() if key not in self._layers})
        made = compress(self._start.network, missing, self._inputs)
        self._layers |= {keys[name]: made.get_submodule(name) for name in missing.sites}
        return swapped(self._start.network, {name: copy.deepcopy(self._layers[key]) for name, key in keys.items()})


def smaller(photos: Split) -> Split:
    """The same photos with sides of 160 pixels, at which all layers keep their shares of the FLOPs."""
    images = F.interpolate(photos.images.float(), size=(PHOTO_SIDE, PHOTO_SIDE), mode="bilinear", antialias=True)
    return Split(images=images.round().clamp(0, 255).byte(), labels=photos.labels)


def filling(
    objective: Objective, space: SearchSpace, budgets: Budgets, kind: SamplerName, seed: int, count: int
) -> Iterator[tuple[CompressionPlan, float, float]]:
    """Plans and scores of budget-filling preferences; TPE begins with the rules' plans, random search does not."""
    spec = StudySpec(
        task="demo", methods=tuple(METHODS)[:1], budget="50%", trials=2 if kind == "random" else 20, sampler=kind, seed=seed,
        **_schedules(),
    )  # fmt: skip
    preferences = Preferences(SpaceArrays(space), {name: name for name in space.sites})
    with tempfile.TemporaryDirectory() as folder:
        sampler = Sampler(Path(folder) / "journal", Domain(preferences=preferences.names), kind, seed, startup=10)
        proposals = Proposals(spec, space, budgets, sampler, preferences, None)
        skipped = 2 if kind == "random" else 0  # the two rules that every study begins with
        for number in range(count + skipped):
            job = proposals.next()
            loss, top1 = objective(job.plan)
            told = TrialRecord(
                study="", task="", stage="search", variant="searched", status="complete", number=job.number,
                plan=job.plan.to_json(), val_top1=-loss,
            )  # fmt: skip
            sampler.tell(job.number, told)
            proposals.learn([told])
            if number >= skipped:
                yield job.plan, loss, top1


def _schedules() -> dict[str, Any]:
    from studies.tasks import task_named

    known = task_named("demo")
    return {"search_schedule": known.search_schedule, "confirm_schedule": known.confirm_schedule}


def integers(
    objective: Objective, space: SearchSpace, budgets: Budgets, kind: SamplerName, seed: int, count: int
) -> Iterator[tuple[CompressionPlan, float, float]]:
    """Plans of one integer a layer; those over the budget are told as infeasible and cost no evaluation of the network."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = optuna.samplers
    sampler = samplers.TPESampler(seed=seed, n_startup_trials=10) if kind == "tpe" else samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    ordered = {name: sorted(options, key=lambda option: option.cost.flops) for name, options in space.sites.items()}
    evaluated = 0
    for _ in range(50 * count):
        trial = study.ask()
        taken = {name: trial.suggest_int(name, 0, len(options)) for name, options in ordered.items()}
        plan = CompressionPlan(sites={name: ordered[name][at].choice for name, at in taken.items() if at < len(ordered[name])})
        excess = budgets.excess(space.cost(plan))
        trial.set_constraint("excess", excess)
        if excess > 0:
            study.tell(trial, 10 * (1 + excess))
            continue
        loss, top1 = objective(plan)
        study.tell(trial, loss)
        yield plan, loss, top1
        evaluated += 1
        if evaluated == count:
            return


def measure(name: str, shared: Path, rows_file: Path, given: argparse.Namespace) -> None:
    """Appends the rows that the file lacks: one a study, with its losses in order."""
    start = NETWORKS[name](shared)
    done = {(r["network"], r["methods"], r["budget"], r["way"], r["seed"]) for r in _rows(rows_file)}
    methods = ",".join(given.method)
    space = joined([_measured(start, method, rows_file.with_name(f"{name}-{method}-space.json")) for method in given.method])
    objective = Objective(start)
    for budget in given.budget:
        budgets = Budgets.parse(f"{budget}%", dense=space.dense)
        known: dict[str, Any] = {"network": name, "methods": methods, "budget": budget}
        for rule, make in RULES.items():
            plan = make(space, budgets)
            if plan is not None and (name, methods, budget, rule, 0) not in done:
                loss, top1 = objective(plan)
                share = space.cost(plan).flops / space.dense.flops
                _append(rows_file, {**known, "way": rule, "seed": 0, "loss": [loss], "top1": [top1], "flops": [share]})
        for seed in range(given.seeds):
            known_to_all = (objective, space, budgets)
            ways: dict[str, Callable[[], Iterator[tuple[CompressionPlan, float, float]]]] = {
                OURS: partial(filling, *known_to_all, "surrogate", seed, given.ours),
                "TPE, fills the budget": partial(filling, *known_to_all, "tpe", seed, given.tpe),
                RANDOM: partial(filling, *known_to_all, "random", seed, given.others),
                "TPE on constrained integers": partial(integers, *known_to_all, "tpe", seed, given.integers),
                "random integers": partial(integers, *known_to_all, "random", seed, given.integers),
            }
            counts = (given.ours, given.tpe, given.others, given.integers, given.integers)
            for (way, run), count in zip(ways.items(), counts, strict=True):
                if count and (name, methods, budget, way, seed) not in done:
                    row = {**known, "way": way, "seed": seed, **_course(run(), objective, space)}
                    _append(rows_file, row)
                    print(budget, way, seed, min(row["loss"], default=None), f"{row['seconds'][-1:]} s", flush=True)


def _measured(start: Start, method: str, cache: Path) -> SearchSpace:
    if not cache.exists():
        cache.write_text(measured_space(start, [method], Monitor()).to_json())
    return SearchSpace.from_json(cache.read_text())


def joined(spaces: Sequence[SearchSpace]) -> SearchSpace:
    """The space in which every layer may choose among the options of all."""
    sites: dict[str, tuple[Option, ...]] = {}
    for space in spaces:
        for name, options in space.sites.items():
            sites[name] = sites.get(name, ()) + options
    return SearchSpace(dense=spaces[0].dense, sites=sites)


def _course(
    found: Iterator[tuple[CompressionPlan, float, float]], objective: Objective, space: SearchSpace
) -> dict[str, list[float]]:
    """Losses, accuracies and shares of FLOPs in the order found, and the seconds that it took to come that far.

    The seconds are those of a study on its own: evaluations that another study has already made are charged for.
    """
    began, worked, charged = time.perf_counter(), objective.worked, objective.charged
    course: dict[str, list[float]] = {"loss": [], "top1": [], "flops": [], "seconds": []}
    for plan, loss, top1 in found:
        suggesting = time.perf_counter() - began - (objective.worked - worked)
        values = (loss, top1, space.cost(plan).flops / space.dense.flops, suggesting + objective.charged - charged)
        for column, value in zip(course.values(), values, strict=True):
            column.append(value)
    return course


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(rows: list[dict[str, Any]]) -> str:
    """For each network, methods and budget: best loss by way after some evaluations, and how soon random search is met."""
    parts = [
        f"\nObjective: loss without training. ResNet-20 in fp32, batch norms from {STATISTICS} images, loss on {HELD_OUT} "
        f"others; EfficientNet-Lite0 in bf16 with photos of {PHOTO_SIDE} pixels, batch norms relative to the trained network's "
        f"from {PHOTO_STATISTICS}, loss on {PHOTOS_HELD_OUT} others. Seconds are by the clock, of a study on its own, and "
        "depend on what else the machine did when a row was made. "
        "Hypervolume: the area that top-1 over FLOPs dominates, in % of that of a network without FLOPs or errors."
    ]
    for network, methods, budget in dict.fromkeys((r["network"], r["methods"], r["budget"]) for r in rows):
        own = [r for r in rows if (r["network"], r["methods"], r["budget"]) == (network, methods, budget)]
        parts.append(f"\n## {network}, {methods.replace(',', ' + ')}, {budget} % of dense FLOPs\n")
        columns = (
            "way",
            "seeds",
            "loss after 1",
            "after 10",
            "after 40",
            "at the end",
            "evaluations",
            "seconds",
            "hypervolume, %",
            "slack, %",
            "meets random search at its end",
        )
        parts.append(markdown_table(columns, [_line(way, own, budget) for way in dict.fromkeys(r["way"] for r in own)]))
    return "\n".join(parts)


def _line(way: str, rows: list[dict[str, Any]], budget: int) -> tuple[object, ...]:
    own = [r for r in rows if r["way"] == way and r["loss"]]
    best = [np.minimum.accumulate(r["loss"]) for r in own]
    random = [min(r["loss"]) for r in rows if r["way"] == RANDOM and r["loss"]]

    def after(count: int) -> str:
        values = [course[min(count, len(course)) - 1] for course in best]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        return f"{median(values):.3f}{spread}"

    most = max((len(course) for course in best), default=0)
    slack = median([100 * (1 - share / (budget / 100)) for r in own for share in r["flops"]])
    met = [_first_at_most(course, median(random)) for course in best] if random else []
    words = ", ".join("never" if at is None else str(at) for at in met)
    middle = (after(10) if most > 1 else "", after(40) if most > 10 else "")
    seconds = [r["seconds"][-1] for r in own if r.get("seconds")]
    taken = f"{median(seconds):.0f}" if seconds else ""
    area = f"{median(hypervolumes(r)[-1] for r in own):.2f}" if own else ""
    return way, len(own), after(1), *middle, after(most), most, taken, area, f"{slack:.1f}", words


def hypervolumes(row: dict[str, Any]) -> list[float]:
    """After each plan, the area that accuracy over FLOPs dominates, in % of that of a network without FLOPs or errors."""
    return [
        area / 100
        for area in hypervolume_course((100 * flops, top1) for flops, top1 in zip(row["flops"], row["top1"], strict=True))
    ]


def _first_at_most(course: Iterable[float], bound: float) -> int | None:
    """The number of evaluations after which a course is at most the bound."""
    return next((at for at, loss in enumerate(course, start=1) if loss <= bound), None)


LOSS, AREA = "best loss so far, nat", "hypervolume, %"
SHOWN = 2
"""Losses up to so many times the least are drawn; beyond, plans have collapsed, and tables tell how far."""
EVALUATIONS, SECONDS = "evaluations", "seconds"
PANELS = ((LOSS, EVALUATIONS), (LOSS, SECONDS), (AREA, EVALUATIONS))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Best loss so far against evaluations and seconds, and hypervolume; a line a search, median over seeds, seeds faintly."""
    lines = list(dict.fromkeys((r["network"], r["methods"], r["budget"]) for r in rows))
    ways = list(dict.fromkeys(r["way"] for r in rows))
    size = (5 * len(PANELS), 3.2 * len(lines))
    figure, axes = plt.subplots(len(lines), len(PANELS), figsize=size, squeeze=False, layout="constrained")
    for place, (network, methods, budget) in enumerate(lines):
        own = [r for r in rows if (r["network"], r["methods"], r["budget"]) == (network, methods, budget) and r["loss"]]
        for axis, (quantity, against) in zip(axes[place], PANELS, strict=True):
            _panel(axis, own, quantity, against, ways)
            axis.set_yscale("log" if quantity == LOSS else "linear")
            axis.set(xlabel=against, ylabel=quantity, xscale="log")
            axis.set_title(f"{network}, {methods.replace(',', ' + ')}, {budget} %", fontsize=9)
            axis.xaxis.set_minor_formatter(NullFormatter())
            if quantity == LOSS:
                axis.yaxis.set_minor_formatter(FormatStrFormatter("%.3g"))
                axis.set_ylim(top=min(axis.get_ylim()[1], SHOWN * min(min(r["loss"]) for r in own)))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(path)
    plt.close(figure)


def _panel(axis: Axes, rows: Sequence[dict[str, Any]], quantity: str, against: str, ways: Sequence[str]) -> None:
    """The courses of one search; rules, which are one evaluation, as level lines."""
    for way in dict.fromkeys(r["way"] for r in rows):
        own, color = [r for r in rows if r["way"] == way], plt.get_cmap("tab10")(ways.index(way))
        courses = [np.minimum.accumulate(r["loss"]) if quantity == LOSS else np.array(hypervolumes(r)) for r in own]
        if len(courses[0]) == 1:
            axis.axhline(courses[0][0], color=color, linestyle=":", linewidth=1, label=way)
            continue
        starts = [np.array(r["seconds"]) if against == SECONDS else np.arange(1, len(r["loss"]) + 1) for r in own]
        for start, course in zip(starts, courses, strict=True):
            axis.plot(start, course, color=color, alpha=0.25, linewidth=0.8)
        length = min(map(len, courses))
        middle, at = (np.median([one[:length] for one in many], axis=0) for many in (courses, starts))
        axis.plot(at, middle, color=color, linewidth=2, label=way)
    axis.grid(alpha=0.3)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, help="measure this one; without it, write table and figure")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--budget", action="append", type=int, choices=BUDGETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ours", type=int, default=40, help="evaluations of the search; of each way, 0 leaves it out")
    parser.add_argument("--tpe", type=int, default=40, help="evaluations of TPE over budget-filling plans")
    parser.add_argument("--others", type=int, default=200, help="evaluations of random search over budget-filling plans")
    parser.add_argument("--integers", type=int, default=40, help="evaluations of the ways that choose one integer a layer")
    parser.add_argument("--data", type=Path, required="--network" in sys.argv, help="folder with weights/, cifar10/")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/search_quality.jsonl"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.network:
        given.method, given.budget = given.method or ["structured_conv"], given.budget or BUDGETS
        measure(given.network, given.data, given.rows, given)
        return
    rows = _rows(given.rows)
    publish(f"# The search against rules and random search\n\n{facts(['fp32'], 1)}\n{report(rows)}\n", given.out)
    if given.out:
        draw(rows, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
