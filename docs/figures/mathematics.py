"""Draws the pictures of docs/mathematics.md, each from the project's own functions and built layers.

Legend: C channels, c boxes along them, L = C - c + 1 the length of a box; N taps along a spatial axis, n boxes along
it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from docs.figures.method_panels import Panel, Picture, matrix
from docs.figures.methods import INK, PAPER, draw  # chooses the backend
from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.structured.kernels import box_basis, box_length, compose_chains, kronecker_basis, relative_residual
from sconv_search.studies.methods import METHODS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images" / "mathematics"
COLORS = ("#0072B2", "#D55E00", "#009E73")
"""Okabe and Ito's, told apart by the color-blind."""
MARKERS = ("o", "s", "^")
Points = list[tuple[float, float]]


def chain_basis(length: int, count: int) -> Tensor:
    """The (length, count) basis that layers run in, by the function that spreads their coefficients."""
    return compose_chains(torch.eye(count, dtype=torch.float64), 1, length).T


def chains(length: int, count: int) -> Tensor:
    """Which positions belong to each chain, (L, length): those that leave the same remainder when divided by L."""
    box = box_length(length, count)
    return (torch.arange(length) % box == torch.arange(box)[:, None]).double()


def masks_picture(channels: int = 4, c: int = 3, taps: int = 3, n: int = 2) -> Picture:
    """The boxes along each axis, and the masks of a whole kernel: their Kronecker product."""
    masks = kronecker_basis((channels, taps, taps), (c, n, n)).T.reshape(c * n * n, channels, taps, taps)
    panels = (
        Panel(
            title=f"channels: T({channels}, {c})",
            cells=matrix(box_basis(channels, c).T),
            note=f"{c} boxes",
            scale="signs",
        ),
        Panel(title=f"height: T({taps}, {n})", cells=matrix(box_basis(taps, n).T), note=f"{n} boxes", scale="signs"),
        Panel(title=f"width: T({taps}, {n})", cells=matrix(box_basis(taps, n).T), note=f"{n} boxes", scale="signs"),
        Panel(
            title=f"the {len(masks)} masks of a kernel",
            cells=masks.transpose(0, 1),
            scale="signs",
            note=f"a column a mask, a row a channel with its {taps}x{taps} taps",
            rows=channels,
            columns=len(masks),
        ),
    )
    return Picture(name="masks", panels=panels, residual=0.0)


def chains_picture(channels: int = 7, c: int = 4) -> Picture:
    """Boxes, the chains that each of them meets once, and the basis of the same space that layers run in."""
    box = box_length(channels, c)
    panels = (
        Panel(
            title=f"{c} boxes of {box}",
            cells=matrix(box_basis(channels, c).T),
            note=f"{channels} channels",
            scale="signs",
        ),
        Panel(
            title=f"{box} chains", cells=matrix(chains(channels, c)), note=f"a box length apart: {box}", scale="signs"
        ),
        Panel(
            title="chain basis",
            cells=matrix(chain_basis(channels, c).T),
            note=f"{c - 1} differences, a box",
            scale="signs",
        ),
    )
    return Picture(name="chains", panels=panels, residual=0.0)


def additions(method: str, channels: int, counts: Sequence[int]) -> Points:
    """(c, additions a position) of built pointwise layers, as the trace of one input at one position counts them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(channels, 4, 1, bias=False)).eval()
    variant = {} if method == "structured_natural" else {"merged": 1}
    points = []
    for c in counts:
        plan = CompressionPlan(sites={"0": Choice(method=method, structure={"c": c, "n": 1, **variant})})
        points.append((float(c), float(measure_cost(METHODS[method].compress(network, plan), (channels, 1, 1)).adds)))
    return points


def residuals(n: int, counts: Sequence[int], filters: int = 64, channels: int = 64, taps: int = 3) -> Points:
    """(c / C, relative residual) of Gaussian kernels."""
    weights = torch.randn(
        filters, channels, taps, taps, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    return [(c / channels, float(relative_residual(weights, (c, n, n)))) for c in counts]


def expected_residual(share_of_channels: float, n: int, taps: int = 3) -> float:
    """The square root of the mean squared relative residual at Gaussian weights."""
    return float((1 - share_of_channels * n**2 / taps**2) ** 0.5)


def conditions(basis: str, sizes: Sequence[int]) -> Points:
    """(C, condition number) of the ``boxes`` or ``chains`` for c = C / 2."""
    make = {"boxes": box_basis, "chains": chain_basis}[basis]
    return [(float(size), float(torch.linalg.cond(make(size, size // 2)))) for size in sizes]


def plot(path: Path, lines: Mapping[str, Points], dots: Mapping[str, Points], x: str, y: str, *, log: str = "") -> None:
    """A chart of formulas as lines and of measured values as dots of the same colors, in turn.

    Args:
        log: the axes, of ``xy``, whose scale is logarithmic.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6), facecolor=PAPER)
    for (label, points), color in zip(lines.items(), COLORS, strict=False):
        axes.plot(*zip(*points, strict=True), color=color, label=label)
    for (label, points), color, marker in zip(dots.items(), COLORS[-len(dots) :], MARKERS, strict=False):
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, linestyle="", label=label, markersize=5)
    if "x" in log:
        axes.set_xscale("log", base=2)
    if "y" in log:
        axes.set_yscale("log")
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E3E6EA")
    axes.legend(frameon=False, fontsize=8, ncols=2 if len(lines) + len(dots) > 4 else 1)
    figure.tight_layout()
    figure.savefig(path, dpi=150, facecolor=PAPER)
    plt.close(figure)


def draw_additions(path: Path, channels: int = 512) -> None:
    """Additions a position of the channel sums against c: boxes summed one by one, chain basis, merged groups."""
    every, some = range(1, channels), [channels * step // 8 for step in range(1, 8)]
    lines = {
        "boxes one by one: c (L - 1)": [(float(c), float(c * (channels - c))) for c in every],
        "chain basis: C - 1": [(float(c), channels - 1.0) for c in every],
        "merged groups: C - c": [(float(c), float(channels - c)) for c in every],
    }
    dots = {
        "chain basis, built layers": additions("structured_natural", channels, some),
        "merged groups, built layers": additions("structured_conv", channels, some),
    }
    plot(path, lines, dots, f"c of C = {channels} channels", "additions a position", log="y")


def draw_residuals(path: Path) -> None:
    """What a structure leaves out of Gaussian kernels, expected and measured."""
    shares = [step / 64 for step in range(1, 65)]
    lines = {f"expected, n = {n}": [(share, expected_residual(share, n)) for share in shares] for n in (1, 2, 3)}
    dots = {f"measured, n = {n}": residuals(n, range(8, 65, 8)) for n in (1, 2, 3)}
    plot(path, lines, dots, "c / C", "relative residual")


def draw_conditions(path: Path) -> None:
    """How badly conditioned both bases are, by the number of channels."""
    sizes = [2**power for power in range(3, 12)]
    lines = {f"basis of {name}": conditions(name, sizes) for name in ("boxes", "chains")}
    plot(path, lines, {}, "C, with c = C / 2", "condition number", log="xy")


def main() -> None:
    """Draws everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder of the pictures (default: docs/images/mathematics)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for picture in (masks_picture(), chains_picture()):
        draw(picture, arguments.out / f"{picture.name}.png")
    draw_additions(arguments.out / "additions.png")
    draw_residuals(arguments.out / "residuals.png")
    draw_conditions(arguments.out / "conditions.png")


if __name__ == "__main__":
    main()
