"""What the benchmarks share: interleaved timing, quartiles, and the facts that stand above every table."""

from __future__ import annotations

import math
import os
import random
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from sconv_search.cost.timing import TOLERATED, seconds_of, warm_up

MEASURED_SECONDS = 0.005
"""One measurement lasts at least this long, so that the clock and the interpreter do not show in it."""
WARM_SECONDS = 0.02
"""So long a candidate runs before each of its measurements. PyTorch's threads go on waiting busily for a while after
their last task, and take the processors from a runtime that has threads of its own: ResNet-18 of one image by
onnxruntime on two threads took 17.9 ms right after PyTorch, 10.3 otherwise, and after 20 ms of its own 10.2 and 10.1
(what_ran_before.py).
"""
PATIENT = 10
"""So often is one repeated at most that the host of the machine disturbs."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """Median and quartiles of a candidate's measurements, in the unit of what was summarized."""

    q1: float
    median: float
    q3: float

    def __post_init__(self) -> None:
        if not self.q1 <= self.median <= self.q3:
            raise ValueError(f"quartiles must be in order, got {self.q1}, {self.median}, {self.q3}")

    def milliseconds(self) -> str:
        """Seconds as ``median (q1-q3)`` in milliseconds, three digits each."""
        return f"{_three_digits(self.median * 1e3)} ({_three_digits(self.q1 * 1e3)}–{_three_digits(self.q3 * 1e3)})"

    def percent(self) -> str:
        """Shares as ``median (q1-q3)`` in percent."""
        return f"{self.median:.1%} ({self.q1:.1%} to {self.q3:.1%})"


def _three_digits(value: float) -> str:
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f}"


def quartiles(values: Sequence[float]) -> Quartiles:
    """The quartiles of at least one value, interpolated within the range of the values.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("quartiles need at least one measurement, got none")
    if len(values) == 1:
        return Quartiles(q1=values[0], median=values[0], q3=values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(q1=q1, median=median, q3=q3)


def _repeats(candidate: Callable[[], object]) -> int:
    """Calls in a row that last ``MEASURED_SECONDS``, a power of two."""
    warm_up(candidate, WARM_SECONDS)
    repeats = 1
    while seconds_of(candidate, repeats) < MEASURED_SECONDS:
        repeats *= 2
    return repeats


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of each candidate, measured in turn (A B C B A C ...), one value a round.

    In turn, so that a slow spell of a shared machine meets all candidates alike; each round in another order, as who
    runs before a candidate leaves caches warm or cold for it. Each is warmed up before every measurement, then called
    so often in a row that one measurement lasts 5 ms or more.

    Raises:
        ValueError: rounds is not positive.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, got {rounds}")
    repeats = {name: _repeats(candidate) for name, candidate in candidates.items()}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(candidates), len(candidates)):
            warm_up(candidates[name], WARM_SECONDS)
            seconds[name].append(seconds_of(candidates[name], repeats[name], attempts=PATIENT) / repeats[name])
    return seconds


def _cpu_info(key: str) -> str:
    """The first value of that key in /proc/cpuinfo; empty where the system has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def has_bf16_instructions() -> bool:
    """Whether the CPU multiplies bf16 numbers itself; without, PyTorch falls back to slow generic kernels."""
    return bool(BF16_FLAGS & set((_cpu_info("flags") or _cpu_info("Features")).split()))


def command() -> str:
    """The command of this run, relative to the root of the repository; absolute paths are cut to what is below it."""
    root = Path(__file__).resolve().parent.parent

    def shown(argument: str) -> str:
        path = Path(argument)
        if not path.is_absolute():
            return argument
        return str(path.relative_to(root)) if path.is_relative_to(root) else path.name

    module = ".".join(Path(shown(sys.argv[0])).with_suffix("").parts).removesuffix(".__main__")
    return shlex.join(["python", "-m", module, *map(shown, sys.argv[1:])])


def facts(dtypes: Iterable[str], rounds: int) -> str:
    """The machine, the software and the command, as a Markdown list to stand above a table."""
    model = _cpu_info("model name") or "unknown CPU"
    instructions = torch.backends.cpu.get_cpu_capability()
    return "\n".join(
        [
            f"- command: `{command()}`",
            f"- CPU: {model}, {instructions}, bf16 instructions: {'yes' if has_bf16_instructions() else 'no'}",
            f"- threads: {torch.get_num_threads()} of {os.cpu_count()} CPUs",
            f"- torch {torch.__version__}; dtype: {', '.join(dtypes)}",
            f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            (
                f"- rounds: {rounds}, candidates in turn, each warmed up for {1e3 * WARM_SECONDS:.0f} ms before it is"
                f" measured; median (first–third quartile), a measurement lasts {1e3 * MEASURED_SECONDS:.0f} ms or"
                f" more, and is repeated where the machine's host gave more than {TOLERATED:.0%} of it to others"
            ),
        ]
    )


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells are shown by ``str``.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row must have {len(columns)} cells, got {len(row)}: {row!r}")
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of positive ratios, for which 2 and 1/2 balance."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def publish(report: str, out: Path | None) -> None:
    """Writes the report to the file if one is given, and prints it."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(report + "\n")
    print(report)
