"""What the sections say of what they show."""

from __future__ import annotations

from sconv_search.reports import summarize
from sconv_search.reports.analysis.method_comparison import verdicts
from sconv_search.reports.figures.search_progress import hypervolumes
from sconv_search.reports.sections.task import hypervolume_against_verdict
from tests.reports.conftest import DENSE_FLOPS, SCORES, confirm, to_table

TASK = "cifar10/resnet20"


def said(cheap_score: float | None) -> list[str]:
    """Of structured convolutions with one good plan, and spatial SVD with a good one and maybe a cheap one."""
    rows = [confirm(91.0 + seed / 10, seed, plan="P", budget="50% flops", flops=DENSE_FLOPS // 2) for seed in range(2)]
    svd = {"methods": "spatial_svd"}
    rows += [confirm(90.0, plan="Q", budget="50% flops", flops=DENSE_FLOPS // 2, **svd)]
    if cheap_score is not None:
        rows += [confirm(cheap_score, plan="R", budget="25% flops", flops=DENSE_FLOPS // 4, **svd)]
    table = to_table(rows)
    summary = summarize(table)
    return hypervolume_against_verdict(hypervolumes(table, summary, TASK, SCORES), verdicts(table, summary))


def test_a_hypervolume_that_contradicts_the_verdict_says_why() -> None:
    (text,) = said(80.0)
    assert text.startswith("By hypervolume spatial SVD comes first, at 50 % FLOPs structured convolution does.")
    assert "spatial SVD: 2 plans from 25.0 to 50.0 % of the FLOPs; structured convolution: 1 plan at 50.0 %" in text


def test_one_that_agrees_needs_no_words() -> None:
    assert said(None) == []
