"""How the memory of a search grows with its trials: trials that train in no time, in this process."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.search.sleeping import sleeping_context, spec_of
from benchmarks.timing import facts, markdown_table, publish
from sconv_search import TrialRecord
from sconv_search.studies import RunFolder
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.search.runner import search

EVERY = 100


def resident_mib() -> float:
    """Memory of this process, as Linux tells it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@dataclass
class Watching(Monitor):
    """Notes the process' memory after the first fifty trials, and after every hundred."""

    seen: list[tuple[int, float]] = field(default_factory=list)
    trials: int = 0

    def recorded(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self.trials += 1
        if self.trials == EVERY // 2 or self.trials % EVERY == 0:
            self.seen.append((self.trials, resident_mib()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    watching, context = Watching(), sleeping_context(0.0)
    with tempfile.TemporaryDirectory() as folder:
        search(
            context, replace(spec_of(context, given.trials), sampler="tpe"), RunFolder(Path(folder) / "run"), watching
        )
    (begun, least), (ended, most) = watching.seen[0], watching.seen[-1]
    grown = 1024 * (most - least) / (ended - begun)
    words = f"Six layers, two methods, sampler tpe. {grown:.0f} KiB a trial between the first and the last line."
    table = markdown_table(("trials", "MiB"), [(trials, f"{mib:.0f}") for trials, mib in watching.seen])
    publish(f"# Memory of a search\n\n{facts(['fp32'], 1)}\n\n{words}\n\n{table}", given.out)


if __name__ == "__main__":
    main()
