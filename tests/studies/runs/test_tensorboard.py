"""TensorBoard's logs hold the records' numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sconv_search.records import TrialRecord
from sconv_search.studies import RunFolder
from sconv_search.studies.runs.tensorboard import logged
from tests.studies.conftest import SMALL, Typed


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_a_search_and_its_confirmation_are_logged(typed: Callable[..., Typed], tmp_path: Path) -> None:
    run, logs = tmp_path / "run", tmp_path / "logs"
    assert typed("search", "--task", "corners", "--out", run, "--tensorboard", logs, *SMALL).status == 0
    records = RunFolder(run).records()[0]
    found = scalars(logs / "run")
    for name in ("val_score", "wall_s"):
        assert found[f"search/{name}"] == [(r.number, pytest.approx(getattr(r, name), rel=1e-6)) for r in records]
    shares = [(r.number, pytest.approx(100 * r.flops / r.dense_flops, rel=1e-6)) for r in records]
    assert found["search/flops_percent_of_dense"] == shares
    regularized = [(r.number, pytest.approx(r.regularization, rel=1e-6)) for r in records if r.regularization]
    assert found.get("search/regularization", []) == regularized
    confirm = ("confirm", run, "--seeds", 1, "--plans", 1, "--device", "cpu", "--tensorboard", logs)
    assert typed(*confirm).status == 0
    dense = next(r for r in RunFolder(run).records()[0] if r.variant == "dense")
    assert scalars(logs / "run" / "dense-seed0")["confirm/test_score"] == [
        (0, pytest.approx(dense.test_score, rel=1e-6))
    ]


def test_residuals_are_drawn_over_thousandths_of_an_epoch_and_what_is_missing_is_left_out(
    notes, tmp_path: Path
) -> None:
    course = json.dumps({"epochs": [0.0, 0.25], "sites": {"conv1": [0.5, 0.125]}})
    record = TrialRecord(
        study="s",
        task="t",
        stage="confirm",
        variant="searched",
        status="complete",
        number=7,
        seed=2,
        residual_course=course,
    )
    with logged(notes, tmp_path) as monitor:
        monitor.say("news")
        monitor.recorded(record)
    assert notes.lines == ["news"]
    assert scalars(tmp_path / "s" / "searched-7-seed2") == {"residual/conv1": [(0, 0.5), (250, 0.125)]}


def test_without_the_package_nothing_is_begun(
    typed: Callable[..., Typed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = typed("search", "--task", "corners", "--out", tmp_path / "run", "--tensorboard", tmp_path / "logs", *SMALL)
    assert said.status == 2
    assert "--tensorboard needs the package tensorboard, which is not installed; pip install 'sconv-search" in said.err
    assert not (tmp_path / "dense").exists()


def test_a_folder_that_cannot_be_written_is_named(notes, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"the TensorBoard folder '.*file/logs' cannot be written: Not a directory"):
        logged(notes, tmp_path / "file" / "logs").__enter__()
