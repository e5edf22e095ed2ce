"""``python -m tests.stress --kills 300 --pairs 40 --inputs 3000 --work FOLDER``: kills, commands at once and damaged
inputs, and a page of what they led to. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.stress.kills import kill
from tests.stress.mutations import mutate
from tests.stress.pairs import pair
from tests.stress.results import PAGE, page

ROUNDS = 20
"""In which the work is done: each does a part of all, so that what is stopped has results of every kind."""


def main() -> None:
    """Ends with 1 where there is a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--inputs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=int, action="append", help="the number of an input to be made alone")
    parser.add_argument("--work", type=Path, help="where all is done, and noted, so that it can go on; else a new one")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the results are written")
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    if given.input:
        again = Path(tempfile.mkdtemp(dir=work))
        found = mutate(again, given.input, given.seed)
        print(again, (again / "said.txt").read_text(encoding="utf-8", errors="replace")[-3000:])
        sys.exit(bool(found.problems))
    for share in range(1, ROUNDS + 1):
        counts = [count * share // ROUNDS for count in (given.kills, given.pairs, given.inputs)]
        parts = {
            "Kills": kill(work, counts[0], given.seed),
            "Two commands at once": pair(work, counts[1], given.seed),
            "Damaged inputs": mutate(work, range(counts[2]), given.seed),
        }
        said = f"--kills {counts[0]} --pairs {counts[1]} --inputs {counts[2]} --seed {given.seed}"
        given.page.write_text(page(parts, f"python -m tests.stress {said}"), encoding="utf-8")
    print(", ".join(f"{part.all} {title.lower()}" for title, part in parts.items()), given.page)
    sys.exit(any(part.problems for part in parts.values()))


if __name__ == "__main__":
    main()
