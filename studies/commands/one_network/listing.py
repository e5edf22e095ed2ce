"""What is said of a compressed network: costs before and after, the layers that changed, files, the next command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from shlex import quote
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sconv_search.data.photo_folder import PhotoFolder
from sconv_search.records import Cost
from sconv_search.studies import tasks
from sconv_search.studies.commands.one_network.typed import shape_of
from sconv_search.studies.commands.output import amount, wide_enough
from sconv_search.studies.monitor import counted
from sconv_search.studies.oneshot.compress import Compressed
from sconv_search.studies.oneshot.networks import FoundNetwork
from sconv_search.studies.options.compress import OneShotBudget, OneShotNetwork
from sconv_search.studies.options.search import DEFAULT_BUDGET

ROWS = (("FLOPs", "flops"), ("MACs", "macs"), ("additions", "adds"), ("parameters", "params"))


def beginning(network: FoundNetwork, data: PhotoFolder | None, samples: int) -> list[str]:
    """What is known before the work."""
    said = list(network.notes)
    if not network.trained:
        said.append(
            "the network's weights are random: costs are right, but it computes nothing of use; give trained ones with"
            " --weights FILE, or by the network's name, such as torchvision:resnet18@DEFAULT"
        )
    if data is not None:
        height, width = data.photos.size
        used = min(samples, len(data.paths))
        said.append(f"data: {used} of {counted(len(data.paths), 'photo')}, {width}×{height} pixels")
    return said


def say_costs(name: str, small: Compressed, console: Console) -> None:
    """Tables of the costs before and after, and of the layers that changed."""
    console = wide_enough(console)
    costs = Table(name, "before", "after", "share", box=SIMPLE_HEAD)
    for row, attribute in ROWS:
        before, after = (int(getattr(cost, attribute)) for cost in (small.dense_cost, small.cost))
        costs.add_row(row, amount(before), amount(after), f"{after / before:.1%}" if before else "")
    console.print(costs)
    layers = Table(counted(len(small.plan.sites), "layer") + " changed", "method", "structure", box=SIMPLE_HEAD)
    for site, choice in small.plan.sites.items():
        layers.add_row(site, choice.method, ", ".join(f"{key} = {value}" for key, value in choice.structure.items()))
    console.print(layers)


def exported_line(path: Path, parity: Mapping[str, float]) -> str:
    """Size of the exported file, and how near it is to the network."""
    apart = ", ".join(f"{difference:.1e} by {runtime}" for runtime, difference in parity.items())
    return f"{path}: {path.stat().st_size / 1e6:.2f} MB; largest difference to the network's outputs: {apart}"


def next_command(name: str, source: OneShotNetwork, limits: OneShotBudget, folder: Path) -> str:
    """The search that begins with this plan, and trains."""
    of_a_task = name.partition("@")[0] in tasks.TASKS
    words = ["sconv-search", "search", "--task" if of_a_task else "--network", name]
    words += [] if source.weights is None else ["--weights", str(source.weights)]
    words += _given(replace(limits, budget=limits.budget or [DEFAULT_BUDGET]))
    words += ["--start-plan", str(folder / "plan.json"), "--out", f"runs/{folder.resolve().name}"]
    known = source.data is not None and (source.data / "train").is_dir()
    if not of_a_task:
        words += ["--task", _images(source), "--data", str(source.data)] if known else ["--task", "TASK"]
    return " ".join(map(quote, words))


def _given(limits: OneShotBudget) -> list[str]:
    """The flags that were given: a search has all of them, under the same names."""
    words: list[str] = []
    for option in fields(limits):
        value = getattr(limits, option.name)
        if value != option.default:
            flag = f"--{option.name.replace('_', '-')}"
            words += [word for one in (value if isinstance(value, list) else [value]) for word in (flag, str(one))]
    return words


def _images(source: OneShotNetwork) -> str:
    """The task of photos, as large and normalized as they were here."""
    size = None if source.shape is None else ",".join(map(str, shape_of(source.shape)[1:]))
    given = {"size": size, "mean": source.mean, "std": source.std}
    typed = "&".join(f"{name}={value}" for name, value in given.items() if value)
    return f"images?{typed}" if typed else "images"


def document(name: str, small: Compressed, folder: Path, exported: Path | None, parity: Any) -> dict[str, Any]:
    """All of it for scripts."""
    return {
        "network": name,
        "out": folder,
        "file": exported,
        "parity": parity,
        "cost": _amounts(small.cost),
        "dense_cost": _amounts(small.dense_cost),
        "plan": {
            site: {"method": choice.method, "structure": dict(choice.structure)}
            for site, choice in small.plan.sites.items()
        },
    }


def _amounts(cost: Cost) -> dict[str, Any]:
    return {**asdict(cost.counted()), "flops": cost.flops}
