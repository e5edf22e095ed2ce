"""The benchmark of start-up counts a process's own seconds, and imports by package."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.search.startup import CANDIDATES, milliseconds_by_package, processor_seconds, table

LOG = """import time: self [us] | cumulative | imported package
import time:      1500 |       1500 |   torch._C
import time:       500 |       2000 | torch
noise of the program
import time:      6000 |       6000 | rich.table
"""


def test_imports_are_summed_by_package() -> None:
    assert milliseconds_by_package(LOG) == {"torch": 2.0, "rich": 6.0}


def test_a_process_that_works_takes_processor_seconds_and_one_that_sleeps_takes_none() -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass"
    assert processor_seconds(["-c", work]) >= 0.3
    assert processor_seconds(["-c", "import time; time.sleep(0.3)"]) < 0.3


def test_a_process_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match="ends with 3: no"):
        processor_seconds(["-c", "import sys; print('no', file=sys.stderr); sys.exit(3)"])


def test_the_table_shows_bounds_and_the_dearest_imports() -> None:
    seconds = {candidate.name: [0.2, 0.3, 0.4] for candidate in CANDIDATES}
    imports = {candidate.name: Counter({"torch": 900, "rich": 20, "re": 1}) for candidate in CANDIDATES}
    lines = table(seconds, imports).splitlines()
    assert len(lines) == 2 + len(CANDIDATES)
    assert "| `sconv-search --help` | 0.30 (0.25–0.35) | 0.5 | torch 900, rich 20 |" in lines
