"""Cells are told apart, their page says what was run and what was not, and rows of seeds are averaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmarks.accuracy.claims import milliseconds
from benchmarks.accuracy.claims.cells import DENSE, MIXED, PLAN_A, SPATIAL_SVD, Cell, all_cells, merged, plan_of
from benchmarks.accuracy.claims.running import append, read_rows
from benchmarks.accuracy.claims.tables import draw, report
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.search_space.space import Option, SearchSpace

CELL = Cell(kind=SPATIAL_SVD, budget=45, epochs=1, rate=0.005)


def started(step: str, seconds: float, test: float) -> dict[str, Any]:
    known = {"kind": SPATIAL_SVD, "budget": 45, "flops": 0.446, "cpu_s": seconds}
    return {"step": step, **known, "validation": 89.0, "test": test}


def trained(cell: Cell, test: float) -> dict[str, Any]:
    return {"step": "trained", **cell.key(), "cpu_s": 120.0, "validation": 90.0, "test": test}


ROWS = [
    started("fitted", 6.0, 89.0),
    started("reconstructed", 60.0, 90.0),
    trained(CELL, 90.5),
    trained(replace(CELL, seed=1), 90.7),
]


def space(method: str, saved: int, damage: float) -> SearchSpace:
    options = (
        Option(
            choice=Choice(method=method, structure={"rank": 1}), cost=Cost(macs=-saved, adds=0, params=0), damage=damage
        ),
    )
    return SearchSpace(dense=Cost(macs=100, adds=0, params=10), sites={"a": options, "b": options})


def test_no_two_cells_are_alike() -> None:
    names = [cell.name for cell in all_cells()]
    assert len(set(names)) == len(names)


def test_seeds_are_averaged_and_minutes_add_up() -> None:
    page = report(ROWS)
    assert "| spatial SVD, fitted in sequence | 44.6 | none | 89.00 | −2.48 | 89.00 | 0.1 |" in page
    (line,) = [line for line in page.splitlines() if "2 seeds" in line]
    assert "90.60 ± 0.14 | −0.88 | 90.00 | 3.0 |" in line


def test_what_was_not_run_is_listed() -> None:
    page = report(ROWS)
    missing = page[page.index("## Not run") :]
    assert f"{len(all_cells()) - 1} of {len(all_cells())} cells" in missing
    assert CELL.name not in missing.splitlines()[2:]
    assert f"- {replace(CELL, epochs=5, rate=0.02).name}" in missing


def test_rows_are_kept_and_drawn(tmp_path: Path) -> None:
    for row in ROWS:
        append(tmp_path / "rows.jsonl", row)
    assert read_rows(tmp_path / "rows.jsonl") == ROWS
    draw(ROWS, tmp_path / "figure.svg")
    assert "minutes of one processor" in (tmp_path / "figure.svg").read_text()


def test_a_mixed_plan_takes_the_method_that_harms_a_layer_less() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    plan = plan_of(MIXED, 60, network, [space("structured_conv", 30, 0.3), space("spatial_svd", 30, 0.2)])
    assert {choice.method for choice in plan.sites.values()} == {"spatial_svd"}
    assert plan_of(DENSE, 100, network, ()).sites == {}
    assert plan_of(PLAN_A, 45, nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), ()).sites.keys() == {"1"}
    with pytest.raises(ValueError, match="no plan of mixed fits 10 %"):
        plan_of(MIXED, 10, network, [space("structured_conv", 30, 0.3)])


def test_spaces_are_merged_site_by_site() -> None:
    both = merged([space("structured_conv", 30, 0.3), space("spatial_svd", 30, 0.2)])
    assert [(option.choice.method, option.error) for option in both.sites["a"]] == [
        ("structured_conv", 0.3),
        ("spatial_svd", 0.2),
    ]


def test_what_decomposing_loses_is_told_by_the_weight_of_the_structural_loss() -> None:
    cell = Cell(kind=PLAN_A, budget=45, epochs=2, rate=0.02, weight=10.0, constant=True)
    row = {"step": "trained", **cell.key(), "residual": 0.01, "before": 91.5, "after": 91.4, "test": 91.0}
    rising = {**row, **replace(cell, constant=False).key(), "after": 90.0}
    page = report([*ROWS, row, rising])
    assert "| 10, constant | 0.0100 | 91.50 | 91.40 | 0.10 | 91.00 |" in page
    assert "| 10, rising | 0.0100 | 91.50 | 90.00 | 1.50 | 91.00 |" in page
    assert "structured, plan A, then" not in page, "not beside what is trained from fitted layers"
    assert cell.name not in page[page.index("## Not run") :]


def timed(method: str, mode: str, ms: float) -> dict[str, Any]:
    strength = "" if method == DENSE else "45 %"
    known = {"candidate": f"{method} {strength}".strip(), "method": method, "strength": strength, "mode": mode}
    macs = {"macs": 100 if method == DENSE else 45, "dense_macs": 100}
    spread = {"ms": [0.9 * ms, ms, 1.1 * ms], "batch": 16, "threads": 1, "rounds": 3, "facts": "- CPU: mine"}
    return {**known, **macs, **spread}


TIMES = [timed(DENSE, mode, 8.0) for mode in ("onnxruntime", "openvino")]
TIMES += [timed(SPATIAL_SVD, "onnxruntime", 4.0), timed(SPATIAL_SVD, "openvino", 5.0)]


def test_milliseconds_stand_beside_the_accuracy_of_the_longest_training(tmp_path: Path) -> None:
    later = [
        trained(replace(CELL, epochs=5, rate=0.02), 91.0),
        trained(replace(CELL, epochs=5, reconstructed=False), 0.0),
    ]
    page = milliseconds.page(TIMES, [*ROWS, *later])
    assert (
        "| spatial SVD 45 % | 45.0 | 4.000 [3.600, 4.400] | 2.00 | 5.000 [4.500, 5.500] | 1.60 | 91.00 (5 epochs) |"
        in page
    )
    assert "| dense | 100.0 | 8.000 [7.200, 8.800] | 1.00 | 8.000 [7.200, 8.800] | 1.00 |  |" in page
    assert milliseconds.longest(ROWS, SPATIAL_SVD, "25 %") is None
    worse = {**trained(replace(CELL, rate=0.02), 99.0), "validation": 80.0}
    assert milliseconds.longest([*ROWS, worse], SPATIAL_SVD, "45 %") == (90.6, 1), "the rate best on validation images"
    milliseconds.draw(TIMES, [*ROWS, *later], tmp_path / "ms.svg")
    assert (tmp_path / "ms.svg").stat().st_size > 1000


def test_the_networks_that_are_timed_are_those_of_the_plans(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no KIND-BUDGET/plan\.json; run the study first"):
        milliseconds.forms(tmp_path)
    plan = CompressionPlan(sites={"layer1.0.conv1": Choice(method="spatial_svd", structure={"rank": 4})})
    for kind, own in ((f"{SPATIAL_SVD}-45", plan), (f"{DENSE}-100", CompressionPlan(sites={}))):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "plan.json").write_text(own.to_json())
    dense, compressed = milliseconds.forms(tmp_path)
    assert (dense.method, compressed.name) == (DENSE, "spatial SVD 45 %")
    assert compressed.network is not None
    assert type(compressed.network.get_submodule("layer1.0.conv1")) is not nn.Conv2d
