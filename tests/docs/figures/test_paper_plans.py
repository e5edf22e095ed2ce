"""docs/papers-plans.md: its table is what the code counts."""

from __future__ import annotations

import re

import pytest

from docs.figures.paper_plans import COLUMNS, FAMILIES, PAGE, counts, names, row, table, with_table
from sconv_search.structured.paper_plans import PAPER_PLANS

TEXT = PAGE.read_text(encoding="utf-8")
LINES = re.findall(r"^\| (?:`([\w/]+)`|([\w/]+), dense) \| (\d+ × .*) \|$", TEXT, flags=re.MULTILINE)
SMALL = ("cifar/resnet20", "cifar/resnet20/A", "cifar/mobilenet_v2", "cifar/mobilenet_v2/A")


def line(name: str) -> str:
    return f"| {' | '.join(row(name, counts(name)))} |"


def test_the_table_has_every_network_and_every_plan() -> None:
    assert [plan or dense for plan, dense, _ in LINES] == list(names())
    assert set(names()) == {*PAPER_PLANS, *FAMILIES}
    assert f"| {' | '.join(COLUMNS)} |" in TEXT


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SMALL else pytest.mark.slow) for n in names()])
def test_each_line_is_what_the_code_counts(name: str) -> None:
    assert line(name) in TEXT.splitlines()


def test_the_table_is_written_between_its_marks_alone() -> None:
    found = table(["cifar/resnet20"])
    written = with_table(TEXT, found)
    assert f"\n\n{found}\n\n" in written
    assert "`cifar/resnet20/A` |" not in written
    before, after = written.split(found)
    assert TEXT.startswith(before)
    assert TEXT.endswith(after)
    with pytest.raises(ValueError, match="the page lacks the mark"):
        with_table("# A page", found)
