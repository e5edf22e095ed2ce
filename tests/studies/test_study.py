"""Studies of a user's own network, loader, loss and score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sconv_search as ss
from sconv_search.training.evaluation import Score
from sconv_search.training.user_functions import UserScore

QUICK = ss.Schedule(epochs=1, learning_rate=0.01)


def blobs(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    images = torch.randn(count, 2, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1)
    return TensorDataset(images, labels)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()


def loss_on(data: TensorDataset) -> Callable[[nn.Module], float]:
    return lambda network: float(nn.functional.cross_entropy(network(data.tensors[0]), data.tensors[1]))


VAL_LOSS = ss.Metric("val loss", better="lower", unit="nat")


def study(tmp_path: Path, **changed: Any) -> ss.Study:
    given: dict[str, Any] = {
        "out": tmp_path / "run",
        "budget": "60%",
        "methods": ["spatial_svd"],
        "data": DataLoader(blobs(64, 0), 16, shuffle=True),
        "score": loss_on(blobs(48, 1)),
        "test": loss_on(blobs(48, 2)),
        "metric": VAL_LOSS,
        "loss": nn.functional.cross_entropy,
        "search_schedule": QUICK,
        "confirm_schedule": QUICK,
        **changed,
    }
    return ss.Study(classifier(), (2, 8, 8), **given)


def words(search: Callable[[], object], capfd: pytest.CaptureFixture[str]) -> str:
    capfd.readouterr()
    search()
    return capfd.readouterr().err


def test_scores_by_the_users_metric_are_recorded_searched_and_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = study(tmp_path, progress=True)
    said = words(lambda: mine.search(trials=3), capfd)
    assert f"dense network: val loss {loss_on(blobs(48, 1))(classifier()):.4g} nat, lower is better" in said
    records = mine.confirm(seeds=1, plans=1)
    assert {(r.metric, r.metric_unit, r.metric_better) for r in records} == {("val loss", "nat", "lower")}
    searched = [r for r in mine.folder.records()[0] if r.stage == "search"]
    best = mine.best()
    assert best.record.number == min(searched, key=lambda r: r.val_score or 0).number, "less is better"
    assert best.record.test_score == pytest.approx(loss_on(blobs(48, 2))(best.network), abs=1e-6)
    assert best.record.val_loss is None, "the user's function gives a score alone"
    assert best.network.cost.flops == best.record.flops
    assert best.plan.to_json() == best.record.plan
    assert mine.search(trials=3) == mine.folder.records()[0], "nothing is done again"


def shifted(data: TensorDataset) -> TensorDataset:
    return TensorDataset(data.tensors[0], (data.tensors[1] + 1) % 3)


def later(data: TensorDataset) -> TensorDataset:
    images = data.tensors[0].clone()
    images[32:] = 0
    return TensorDataset(images, data.tensors[1])


def untrained(network: nn.Module, penalty: Callable[[], Tensor], epochs: int) -> None:
    """Stands for a loop of the user's own."""


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"data": DataLoader(shifted(blobs(64, 0)), 16, shuffle=True)}, "another labels than before"),
    "later batches": ({"data": DataLoader(later(blobs(64, 0)), 16, shuffle=True)}, "another training data than before"),
    "loss": ({"loss": lambda outputs, labels: outputs.square().mean()}, "another loss than before"),
    "score": ({"score": lambda network: 0.5}, "another score than before"),
    "validation data": ({"score": loss_on(blobs(48, 5))}, "another score than before"),
    "fit": ({"loss": None, "fit": untrained}, "another loss than before; another fit than before"),
    "test": ({"test": None}, "another test than before"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of a study that was searched."""
    place = tmp_path_factory.mktemp("begun")
    study(place, samples=32).search(trials=1)
    return place


@pytest.mark.parametrize(("changed", "said"), OTHERS.values(), ids=OTHERS)
def test_a_folder_goes_on_with_the_same_functions_and_data_alone(
    begun: Path, changed: dict[str, Any], said: str
) -> None:
    mine = study(begun, **{"samples": 32, **changed})
    with pytest.raises(ValueError, match="holds another study: .*" + said):
        mine.search(trials=2)
    if said == "another labels than before":
        with pytest.raises(ValueError, match="was searched with other functions or data: .*" + said):
            mine.confirm(seeds=1)


def test_another_score_by_the_same_function_is_refused_unless_it_differs_each_time(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = study(begun).folder.read_spec()
    assert spec is not None
    assert spec.dense_score == pytest.approx(loss_on(blobs(48, 1))(classifier()))
    values = iter((5.0, 5.0, 6.0, 7.0))
    monkeypatch.setattr(UserScore, "__call__", lambda self, network, data, split: Score(value=next(values)))
    with pytest.raises(ValueError, match=r"the dense network scored .*, scores 5; name another"):
        study(begun, samples=32).search(trials=1)
    assert len(study(begun, samples=32).search(trials=1)) == 1


def test_the_argument_is_not_modified_and_later_changes_of_it_do_not_matter(tmp_path: Path) -> None:
    network = classifier()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    mine = study(tmp_path)
    mine.search(trials=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert mine.context.weights_sha256 == study(tmp_path).context.weights_sha256


def test_a_killed_training_goes_on_at_its_step_to_the_same_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Kill(BaseException):
        pass

    calls = 0

    def killing(outputs: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:  # one is the check before all work
            raise Kill
        return nn.functional.cross_entropy(outputs, labels)

    slow = ss.Schedule(epochs=3, learning_rate=0.05)
    whole = study(tmp_path / "whole", search_schedule=slow)
    whole.search(trials=1)
    broken = study(tmp_path / "broken", search_schedule=slow, loss=killing, progress=True)
    with pytest.raises(Kill):
        broken.search(trials=1, checkpoint_s=0)
    said = words(lambda: broken.search(trials=1, checkpoint_s=0), capfd)
    assert "resumed at step 5" in said
    assert calls == 7 + 7, "of 12 steps, five were done"
    (one,), (other,) = whole.folder.records()[0], broken.folder.records()[0]
    assert one.val_score == other.val_score


class Unrepeatable:
    """Batches in another order each time, whatever the seed."""

    def __init__(self) -> None:
        self.order = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        images, labels = blobs(64, 0).tensors
        return iter([(images[i], labels[i]) for i in torch.randperm(64, generator=self.order).split(16)])


def test_a_loader_that_cannot_be_replayed_resumes_at_the_epoch_and_that_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Kill(BaseException):
        pass

    calls = 0

    def killing(outputs: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise Kill
        return nn.functional.cross_entropy(outputs, labels)

    given: dict[str, Any] = {"search_schedule": ss.Schedule(epochs=3), "loss": killing, "progress": True}
    mine = study(tmp_path, data=Unrepeatable(), **given)
    with pytest.raises(Kill):
        mine.search(trials=1, checkpoint_s=0)
    again = study(tmp_path, data=Unrepeatable(), **given)
    said = words(lambda: again.search(trials=1, checkpoint_s=0), capfd)
    assert "continues at its last whole epoch" in said
    assert "resumed at step 4" in said
    assert [r.status for r in again.folder.records()[0]] == ["complete"]


def test_in_a_loop_of_the_users_the_penalty_rises_to_its_weight_and_epochs_are_whole(tmp_path: Path) -> None:
    seen: list[tuple[int, list[float]]] = []

    def fit(network: nn.Module, penalty: Callable[[], Tensor], epochs: int) -> None:
        assert network.training
        seen.append((epochs, [float(penalty().detach()) for _ in range(4 * epochs)]))

    mine = study(tmp_path, loss=None, fit=fit, methods=["structured_conv"], search_schedule=ss.Schedule(epochs=3))
    records = mine.search(trials=4)
    drawn = [r for r in records if r.regularization]
    assert drawn
    assert sum(epochs for epochs, _ in seen) == 3 * len(records)
    rising = [values for _, values in seen if values[-1] > 0]
    assert len(rising) == len(drawn)
    for values in rising:
        assert values == pytest.approx([values[-1] * (k + 1) / len(values) for k in range(len(values))], rel=1e-4)


def test_a_loop_that_forgets_the_penalty_ends_the_search_and_is_told(tmp_path: Path) -> None:
    mine = study(tmp_path, fit=lambda network, penalty, epochs: None, methods=["structured_conv"])
    with pytest.raises(RuntimeError, match=r"fit never called penalty\(\)"):
        mine.search(trials=9)


def test_without_a_test_function_the_record_says_so(tmp_path: Path) -> None:
    mine = study(tmp_path, test=None)
    mine.search(trials=1)
    (row,) = [r for r in mine.confirm(seeds=1, plans=1) if r.variant == "searched"]
    assert row.test_score == pytest.approx(row.val_score)
    assert "no test= was given" in (row.notes or "")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"loss": None}, ValueError, "give loss= a function of"),
        ({"score": 3}, TypeError, "score= must be a function"),
        ({"fit": lambda n, p, e: None, "search_schedule": ss.Schedule(epochs=0.5)}, ValueError, "whole epochs"),
        ({"data": iter([])}, TypeError, "can be read only once"),
        ({"data": None}, TypeError, "must be an iterable of batches"),
        ({"name": "a:b"}, ValueError, "neither ':' nor '@'"),
        ({"methods": ["spatial"]}, KeyError, "spatial_svd"),
        ({"sampler": "magic"}, ValueError, "'sampler' must be one of surrogate, tpe.*, got 'magic'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    tmp_path: Path, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        study(tmp_path, **changed)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"budget": "50"}, ValueError, "50"),
        ({"score": lambda network: None}, TypeError, "score= must return a number, got a value of type NoneType"),
        ({"score": lambda network: float("nan")}, ValueError, "score gives nan for the dense network"),
        ({"loss": lambda outputs, labels: 0.0}, ValueError, "the loss must give one number.*float"),
        ({"loss": lambda outputs, labels: outputs}, ValueError, r"of shape \(16, 3\)"),
        ({"data": [torch.zeros(4, 3, 8, 8)]}, ValueError, "fails"),
        ({"data": []}, ValueError, "holds no batch"),
    ],
)
def test_what_cannot_be_trained_or_scored_is_refused_before_the_space_is_measured(
    tmp_path: Path, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    mine = study(tmp_path, **changed)
    with pytest.raises(error, match=message):
        mine.search(trials=1)
    assert not mine.folder.has_space


def test_budgets_are_taken_as_compress_takes_them(tmp_path: Path) -> None:
    mine = study(tmp_path, budget={"macs": "70%", "params": "80%"})
    (record,) = mine.search(trials=1)
    dense = ss.measure_cost(classifier(), (2, 8, 8))
    assert (record.macs or 0) <= 0.7 * dense.macs
    assert (record.params or 0) <= 0.8 * dense.params
    assert record.budget == "70% macs, 80% params"


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.kind = nn.Embedding(5, 8)
        self.head = nn.Linear(16, 1)

    def forward(self, image: Tensor, kind: Tensor) -> dict[str, Tensor]:
        return {"value": self.head(torch.cat([self.image(image).mean((2, 3)), self.kind(kind)], 1)).squeeze(1)}


def test_networks_of_several_inputs_and_any_outputs_are_searched_and_confirmed(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [
        {
            "image": torch.randn(8, 1, 8, 8, generator=generator),
            "kind": torch.randint(0, 5, (8,), generator=generator),
            "y": torch.randn(8, generator=generator),
        }
        for _ in range(3)
    ]

    def inputs(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["kind"]

    def loss(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.mse_loss(outputs["value"], batch["y"])

    torch.manual_seed(0)
    mine = ss.Study(
        TwoInputs(),
        (torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long)),
        out=tmp_path / "run",
        data=batches,
        inputs=inputs,
        loss=loss,
        score=lambda network: float(loss(network(*inputs(batches[0])), batches[0])),
        metric=ss.Metric("squared error", better="lower"),
        budget="70%",
        methods=["structured_conv", "weight_svd"],
        search_schedule=QUICK,
        confirm_schedule=QUICK,
    )
    records = mine.search(trials=2)
    assert {r.status for r in records} == {"complete"}
    assert len({r.predicted_damage for r in records}) > 1, "the search is not blind"
    assert all(r.latency_ms for r in mine.confirm(seeds=1, plans=1))
    assert set(mine.best().network(*inputs(batches[1]))) == {"value"}


def test_studies_of_one_name_and_other_networks_or_metrics_are_told_apart(tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = nn.Sequential(*classifier(), nn.Identity())
    data = DataLoader(blobs(64, 0), 16)
    common: dict[str, Any] = {"data": data, "score": loss_on(blobs(48, 1)), "loss": nn.functional.cross_entropy}
    studies = [
        ss.Study(network, (2, 8, 8), out=tmp_path / "run", metric=metric, **common)
        for network in (classifier(), other)
        for metric in (VAL_LOSS, ss.Metric("loss"))
    ]
    assert {one.task.name for one in studies} == {"Sequential"}
    assert len({one.context.data_sha256 for one in studies}) == 4


def test_the_code_of_the_front_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    train_loader = DataLoader(blobs(32, 0), 16, shuffle=True)
    val_loader, test_loader = DataLoader(blobs(48, 1), 16), DataLoader(blobs(48, 2), 16)
    phases: list[tuple[int, float]] = []

    def miou(network: nn.Module, loader: DataLoader[Any]) -> float:
        return sum(int((network(x).argmax(1) == y).sum()) for x, y in loader) / 48

    def fit(network: nn.Module, penalty: Callable[[], Tensor], epochs: int) -> None:
        optimizer = torch.optim.SGD(network.parameters(), 0.01)
        for _ in range(epochs):
            for x, y in train_loader:
                optimizer.zero_grad()
                added = penalty()
                (nn.functional.cross_entropy(network(x), y) + added).backward()
                optimizer.step()
        phases.append((epochs, float(added.detach())))

    scope = {"ss": ss, "nn": nn, "network": network.eval(), "example": torch.zeros(1, 2, 8, 8), "fit": fit}
    scope |= {"train_loader": train_loader, "val_loader": val_loader, "test_loader": test_loader, "miou": miou}
    code = (Path(__file__).parent / "front_page.txt").read_text(encoding="utf-8")
    exec(compile(code, "front_page.txt", "exec"), scope)

    records = ss.RunFolder("runs/mine").records()[0]
    assert {r.status for r in records} == {"complete"}
    assert {r.seed for r in records if r.variant == "searched" and r.stage == "confirm"} == {0, 1, 2}
    assert {added > 0 for _, added in phases} == {True, False}, "with and without a penalty"
    assert {epochs for epochs, _ in phases} <= {1, 2, 5, 10}
    best = scope["study"].best()
    assert best.network.cost.flops <= 0.5 * best.network.dense_cost.flops
    assert best.record.test_score == pytest.approx(miou(best.network, test_loader))
    assert "score" in (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
