"""docs/methods.md: its costs are those of built layers, its methods and pictures are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search import Choice, CompressionPlan
from sconv_search.cost.counting import measure_modules
from sconv_search.studies.methods import METHODS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")
FILTERS, CHANNELS, TAPS = 12, 10, 3
STRUCTURES: dict[str, list[dict[str, int]]] = {
    "structured_conv": [{"c": 4, "n": 3, "merged": 1}, {"c": 7, "n": 2, "merged": 1}, {"c": 10, "n": 2}],
    "structured_natural": [{"c": 4, "n": 3}, {"c": 7, "n": 2}],
    "structured_permuted": [{"c": 4, "n": 3, "permuted": 1}, {"c": 7, "n": 1, "permuted": 1}],
    "structured_signed": [{"c": 4, "n": 3, "signed_merged": 1}, {"c": 7, "n": 2, "signed_merged": 1}],
    "spatial_svd": [{"rank": 5}],
    "weight_svd": [{"rank": 5}],
    "tucker": [{"rank_in": 4, "rank_out": 7}],
    "cp": [{"rank": 5}],
    "channel_pruning": [{"keep": 5}],
}
SYMBOLS = {"rank": "R", "rank_in": "I", "rank_out": "J", "keep": "K", "c": "c", "n": "n"}
COSTS = re.findall(r"^\| `?(\w+)`? \| `([^`|]+)` \| `([^`|]+)` \| `([^`|]+)` \|$", PAGE, flags=re.MULTILINE)


def formulas() -> dict[str, tuple[str, ...]]:
    return {key: tuple(one.replace("·", "*").replace("²", "**2") for one in cells) for key, *cells in COSTS}


def cost_a_position(network: nn.Module) -> tuple[int, int, int]:
    """MACs and additions of layer 0 by the leading coefficient in the image's size, which borders do not touch;
    parameters.
    """
    found = [measure_modules(network, (CHANNELS, size, size))["0"] for size in (8, 9, 10)]
    macs, adds = ([getattr(cost, name) for cost in found] for name in ("macs", "adds"))
    return (macs[2] - 2 * macs[1] + macs[0]) // 2, (adds[2] - 2 * adds[1] + adds[0]) // 2, found[0].params


def layers() -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(CHANNELS, FILTERS, TAPS, padding=1, bias=False)
    return nn.Sequential(conv, nn.ReLU(), nn.Conv2d(FILTERS, 4, 1)).eval()


@pytest.mark.parametrize("key", METHODS)
@pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
def test_the_costs_of_the_page_are_those_of_built_layers(key: str) -> None:
    for structure in STRUCTURES[key]:
        plan = CompressionPlan(sites={"0": Choice(method=key, structure=structure)})
        known = {SYMBOLS[entry]: value for entry, value in structure.items() if entry in SYMBOLS}
        known |= {"O": FILTERS, "C": CHANNELS, "N": TAPS}
        expected = tuple(eval(formula, {"__builtins__": {}}, known) for formula in formulas()[key])
        assert cost_a_position(METHODS[key].compress(layers(), plan)) == expected, structure


def test_the_dense_cost_of_the_page_is_that_of_the_layer() -> None:
    known = {"O": FILTERS, "C": CHANNELS, "N": TAPS}
    assert cost_a_position(layers()) == tuple(eval(one, {"__builtins__": {}}, known) for one in formulas()["dense"])


def test_the_page_tells_of_every_method() -> None:
    assert set(formulas()) == {"dense", *METHODS}
    glance = re.findall(r"^\| `(\w+)` \| [^`]", PAGE, flags=re.MULTILINE)
    assert sorted(glance) == sorted(METHODS)
    for key, method in METHODS.items():
        (row,) = re.findall(rf"^\| `{key}` \| [^`].*$", PAGE, flags=re.MULTILINE)
        assert ("| yes |" in row) == method.regularizable


@pytest.mark.parametrize("key", METHODS)
def test_the_page_names_the_entries_of_a_structure(key: str) -> None:
    (entries,) = re.findall(rf"^\| `{key}` \| [^`|]+ \| ([^|]+) \|", PAGE, flags=re.MULTILINE)
    offered = METHODS[key].options(layers())
    assert {entry for structures in offered.values() for structure in structures for entry in structure} <= set(
        re.findall(r"`(\w+)`", entries)
    )


def test_every_picture_is_shown_and_every_shown_file_exists() -> None:
    shown = set(re.findall(r"\]\((images/methods/[^)]+)\)", PAGE))
    files = {str(path.relative_to(DOCS)) for path in (DOCS / "images" / "methods").iterdir()}
    assert shown == files
    assert all((DOCS / path).stat().st_size < 150_000 for path in files)
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", PAGE):
        assert (DOCS / link).exists(), link
