from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search.data.splits import DataSet, Split
from sconv_search.reports.page import write_report
from sconv_search.studies import RunFolder, StudyContext, confirm, context_from_network, search_network
from sconv_search.training.evaluation import Score
from sconv_search.training.schedule import Schedule

QUICK = {
    "search_schedule": Schedule(epochs=0.5, batch_size=32),
    "confirm_schedule": Schedule(epochs=0.5, batch_size=32),
}


def test_a_network_and_its_data_are_searched_confirmed_and_continued(context: StudyContext, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in context.network.state_dict().items()}
    given = {"budget": "60%", "methods": ["spatial_svd"], "start": {**QUICK, "name": "corners"}}
    first = search_network(context.network, context.data, tmp_path / "run", trials=1, **given)
    records = search_network(context.network, context.data, tmp_path / "run", trials=2, **given)
    assert records[0] == first[0]
    assert [(r.task, r.status, r.test_score) for r in records] == [("corners", "complete", None)] * 2
    begun = context_from_network(context.network, context.data, name="corners", **QUICK)
    rows = confirm(begun, [RunFolder(tmp_path / "run")], seeds=1, most=1)
    assert {r.variant for r in rows} == {"dense", "dense_finetuned", "searched", "uniform"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in context.network.state_dict().items())


def test_the_users_own_training_and_score_take_the_place_of_ours(context: StudyContext, tmp_path: Path) -> None:
    trained: list[int] = []

    def train(network: nn.Module, data: DataSet, schedule: Schedule, *, seed: int, **options: object) -> None:
        trained.append(seed)

    def score(network: nn.Module, data: DataSet, split: Split) -> Score:
        return Score(value=float(sum(weight.numel() for weight in network.parameters()) % 97), loss=1.0)

    records = search_network(
        context.network,
        context.data,
        tmp_path / "run",
        methods=["spatial_svd"],
        trials=2,
        start={"train": train, "score": score},
    )
    assert len(trained) == 2
    assert all(r.val_score == (r.params or 0) % 97 for r in records)


def test_a_network_that_does_not_fit_the_data_is_refused(context: StudyContext) -> None:
    with pytest.raises(ValueError, match="fails on an input of shape"):
        context_from_network(nn.Linear(3, 4), context.data)


def test_another_network_is_another_study(context: StudyContext, tmp_path: Path) -> None:
    given = {"methods": ["spatial_svd"], "trials": 1, "start": QUICK}
    search_network(context.network, context.data, tmp_path / "run", **given)
    other = context_from_network(context.network, context.data).network
    nn.init.zeros_(next(other.parameters()))
    with pytest.raises(ValueError, match="holds another study: weights_sha256 was"):
        search_network(other, context.data, tmp_path / "run", **given)


class Spectral(nn.Module):
    """Ends in the magnitudes of a Fourier transform, which has no cost of its own."""

    def __init__(self, features: nn.Module, classes: nn.Module) -> None:
        super().__init__()
        self.features, self.classes = features, classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(torch.fft.fft2(self.features(x)).abs().mean((2, 3)))  # type: ignore[no-any-return]


def test_an_operator_counted_as_nothing_is_recorded_and_reported(context: StudyContext, tmp_path: Path) -> None:
    channels = context.task.input_shape[0]
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    network = Spectral(features, nn.Linear(8, context.data.train.classes))
    given = {"methods": ["spatial_svd"], "budget": "70%", "trials": 1, "start": QUICK}
    with pytest.raises(
        ValueError, match=r"no cost is known for aten::fft_fft2, run by the network itself \(Spectral\)"
    ):
        search_network(network, context.data, tmp_path / "refused", **given)
    counted = {**given, "count_free": ("aten::fft_fft2",)}
    (record,) = search_network(network, context.data, tmp_path / "run", **counted)
    assert (record.status, record.notes) == ("complete", "counted as nothing: aten::fft_fft2")
    folder = RunFolder(tmp_path / "run")
    spec = folder.read_spec()
    assert spec is not None
    assert spec.count_free == ("aten::fft_fft2",)
    rows = confirm(context_from_network(network, context.data, **QUICK), [folder], seeds=1, most=1)
    assert all(str(row.notes).startswith("counted as nothing: aten::fft_fft2") for row in rows)
    write_report([tmp_path / "run"], tmp_path / "report")
    page = (tmp_path / "report/summary.md").read_text(encoding="utf-8")
    assert "Costs leave out operators whose cost is not known, as was asked for: aten::fft_fft2 (run)." in page
