"""The page of the documentation that the rows make."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from benchmarks.timing import markdown_table
from benchmarks.zoo.networks import zoo
from sconv_search import METHODS

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
LONGEST = 160
INTRODUCTION = """\
All builders of torchvision {torchvision} but the quantized, and the smallest network of each family
of timm {timm}, with random weights and the smallest input that they take: what is counted, and what
each method does with the middle option at all of its sites. A method passes where the compressed
network gives finite outputs of the same shapes and costs fewer FLOPs, the argument is untouched,
gradients reach the parameters, and the network rebuilt from plan and weights computes the same. One
network in five is also exported to ONNX, and run from the file. Made by `python -m benchmarks.zoo
run` and `table`."""


def page(rows: Rows) -> str:
    """Markdown: what was put through, the sums, and one table with a line a network."""
    known = [name for name in zoo() if (name, "cost") in rows or (name, "compression") in rows]
    lines = [_line(name, rows.get((name, "cost"), {}), rows.get((name, "compression"), {})) for name in known]
    columns = (
        "network",
        "input",
        "MACs",
        "by torch's counter",
        "layers offered",
        "methods",
        "FLOPs left",
        "ONNX",
        "why not",
    )
    return "\n".join(
        (
            "# Public networks",
            "",
            *INTRODUCTION.format(torchvision=version("torchvision"), timm=version("timm")).splitlines(),
            "",
            *(textwrap.fill(f"- {line}", 100, subsequent_indent="  ") for line in _sums(rows, known)),
            "",
            markdown_table(columns, lines),
            "",
        )
    )


def _sums(rows: Rows, known: list[str]) -> list[str]:
    costs = [rows[name, "cost"] for name in known if (name, "cost") in rows]
    compressed = [rows[name, "compression"] for name in known if (name, "compression") in rows]
    both = [row for row in costs if row.get("macs") is not None and row.get("counted") is not None]
    equal = sum(row["macs"] == row["counted"] for row in both)
    passed = [row for row in compressed if row.get("shares") and not row.get("failures") and not row.get("reason")]
    with_files = [row["parity"] for row in compressed if row.get("parity") is not None]
    lines = [
        f"cost: {sum(row.get('macs') is not None for row in costs)} of {len(costs)} networks",
        f"MACs equal to torch's counter: {equal} of the {len(both)} that both count",
    ]
    if compressed:
        lines.append(f"compressed by every method without a gap: {len(passed)} of {len(compressed)} networks")
    if with_files:
        lines.append(f"exported to ONNX: {len(with_files)} networks, largest difference {max(with_files):.1e}")
    compiled = [row for (_, part), row in rows.items() if part == "compiled"]
    if alike := [row["difference"] for row in compiled if row.get("difference") is not None and not row.get("reason")]:
        names = ", ".join(sorted(row["network"].partition("/")[2] for row in compiled if not row.get("reason")))
        words = f"equal by `torch.compile`, all layers structured: {len(alike)} of {len(compiled)} networks ({names})"
        lines.append(f"{words}, largest difference {max(alike):.1e}")
    return lines


def _line(name: str, cost: Mapping[str, Any], small: Mapping[str, Any]) -> tuple[str, ...]:
    macs, counted = cost.get("macs"), cost.get("counted")
    shares = small.get("shares") or {}
    gaps = [str(row["reason"]) for row in (cost, small) if row.get("reason")]
    gaps += [f"{method}: {words}" for method, words in (small.get("failures") or {}).items()]
    gaps += [str(small["note"])] if small.get("note") else []
    if macs is not None and counted is None:
        gaps.append("torch's counter fails on it")
    least, most = (f"{pick(shares.values()):.0%}" if shares else "" for pick in (min, max))
    return (
        name,
        str(cost.get("input", "")),
        "none" if macs is None else f"{macs:,}",
        "none" if counted is None else "equal" if counted == macs else f"{counted:,}",
        f"{small['offered']} of {small['layers']}" if small.get("layers") else "",
        f"{len(shares)} of {len(METHODS)}" if small else "",
        least if least == most else f"{least} to {most}",
        "" if small.get("parity") is None else f"{small['parity']:.0e}",
        _short("; ".join(gaps)),
    )


def _short(text: str) -> str:
    words = " ".join(text.replace("|", "/").replace("<", "‹").replace(">", "›").split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
