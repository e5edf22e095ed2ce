"""``python -m benchmarks.zoo run`` and ``table``."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.zoo.checks import PARTS
from benchmarks.zoo.networks import zoo
from benchmarks.zoo.page import page
from benchmarks.zoo.running import add_rows, read_rows

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "benchmarks/results/zoo.jsonl", ROOT / "docs/zoo.md"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument(
        "what", choices=("run", "table"), help="add the rows that are missing, or make the page of them"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the rows")
    parser.add_argument("--page", type=Path, default=PAGE, help="file of the table")
    parser.add_argument("--part", choices=tuple(PARTS), action="append", help="of the checks; repeat it (default: all)")
    parser.add_argument("--only", default="*", help="pattern of network names, such as 'timm/*' (default: all)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one network and part")
    parser.add_argument("--again", action="store_true", help="make rows with a failure anew")
    arguments = parser.parse_args()
    if arguments.what == "table":
        arguments.page.write_text(page(read_rows(arguments.results)), encoding="utf-8")
        return
    sizes = {network: row.get("params") or 0 for (network, _), row in read_rows(arguments.results).items()}
    # those of known size from the smallest on, so that a run that is stopped has most networks
    names = sorted((name for name in zoo() if fnmatchcase(name, arguments.only)), key=lambda name: sizes.get(name, 0))
    parts = arguments.part or tuple(PARTS)
    for row in add_rows(arguments.results, parts, names, arguments.limit, arguments.again):
        words = row.get("reason") or row.get("failures") or "ok"
        print(f"{row['network']} {row['part']}: {words} ({row.get('seconds', 0.0)} s)", flush=True)


if __name__ == "__main__":
    main()
