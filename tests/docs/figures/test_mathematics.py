"""What the pictures of docs/mathematics.md say, as numbers; and that the page and its pictures belong together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from docs.figures.mathematics import (
    additions,
    chain_basis,
    chains,
    chains_picture,
    conditions,
    expected_residual,
    masks_picture,
    residuals,
)
from sconv_search.structured.kernels import box_basis

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "mathematics.md").read_text(encoding="utf-8")


def test_the_masks_are_every_product_of_one_box_an_axis() -> None:
    channels, height, width, masks = (panel.cells for panel in masks_picture().panels)
    product = torch.einsum("ac,bh,dw->cabdhw", *(boxes[:, :, 0, 0] for boxes in (channels, height, width)))
    assert torch.equal(masks, product.flatten(1, 3))
    assert masks.shape == (4, 12, 3, 3)


def test_every_box_meets_every_chain_once() -> None:
    boxes, found, _ = (panel.cells[:, :, 0, 0] for panel in chains_picture().panels)
    assert torch.equal(found @ boxes.T, torch.ones(4, 4, dtype=torch.float64))
    assert torch.equal(chains(7, 4).sum(0), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize(("length", "count"), [(7, 4), (9, 2), (6, 5)])
def test_the_chain_basis_spans_the_boxes(length: int, count: int) -> None:
    both = torch.cat([chain_basis(length, count), box_basis(length, count)], dim=1)
    assert torch.linalg.matrix_rank(both) == torch.linalg.matrix_rank(chain_basis(length, count)) == count


def test_built_layers_make_the_additions_of_the_formulas() -> None:
    counts = (1, 5, 12, 15)
    assert additions("structured_natural", 16, counts) == [(c, 16 - 1) for c in counts]
    assert additions("structured_conv", 16, counts) == [(c, 16 - c) for c in counts]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gaussian_kernels_leave_out_what_is_expected(n: int) -> None:
    for share, found in residuals(n, (8, 32, 56)):
        assert found == pytest.approx(expected_residual(share, n), abs=0.01)


def test_the_page_quotes_the_condition_numbers_that_are_drawn() -> None:
    for basis in ("boxes", "chains"):
        ((_, found),) = conditions(basis, [512])
        assert f"{found:.0f}" in PAGE


def test_every_picture_is_shown_and_every_shown_file_exists() -> None:
    shown = set(re.findall(r"\]\((images/mathematics/[^)]+)\)", PAGE))
    assert shown == {str(path.relative_to(DOCS)) for path in (DOCS / "images" / "mathematics").iterdir()}
