"""The speed benchmark: forms of equal MACs, rows that an interrupted run continues, tables made from rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import timing
from benchmarks.speed import candidates as speed_candidates
from benchmarks.speed import measuring as speed_measuring
from benchmarks.speed import network as network_speed
from benchmarks.speed.best import best
from benchmarks.speed.candidates import Candidate, Subject, at_equal_macs, structured_plan
from benchmarks.speed.figure import draw
from benchmarks.speed.measuring import measure
from benchmarks.speed.network import chosen, read
from benchmarks.speed.tables import glance, report, table
from benchmarks.timing import MEASURED_SECONDS, interleaved
from benchmarks.training.peak_memory import peak_mib
from sconv_search import measure_cost
from sconv_search.cost.timing import eager
from sconv_search.studies import compress

SHAPE = (3, 16, 16)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Flatten(2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    ).eval()


SUBJECT = Subject(make=tiny, shape=SHAPE, pointwise=True, multiple=1)


def test_the_structured_plans_leave_the_stem_and_linear_layers() -> None:
    mild = {
        name: dict(choice.structure) for name, choice in structured_plan(tiny(), "2x", pointwise=True).sites.items()
    }
    assert mild == {"3": {"c": 16, "n": 2}, "6": {"c": 16, "n": 1, "merged": 1}, "8": {"c": 1, "n": 2}}
    strong = {
        name: dict(choice.structure) for name, choice in structured_plan(tiny(), "4x", pointwise=False).sites.items()
    }
    assert strong == {"3": {"c": 8, "n": 2, "merged": 1}, "8": {"c": 1, "n": 2}}


@pytest.mark.parametrize("method", speed_candidates.BASELINES)
def test_other_methods_have_the_structured_networks_macs(method: str) -> None:
    network = tiny()
    macs = measure_cost(compress(network, structured_plan(network, "2x", pointwise=True)), SHAPE).macs
    found = at_equal_macs(method, network, SUBJECT, macs, "2x")
    assert found.network is not None
    assert measure_cost(found.network, SHAPE).macs == pytest.approx(macs, rel=0.1)


def test_what_a_method_cannot_reach_is_said() -> None:
    found = at_equal_macs("spatial_svd", tiny(), SUBJECT, 1000, "4x")
    assert (found.network, "0.0 M wanted" in found.reason) == (None, True)


def arguments(rows: Path) -> argparse.Namespace:
    return argparse.Namespace(
        network="tiny", modes=["eager"], dtypes=["fp32"], threads=[1], batch=[1, 2], rounds=2, rows=[rows], by_time=None
    )


def forms() -> list[Candidate]:
    network = tiny()
    structured = compress(network, structured_plan(network, "2x", pointwise=True))
    return [
        Candidate(method="dense", strength="", network=network),
        Candidate(method="structured", strength="2x", network=structured),
        Candidate(method="tucker", strength="2x", network=None, reason="too dear"),
    ]


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_speed, "SUBJECTS", {"tiny": SUBJECT})
    monkeypatch.setattr(network_speed, "candidates", lambda subject: forms())
    rows = tmp_path / "rows.jsonl"
    first = {"network": "tiny", "mode": "eager", "dtype": "fp32", "threads": 1, "batch": 1, "candidate": "dense"}
    rows.write_text(json.dumps(first) + "\n")
    network_speed.run(arguments(rows))
    found = read([rows])
    assert [(row["batch"], row["candidate"]) for row in found[1:]] == [
        (2, "dense"),
        (2, "structured 2x"),
        (2, "tucker 2x"),
    ]
    network_speed.run(arguments(rows))
    assert read([rows]) == found


def test_a_truncated_row_is_named(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"network": "tiny"}) + '\n{"network": "ti')
    with pytest.raises(SystemExit, match=r"rows\.jsonl, line 2 is not a row"):
        read([rows])


def test_forms_chosen_by_time_have_the_structured_forms_macs() -> None:
    structured = forms()[1].network
    assert structured is not None
    found = chosen(forms(), SUBJECT, ("fp32", 1, 2), "eager")
    assert [one.name for one in found] == ["structured_by_time 2x", "spatial_svd_by_time 2x"]
    for one in found:
        assert one.network is not None
        ratio = measure_cost(one.network, SHAPE).macs / measure_cost(structured, SHAPE).macs
        assert 1 <= ratio <= speed_candidates.NEAR


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["eager", "onnxruntime", "openvino"])
def test_a_go_in_every_mode_but_compiled(mode: str) -> None:
    if mode != "eager":
        pytest.importorskip(mode)
    dense, structured, missing = measure([("tiny", mode, "fp32", 1, 2)], forms(), SUBJECT, 2)
    assert dense["macs"] == dense["dense_macs"] > structured["macs"]
    assert sum(structured["implementations"].values()) == 3
    assert structured["ms"] == sorted(structured["ms"])
    assert (missing["reason"], "ms" in missing) == ("too dear", False)


def test_modes_are_timed_in_turn_with_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own speed drifts, and a mode that had its turn later would seem faster or slower than it is."""
    asked: list[list[str]] = []

    def interleaved(runs: dict[str, object], rounds: int) -> dict[str, list[float]]:
        asked.append(list(runs))
        return {name: [float(place)] * rounds for place, name in enumerate(runs, start=1)}

    monkeypatch.setattr(speed_measuring, "MODES", {"first": eager, "second": eager})
    monkeypatch.setattr(speed_measuring, "interleaved", interleaved)
    rows = measure([("tiny", mode, "fp32", 1, 2) for mode in ("first", "second")], forms(), SUBJECT, 2)
    assert asked == [["first: dense", "first: structured 2x", "second: dense", "second: structured 2x"]]
    assert [(row["mode"], row["candidate"], row["ms"][1]) for row in rows if "ms" in row] == [
        ("first", "dense", 1000),
        ("first", "structured 2x", 2000),
        ("second", "dense", 3000),
        ("second", "structured 2x", 4000),
    ]


@pytest.mark.filterwarnings("ignore")
def test_a_runtime_of_fp32_alone_says_so() -> None:
    pytest.importorskip("onnxruntime")
    (row, *_) = measure([("tiny", "onnxruntime", "bf16", 1, 2)], forms(), SUBJECT, 2)
    assert "fp32 alone" in row["reason"]


@pytest.mark.parametrize(
    ("mode", "has", "words"), [("openvino", False, "no bf16"), ("openvino", True, ""), ("eager", False, "")]
)
def test_bf16_by_openvino_is_left_out_where_the_cpu_has_none(
    mode: str, has: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_measuring, "openvino_has_bf16", lambda: has)
    reason = speed_measuring._no_bf16(mode)
    assert words in reason
    assert bool(reason) == bool(words)


def row(candidate: str, mode: str, macs: int, ms: float) -> dict[str, object]:
    known = {
        "network": "tiny",
        "dtype": "fp32",
        "threads": 1,
        "batch": 16,
        "rounds": 3,
        "dense_macs": 1000,
        "params": 10,
        "flops": 1,
    }
    timed = {"ms": [ms, ms, ms], "peak_mib": None, "implementations": {"1x1": 3}}
    return {**known, **timed, "candidate": candidate, "mode": mode, "macs": macs}


ROWS = [
    row("dense", "eager", 1000, 8.0),
    row("structured 2x", "eager", 500, 4.0),
    row("dense", "compiled", 1000, 6.0),
    row("structured 2x", "compiled", 500, 5.0),
]


def test_the_tables_speak_of_the_same_mode_and_of_the_best(tmp_path: Path) -> None:
    assert "| structured 2x | 2.00 | 4.00 (4.00–4.00) | 2.00 | 1.00 |" in table(ROWS[:2])
    assert best(ROWS)[1].cells() == (
        "tiny",
        "fp32",
        1,
        16,
        "structured 2x",
        "2.00",
        "1.50",
        "0.75",
        "eager",
        "compiled",
        "",
    )
    text = report(ROWS)
    assert glance(ROWS).splitlines()[2:] == ["| tiny | fp32 | 1 | 16 | 1.50 |  |"]
    assert text.index("## Each form in its best mode") < text.index("## tiny, eager, fp32, 1 thread, batch 16")
    draw(ROWS, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_dense_forms_timed_again_tell_the_noise() -> None:
    assert "timed again" not in report(ROWS)
    dense = {**row("structured 2x", "eager", 500, 10.0), "implementations": {"dense": 3}}
    assert "timed again: 0.80 of its speed is noise." in report([ROWS[0], dense])
    partly = {**dense, "implementations": {"dense": 2, "1x1": 1}}
    assert "timed again" not in report([ROWS[0], partly])


def test_modes_of_two_runs_are_not_compared(tmp_path: Path) -> None:
    later = [{**row, "run": "later", "ms": [4 * ms for ms in row["ms"]]} for row in ROWS[2:]]
    assert [line.cells()[6:] for line in best(ROWS[:2] + later)] == [
        ("1.00", "1.00", "eager", "eager", ""),
        ("2.00", "1.00", "eager", "eager", ""),
        ("1.00", "1.00", "compiled", "compiled", "later"),
        ("1.20", "0.60", "compiled", "compiled", "later"),
    ]
    once_more = [{**row, "run": "later"} for row in ROWS[:2]]
    assert "## tiny, eager, fp32, 1 thread, batch 16, run of later\n" in report(ROWS + once_more)
    assert "run of later" not in report(ROWS[:2] + later), "each was measured once"
    chosen_later = {**later[1], "candidate": "structured_by_time 2x"}
    draw([*ROWS[:2], *later, chosen_later], tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "structured_by_time" in drawn, "the legend names a method that the first panel lacks"
    assert "tiny, eager" in drawn
    assert "tiny, compiled" in drawn


def test_candidates_are_measured_in_turn_each_round_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def seconds_of(run: partial[str], calls: int = 1, *, attempts: int = 1) -> float:
        measured.extend(run.args)
        return MEASURED_SECONDS

    monkeypatch.setattr(timing, "seconds_of", seconds_of)
    found = interleaved({name: partial(str, name) for name in "abcd"}, 6)
    rounds = [
        "".join(measured[start : start + 4]) for start in range(4, len(measured), 4)
    ]  # before: how many calls last long
    assert {"".join(sorted(one)) for one in rounds} == {"abcd"}, "each once a round"
    assert len(set(rounds)) > 3
    assert found == dict.fromkeys("abcd", [MEASURED_SECONDS] * 6)


def test_what_ran_before_a_candidate_does_not_show_in_its_time(hindered: dict[str, Callable[[], None]]) -> None:
    assert interleaved(hindered, 5) == dict.fromkeys(hindered, pytest.approx([0.002] * 5))


def test_the_peak_is_that_of_the_work() -> None:
    _, _, small = peak_mib(lambda: torch.ones(2**20))
    _, _, large = peak_mib(lambda: torch.ones(64 * 2**20).sum())
    assert small < 64 < large < 400
