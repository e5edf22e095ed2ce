"""A run's confirmed network as one file that other programs read: ONNX, a ``torch.export`` archive, or safetensors."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from sconv_search.cost.counting import counting_free, measure_cost
from sconv_search.cost.network_inputs import Inputs, batch_of, is_shape, shape_text
from sconv_search.cost.timing import eager
from sconv_search.inference.export import export_onnx, export_program, parity, require_parity
from sconv_search.inference.optimize import SiteChoice, optimize_for_inference
from sconv_search.inference.quantization import export_int8
from sconv_search.inference.runtimes import onnx_run
from sconv_search.plan import CompressionPlan
from sconv_search.records import TrialRecord
from sconv_search.studies.context import network_sha256
from sconv_search.studies.methods import compress_again
from sconv_search.studies.options.export import BEST, Format
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.runs.rebuild import rebuild
from sconv_search.studies.space.identity import require_start
from sconv_search.studies.task import Task
from sconv_search.studies.trials.confirming import LATENCY_BATCH
from sconv_search.system.files import atomic_write
from sconv_search.system.weights import load_weights_, save_weights


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A confirmed network of a run: its record, its plan and its files."""

    record: TrialRecord
    plan: CompressionPlan
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Args:
        parity: the largest difference to the network's outputs over the largest of them; of an int8 file's float form.
        same_class: share of the calibration images that get the same class in int8 as in float; None of a float file.
    """

    path: Path
    parity: Mapping[str, float]
    metadata: Mapping[str, str]
    choices: tuple[SiteChoice, ...] = ()
    same_class: float | None = None


def confirmed_network(folder: RunFolder, plan: str, seed: int | None) -> Confirmed:
    """A confirmed network by its name in the run, or the ``best``: of the best validation score in the search.

    Args:
        plan: the number of a trial, such as ``3``, or ``uniform``, as reports name networks; or ``best``.
        seed: of its training; None takes the least that there is.

    Raises:
        ValueError: no network of that name and seed was confirmed; those that were are named.
    """
    records = folder.records()[0]
    saved = {(r.plan_name, r.seed): r for r in records if r.stage == "confirm" and _files(folder, r)}
    searched = [(name, own) for (name, own), r in saved.items() if r.variant == "searched"]
    if not searched:
        raise ValueError(
            f"the run in {str(folder.path)!r} holds no confirmed network, and only those are trained to the end; "
            f"confirm first, by `sconv-search confirm {folder.path}` or Study.confirm"
        )
    name = _best_name(records, {name for name, _ in searched}) if plan == BEST else plan.removeprefix("searched-")
    seeds = sorted(own or 0 for other, own in saved if other == name)
    if not seeds or (seed is not None and seed not in seeds):
        asked = f"{_words(name)}" + ("" if seed is None or not seeds else f" with seed {seed}")
        known = ", ".join(f"{_words(other)} seed {own}" for other, own in sorted(saved, key=_order))
        raise ValueError(f"{asked} of {str(folder.path)!r} was not confirmed; there are {known}")
    record = saved[name, seeds[0] if seed is None else seed]
    return Confirmed(record=record, plan=CompressionPlan.from_json(record.plan or ""), folder=_place(folder, record))


def require_network(folder: RunFolder, task: Task) -> None:
    """Refuses a network whose code is another one than in the run's search: its weights would compute something else.

    Raises:
        ValueError: the run, and what to do.
    """
    space = folder.read_space()
    advice = "give the code that was searched, or search and confirm anew"

    def require(network: nn.Module) -> None:
        require_start(space, {"network": network_sha256(network.eval())}, folder.path, advice)

    try:
        require(task.network())
    except ValueError:  # with its weights a library may build it another way
        trained = None if task.trained_network is None else task.trained_network()
        if trained is None:
            raise
        require(trained)


def _best_name(records: Sequence[TrialRecord], names: Collection[str]) -> str:
    """Of the best validation score in the search; of equal ones the network with the fewest FLOPs."""
    known = {
        str(r.number): (r.quality, -(r.flops or 0)) for r in records if r.stage == "search" and r.quality is not None
    }
    return max(sorted(names), key=lambda name: known.get(name, (-math.inf, 0)))


def _words(name: str) -> str:
    return f"trial {name}" if name.isdecimal() else f"network {name!r}"


def _order(key: tuple[str, int | None]) -> tuple[bool, int, str, int]:
    """Trials by number, then the other networks by name."""
    name, seed = key
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name, seed or 0


def _place(folder: RunFolder, record: TrialRecord) -> Path:
    label = record.plan_name if record.number is None else f"{record.variant}-{record.number}"
    return folder.path / "confirmed" / f"{label}-seed{record.seed}"


def _files(folder: RunFolder, record: TrialRecord) -> bool:
    return (_place(folder, record) / "weights.safetensors").is_file()


def calibration_of(task: Task, data: Path | None) -> Tensor:
    """The study's calibration images, of the training part, as the network's input (N, C, H, W).

    Raises:
        FileNotFoundError: the data is missing; the expected layout is given.
    """
    if task.layout is not None and not task.layout.downloads:
        task.layout.root(data)
    inputs = task.data(data, False).calibration_inputs()
    if not isinstance(inputs, Tensor):
        raise ValueError(f"--int8 needs a network of one tensor; task {task.name!r} takes {task.shape}")
    return inputs


def require_int8(to: Format, int8: bool, data: Path | None) -> None:
    """Refuses int8 in another format than ONNX, and data that nothing would be read from.

    Raises:
        ValueError: one of both.
    """
    if int8 and to != "onnx":
        raise ValueError(f"--int8 writes ONNX files alone, got --to {to}; use --to onnx")
    if data is not None and not int8:
        raise ValueError(
            "--data is read for --int8 alone, whose ranges are those of training images; add --int8 or leave it out"
        )


def export_confirmed(
    task: Task,
    confirmed: Confirmed,
    path: Path,
    to: Format,
    *,
    optimized: bool = False,
    calibration: Tensor | None = None,
    count_free: Sequence[str] = (),
) -> Exported:
    """Writes the network to the file, checked by running it from there.

    Args:
        optimized: whether it is made ready for inference first; measured in onnxruntime for ONNX, else in PyTorch.
        calibration: (N, C, H, W) inputs, from whose ranges an ONNX file is written in int8; None writes floats.
        count_free: operators that count nothing in the costs that the file names, as in the study.

    Raises:
        ValueError: a package is missing, the network cannot be exported, or weights are to be optimized.
        RuntimeError: what the file computes is not what the network does.
    """
    if optimized and to == "safetensors":
        raise ValueError(
            "weights alone cannot be made ready for inference, as they are of the plan's layers; use onnx or pt2"
        )
    shape: Inputs = task.input_shape
    network = rebuild(task.network(), confirmed.folder, shape)
    example, metadata = batch_of(network, shape, 2), _metadata(task, confirmed, network, shape, count_free)
    choices: list[SiteChoice] = []
    ready = network
    if optimized:
        given = batch_of(network, shape, LATENCY_BATCH)
        ready, choices = optimize_for_inference(network, given, prepare=onnx_run if to == "onnx" else eager)
        metadata["implementations"] = json.dumps({row.site: row.chosen for row in choices})
    same_class = None
    if calibration is not None:
        assert isinstance(example, Tensor)  # as the calibration inputs are
        metadata["weights"] = "int8"
        parities, same_class = export_int8(ready, example, calibration, path, metadata)
    elif to == "safetensors":
        parities = _weights(network, task.network(), confirmed.plan, path, metadata, example)
    else:
        parities = (export_onnx if to == "onnx" else export_program)(ready, example, path, metadata)
    return Exported(path=path, parity=parities, metadata=metadata, choices=tuple(choices), same_class=same_class)


def _weights(
    network: nn.Module,
    architecture: nn.Module,
    plan: CompressionPlan,
    path: Path,
    metadata: Mapping[str, str],
    example: Inputs,
) -> dict[str, float]:
    """Writes the weights; parity is that of the network made again from the file."""
    with atomic_write(path) as partial:
        save_weights(network, partial, metadata)
        again = compress_again(architecture, plan)
        load_weights_(again, partial)
        parities = {"rebuilt": parity(network, again.eval(), example)}
        require_parity(parities)
    return parities


def _metadata(
    task: Task, confirmed: Confirmed, network: nn.Module, shape: Inputs, count_free: Sequence[str]
) -> dict[str, str]:
    """What the file says of itself, as texts."""
    with counting_free(count_free):
        cost, dense = measure_cost(network, shape), measure_cost(task.network(), shape)
    record = confirmed.record
    scores = {"val_score": record.val_score, "test_score": record.test_score}
    metric = {"metric": record.metric, "metric_unit": record.metric_unit, "metric_better": record.metric_better}
    return {
        "version": version("sconv-search"),
        "torch": torch.__version__,
        "task": task.name,
        "trial": record.plan_name,
        "seed": str(record.seed),
        "input_shape": json.dumps(shape) if is_shape(shape) else shape_text(shape),
        "plan": confirmed.plan.to_json(),
        "cost": json.dumps({**asdict(cost), "flops": cost.flops}),
        "dense_cost": json.dumps({**asdict(dense), "flops": dense.flops}),
        **metric,
        **{name: str(score) for name, score in scores.items() if score is not None},
    }
