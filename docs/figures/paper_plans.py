"""What the plans of the structured convolutions' paper cost, with naive pooling and as this project's layers run.

Writes the table of docs/papers-plans.md, between its two marks. Counts alone: no weights, no data, no clock.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from benchmarks.timing import markdown_table
from sconv_search import CompressionPlan
from sconv_search.networks.mobilenet import cifar_mobilenet_v2
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.structured.paper_counts import PaperCounts, paper_counts
from sconv_search.structured.paper_plans import PAPER_PLANS, paper_plan

COLUMNS = ("plan", "input", "mults", "additions, boxes", "additions, chains", "parameters")
MARKS = ("<!-- table: python -m docs.figures.paper_plans --page docs/papers-plans.md -->", "<!-- end of the table -->")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "papers-plans.md"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A network and the height and width of its images; ``digits`` are those after the point of counts in 1e9."""

    build: Callable[[], nn.Module]
    size: int
    digits: int = 3


def _torchvision(name: str) -> nn.Module:
    import torchvision  # here: importing it takes a second

    network: nn.Module = torchvision.models.get_model(name, weights=None)
    return network


def _timm(name: str) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False)
    return network


FAMILIES: Mapping[str, Family] = {
    **{
        name: Family(build=partial(_torchvision, name), size=240 if name == "efficientnet_b1" else 224)
        for name in ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet_b1")
    },
    "hrnet_w18_small_v2": Family(build=partial(_timm, "hrnet_w18_small_v2"), size=224),
    **{f"cifar/resnet{depth}": Family(build=partial(cifar_resnet, depth), size=32, digits=4) for depth in (20, 32, 56)},
    "cifar/mobilenet_v2": Family(build=cifar_mobilenet_v2, size=32, digits=4),
}


def family_of(plan: str) -> str:
    """``resnet18`` of ``resnet18/A``, and of ``resnet18`` itself."""
    return plan.rpartition("/")[0] if plan in PAPER_PLANS else plan


def names() -> Iterator[str]:
    """Each dense network, then its plans."""
    for family in FAMILIES:
        yield family
        yield from (plan for plan in PAPER_PLANS if family_of(plan) == family)


def counts(name: str) -> PaperCounts:
    """The counts of a plan on its network, or of a dense network by its own name."""
    family = FAMILIES[family_of(name)]
    network = family.build().eval()
    plan = paper_plan(name, network) if name in PAPER_PLANS else CompressionPlan()
    return paper_counts(network, plan, (3, family.size, family.size))


def row(name: str, counts: PaperCounts) -> tuple[str, ...]:
    """The cells of one line: a plan by its name, a dense network by its own; counts in 1e9, parameters in 1e6."""
    family = FAMILIES[family_of(name)]
    billions = (
        f"{count / 1e9:.{family.digits}f}" for count in (counts.mults, counts.naive_additions, counts.chain_additions)
    )
    shown = f"`{name}`" if name in PAPER_PLANS else f"{name}, dense"
    return shown, f"{family.size} × {family.size}", *billions, f"{counts.params / 1e6:.3f}"


def table(chosen: Iterable[str]) -> str:
    """The counts of these plans and networks as a Markdown table."""
    rows = []
    for name in chosen:
        print(name, file=sys.stderr, flush=True)
        rows.append(row(name, counts(name)))
    return markdown_table(COLUMNS, rows)


def with_table(page: str, rows: str) -> str:
    """The page's text with the table between its marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    if missing := [mark for mark in MARKS if mark not in page]:
        raise ValueError(f"the page lacks the mark {missing[0]!r}")
    before, _, rest = page.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{rows}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def main() -> None:
    """Counts the chosen plans, prints their table, and writes that of all into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAME", help="networks whose name contains this; printed alone")
    parser.add_argument("--page", type=Path, help="Markdown page into which the table of all is written")
    arguments = parser.parse_args()
    if arguments.only and arguments.page:
        parser.error("--page takes the table of all networks; leave out --only")
    text = table(name for name in names() if arguments.only in name)
    if arguments.page:
        arguments.page.write_text(with_table(arguments.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
