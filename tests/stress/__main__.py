"""``python -m tests.stress --kills 300 --inputs 3000``: kills and damaged inputs, and a page of what they led to."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.stress.kills import kill
from tests.stress.mutations import mutate
from tests.stress.results import PAGE, Found, page


def main() -> None:
    """Ends with 1 where there is a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--inputs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=int, action="append", help="the number of an input to be made alone")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the results are written")
    given, began = parser.parse_args(), time.monotonic()
    if given.input:
        folder = Path(tempfile.mkdtemp())
        found = mutate(folder, given.input, given.seed)
        print(folder, (folder / "said.txt").read_text(encoding="utf-8", errors="replace")[-3000:])
        sys.exit(bool(found.problems))
    with tempfile.TemporaryDirectory() as name:
        kills = kill(Path(name) / "kills", given.kills, given.seed) if given.kills else Found()
        inputs = mutate(Path(name) / "inputs", range(given.inputs), given.seed) if given.inputs else Found()
    command = f"python -m tests.stress --kills {given.kills} --inputs {given.inputs} --seed {given.seed}"
    given.page.write_text(page(kills, inputs, command, time.monotonic() - began), encoding="utf-8")
    for problem in (*kills.problems, *inputs.problems):
        print(problem, end="\n\n")
    print(f"{sum(kills.done.values())} kills, {sum(inputs.done.values())} inputs: {given.page}")
    sys.exit(bool(kills.problems or inputs.problems))


if __name__ == "__main__":
    main()
