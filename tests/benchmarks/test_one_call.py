"""Rows of the one-call benchmark: made once, and shown by network and method."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.zoo import one_call


def test_a_network_is_measured_and_its_row_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_call, "NETWORKS", ("timm:test_resnet?num_classes=4",))
    monkeypatch.setattr(one_call, "METHODS", ("weight_svd",))
    monkeypatch.setattr(one_call, "SIZE", 32)
    (row,) = one_call.add_rows(tmp_path / "rows.jsonl", 5.0)
    assert 0.3 < row["share"] <= 0.5
    assert row["seconds"] > 0
    assert list(one_call.add_rows(tmp_path / "rows.jsonl", 5.0)) == []
    shown = one_call.table(one_call.read_rows(tmp_path / "rows.jsonl"))
    assert f"{row['share']:.1%}, {row['seconds']:.0f} s" in shown


@pytest.mark.parametrize(
    ("reason", "cell"),
    [
        (
            "a budget of 10 flops (50.0% of dense) cannot be met: the cheapest plan needs 19 flops (95.3%)",
            "out of reach: 95.3%",
        ),
        ("no layer can be compressed", "refused"),
    ],
)
def test_a_budget_out_of_reach_is_told_with_the_cheapest_plan(reason: str, cell: str) -> None:
    name, method = one_call.NETWORKS[0], one_call.METHODS[0]
    shown = one_call.table({(name, method): {"network": name, "method": method, "seconds": 1.0, "reason": reason}})
    assert f"| {name} | {cell} |" in shown
