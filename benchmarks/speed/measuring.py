"""Measuring forms of a network: each made ready for a mode, then all timed in turn, then the peak of each alone."""

from __future__ import annotations

import copy
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.candidates import Candidate, Subject
from benchmarks.timing import interleaved, quartiles
from benchmarks.training.peak_memory import peak_mib
from sconv_search.cost.counting import measure_cost
from sconv_search.cost.timing import Prepare, compiled, eager
from sconv_search.inference.optimize import WHOLE, LayerTimes, optimize_for_inference
from sconv_search.inference.runtimes import onnx_run, openvino_has_bf16, openvino_run
from sconv_search.system.cache import KEPT_BYTES, Memo

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES: Mapping[str, Prepare] = {"eager": eager, "compiled": compiled, "onnxruntime": onnx_run, "openvino": openvino_run}
RUNTIMES = ("onnxruntime", "openvino")
BEGAN = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
"""Names the run that rows are of: the machine's own speed changes between runs, so only modes of one run are
compared.
"""
Row = dict[str, Any]
Key = tuple[str, str, str, int, int]
"""Network, mode, dtype, threads, batch: what is measured in one go."""


def key_of(row: Row) -> Key:
    """The go in which a row was measured."""
    return row["network"], row["mode"], row["dtype"], row["threads"], row["batch"]


def measure(keys: Sequence[Key], forms: Sequence[Candidate], subject: Subject, rounds: int) -> list[Row]:
    """One go: every form made ready for every mode, then all timed in turn, then the peak of each alone.

    Args:
        keys: which differ in their modes alone.
    """
    torch.set_num_threads(keys[0][3])
    torch.compiler.reset()  # what was compiled for another number of threads keeps it
    rows, runs, measured = list[Row](), dict[str, Callable[[], object]](), Memo[LayerTimes](KEPT_BYTES)
    for key in keys:
        own, ready = _prepared(key, forms, subject, measured)
        rows += own
        runs |= ready
    seconds = interleaved(runs, rounds)
    for row in rows:
        if (name := _name(row)) in seconds:
            spread = quartiles(seconds[name])
            row |= {"rounds": rounds, "ms": [1e3 * spread.q1, 1e3 * spread.median, 1e3 * spread.q3]}
            row["peak_mib"] = (
                None if row["mode"] in RUNTIMES else peak_mib(runs[name])[2]
            )  # arenas keep what they once took
    return rows


def _name(row: Row) -> str:
    return f"{row['mode']}: {row['candidate']}"


def _prepared(
    key: Key, forms: Sequence[Candidate], subject: Subject, measured: Memo[LayerTimes]
) -> tuple[list[Row], dict[str, Callable[[], object]]]:
    """A mode's rows, without times, and a forward of each form that has one, by the row's name."""
    network, mode, dtype, threads, batch = key
    x = torch.randn(batch, *subject.shape).to(DTYPES[dtype]).contiguous(memory_format=torch.channels_last)
    dense = forms[0].network
    assert dense is not None
    known = {"network": network, "mode": mode, "dtype": dtype, "threads": threads, "batch": batch, "run": BEGAN}
    known["dense_macs"] = measure_cost(dense, subject.shape).macs
    if dtype != "fp32" and (reason := _no_bf16(mode)):
        return [{**known, "candidate": form.name, "reason": reason} for form in forms], {}
    rows, runs = list[Row](), {}
    for form in forms:
        row = {**known, "candidate": form.name, "method": form.method, "strength": form.strength}
        if form.network is None:
            rows.append({**row, "reason": form.reason})
            continue
        print(f"  {mode}: {form.name}", file=sys.stderr, flush=True)
        runs[_name(row)], ways = _ready(form, x, MODES[mode], measured)
        cost = measure_cost(form.network, subject.shape)
        rows.append({**row, "macs": cost.macs, "flops": cost.flops, "params": cost.params, "implementations": ways})
    return rows, runs


def _no_bf16(mode: str) -> str:
    """Why a mode runs nothing in bf16; empty where it does."""
    if mode == "onnxruntime":
        return "onnxruntime is run in fp32 alone"
    return "OpenVINO has no bf16 on this CPU" if mode == "openvino" and not openvino_has_bf16() else ""


def _ready(
    form: Candidate, x: Tensor, prepare: Prepare, known: Memo[LayerTimes]
) -> tuple[Callable[[], object], dict[str, int]]:
    """A forward of the form, and how many of its structured layers are computed in which way.

    Args:
        known: what layers took in other forms.
    """
    assert form.network is not None
    given = copy.deepcopy(form.network).to(x.dtype).to(memory_format=torch.channels_last)
    ready, choices = optimize_for_inference(given, x, prepare=prepare, known=known)
    whole = [choice.chosen for choice in choices if choice.site == WHOLE]
    ways = Counter(choice.chosen for choice in choices if choice.site != WHOLE)
    return prepare(ready, x), dict(ways) if whole != ["dense"] else {"dense": sum(ways.values())}
