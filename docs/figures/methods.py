"""Draws the pictures of docs/methods.md: what each method does to a trained kernel. ``method_panels`` has the
numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from docs.figures.method_panels import Panel, Picture, mixed_costs, pictures, trained_subject

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from sconv_search.reports.drawing.styles import styles

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images" / "methods"
COLORS = LinearSegmentedColormap.from_list("blue-orange", ["#00497A", "#0072B2", "#F7F7F7", "#D55E00", "#7F3300"])
"""Blue below zero, orange above: Okabe and Ito's pair, told apart by the color-blind."""
SIGNS = LinearSegmentedColormap.from_list("signs", ["#0072B2", "#E3E6EA", "#D55E00"])
NOTHING, PAPER, INK = "#C9CDD2", "white", "#1F2328"
"""An opaque card: readable on a white page and on a dark one."""
INCH, GAP, EDGE, HEAD, FOOT = 1 / 26, 0.28, 0.12, 0.3, 0.26
"""Inches that one value takes, between panels, around them, above and below them."""
TITLE_LETTER, NOTE_LETTER = 0.082, 0.063
"""Inches of a letter, on average."""
EXPANDED = 2
"""Values a side as which one of a panel of 1x1 cells is drawn."""


def drawn(panel: Panel) -> Tensor:
    """The cells that are drawn, 1x1 ones enlarged; which channels are summed, as wide as their 3x3 cells."""
    cells = panel.cells.detach().double()[: panel.rows, : panel.columns]
    times = 3 if panel.scale == "signs" else 1 if max(cells.shape[2:]) > 1 else EXPANDED
    return cells.repeat_interleave(times, 2).repeat_interleave(times, 3)


def sheet(cells: Tensor) -> Tensor:
    """Cells (rows, columns, height, width) as one image with a line of nothing between neighboring cells."""
    rows, columns, height, width = cells.shape
    image = torch.full((rows * (height + 1) - 1, columns * (width + 1) - 1), torch.nan, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            image[row * (height + 1) :, column * (width + 1) :][:height, :width] = cells[row, column]
    return image


def limit(panel: Panel, common: float) -> float:
    """The value of the darkest color."""
    cells = panel.cells[~panel.cells.isnan()]
    return {"kernel": common, "own": float(cells.abs().max()), "signs": 1.0}[panel.scale]


def _draw_panel(axes: Axes, panel: Panel, common: float) -> None:
    colors = (SIGNS if panel.scale == "signs" else COLORS).copy()
    colors.set_bad(NOTHING if panel.cells.isnan().any() else PAPER)
    most = limit(panel, common)
    axes.imshow(sheet(drawn(panel)).numpy(), cmap=colors, vmin=-most, vmax=most, interpolation="nearest")
    axes.set_axis_off()


def draw(picture: Picture, path: Path) -> None:
    """Writes the picture; kernels of the trained size share one scale of colors."""
    common = float(picture.panels[0].cells.abs().max()) * 0.8  # a single large value would leave the others pale
    sizes = [[length * INCH for length in sheet(drawn(panel)).shape] for panel in picture.panels]
    words = [max(TITLE_LETTER * len(panel.title), NOTE_LETTER * len(panel.note)) for panel in picture.panels]
    widths = [max(wide, said) for (_, wide), said in zip(sizes, words, strict=True)]
    total = sum(widths) + GAP * (len(widths) - 1) + 2 * EDGE
    height = max(high for high, _ in sizes) + HEAD + FOOT + 2 * EDGE
    figure = plt.figure(figsize=(total, height), facecolor=PAPER)
    left, top = EDGE, height - EDGE - HEAD
    for panel, (high, wide), room in zip(picture.panels, sizes, widths, strict=True):
        axes = figure.add_axes((left / total, (top - high) / height, wide / total, high / height))
        _draw_panel(axes, panel, common)
        figure.text(left / total, (top + 0.07) / height, panel.title, fontsize=9, color=INK, weight="bold")
        figure.text(left / total, (top - high - 0.18) / height, panel.note, fontsize=8, color=INK)
        left += room + GAP
    figure.savefig(path, dpi=150, facecolor=PAPER)
    plt.close(figure)


def draw_mixed(costs: Mapping[str, tuple[str, int, int]], path: Path) -> None:
    """Writes the picture of a mixed plan: each layer's MACs before and after, colored by its method."""
    colors = {name: color for name, (color, _) in styles(method for method, *_ in costs.values() if method).items()}
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(costs) + 0.7), facecolor=PAPER)
    for index, (method, before, after) in enumerate(costs.values()):
        axes.barh(index, before / 1e6, height=0.72, color="#E3E6EA")
        axes.barh(index, after / 1e6, height=0.44, color=colors.get(method, "#7A828C"))
        said = f"{method or 'no choice'}: {after / before:.0%}"
        axes.text(before / 1e6 + 0.01, index, said, va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(costs)), [f"layer {site}" for site in costs], fontsize=8, color=INK)
    axes.set_xlim(0, 1.3 * max(before for _, before, _ in costs.values()) / 1e6)
    axes.invert_yaxis()
    axes.set_xlabel("million MACs; gray: before, colored: after", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=160, facecolor=PAPER)
    plt.close(figure)


def main() -> None:
    """Trains the network, draws everything and prints the residuals that docs/methods.md quotes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder of the pictures (default: docs/images/methods)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    subject = trained_subject()
    for make in pictures(subject):
        picture = make()
        draw(picture, arguments.out / f"{picture.name}.png")
        print(f"{picture.name}: residual {picture.residual:.2f}")
    draw_mixed(mixed_costs(subject.network), arguments.out / "mixed.png")


if __name__ == "__main__":
    main()
