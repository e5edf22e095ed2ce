"""Training towards a plan in the real loops of Lightning and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import sconv_search as ss
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.studies.integrations.towards_plan import TowardsPlan

PLAN = ss.CompressionPlan(
    sites={
        "2": ss.Choice(method="structured_conv", structure={"c": 4, "n": 2}),
        "4": ss.Choice(method="weight_svd", structure={"rank": 3}),
    }
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 4))


def samples(count: int = 48) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randn(count, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1)
    return list(zip(images, labels, strict=True))


def test_the_gradient_is_that_of_the_penalty_in_the_loss() -> None:
    one, other = network(), network()
    x, y = (torch.stack(part) for part in zip(*samples(8), strict=True))
    penalty = ss.structural_loss(one, PLAN)
    (F.cross_entropy(one(x), y) + 0.5 * 0.25 * penalty()).backward()
    F.cross_entropy(other(x), y).backward()
    value = TowardsPlan(other, PLAN, 0.5).add_gradient_(0.25)
    assert value == pytest.approx(float(penalty().detach()))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_layers_are_replaced_in_place_and_optimizers_go_on() -> None:
    net = network()
    groups = [{"params": [net[0].weight, net[2].weight]}, {"params": [net[4].weight, net[0].bias], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    net(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    momentum = optimizer.state[net[0].weight]["momentum_buffer"].clone()
    towards = TowardsPlan(net, PLAN, 1.0)
    assert set(towards.residuals()) == {"2"}
    wanted = ss.compress(net, PLAN, None, net)
    towards.compress_([optimizer])
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(net(x), wanted(x))
    assert torch.equal(optimizer.state[net[0].weight]["momentum_buffer"], momentum)
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert {id(weight) for weight in (*net[2].parameters(), *net[4].parameters())} <= held
    assert optimizer.param_groups[1]["lr"] == 0.5
    assert any(weight is next(net[4].parameters()) for weight in optimizer.param_groups[1]["params"])
    assert towards.residuals() == {}
    assert towards.add_gradient_(1.0) == 0.0
    net(x).sum().backward()
    optimizer.step()


def test_what_cannot_be_done_in_a_training_is_refused() -> None:
    pruned = ss.CompressionPlan(sites={"0": ss.Choice(method="channel_pruning", structure={"keep": 4})})
    with pytest.raises(ValueError, match="channel_pruning changes other layers than its own"):
        TowardsPlan(network(), pruned, 1.0)
    with pytest.raises(ValueError, match="weight must be at least 0"):
        TowardsPlan(network(), PLAN, -1.0)
    with pytest.raises(KeyError):
        TowardsPlan(nn.Sequential(nn.Linear(2, 2)), PLAN, 1.0)


class Module(pl.LightningModule):
    """A user's own, with a network as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}


@pytest.fixture
def trainer() -> Any:
    def made(epochs: int, callback: Any) -> pl.Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return pl.Trainer(
            max_epochs=epochs, accelerator="cpu", callbacks=[callback], enable_model_summary=False, **quiet
        )

    return made


def test_lightning_trains_towards_the_plan_and_compresses(trainer: Any) -> None:
    callback = ss.lightning.StructuralRegularization(PLAN, weight=3.0, compress_at=3, network="model")
    module, seen = Module(), []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append((dict(trainer.callback_metrics), type(pl_module.model[2]).__name__))

    run = trainer(4, callback)
    run.callbacks.append(Watch())
    run.fit(module, DataLoader(samples(), batch_size=8))
    residuals = [float(metrics["residual/2"]) for metrics, _ in seen[:3]]
    assert residuals[2] < residuals[0]
    assert 0 <= float(seen[1][0]["structural_loss"]) <= 1
    assert [kind for _, kind in seen] == ["Conv2d"] * 3 + ["StructuredConv2d"]
    held = {id(weight) for group in run.optimizers[0].param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in module.parameters()}
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.1**4)


def test_lightning_refuses_an_epoch_beyond_the_last(trainer: Any) -> None:
    callback = ss.lightning.StructuralRegularization(PLAN, compress_at=4, network="model")
    with pytest.raises(ValueError, match="compress_at must be within the 4 epochs, after 0; got 4"):
        trainer(4, callback).fit(Module(), DataLoader(samples(8), batch_size=8))


class Classifier(nn.Sequential):
    """As transformers calls networks."""

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        logits = super().forward(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def test_transformers_trains_towards_the_plan_and_compresses(tmp_path: Path) -> None:
    callback = ss.transformers.StructuralRegularization(PLAN, weight=3.0, compress_at=3)
    model = Classifier(*network())
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=0.01,
        logging_steps=6,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    data = [{"x": image, "labels": label} for image, label in samples()]
    run = transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=[callback])
    run.train()
    logged = [line for line in run.state.log_history if "loss" in line]
    assert logged[2]["residual/2"] < logged[0]["residual/2"]
    assert 0 <= logged[0]["structural_loss"] <= 1
    assert "residual/2" not in logged[3]
    assert isinstance(model[2], StructuredConv2d)
    held = {id(weight) for group in run.optimizer.param_groups for weight in group["params"]}
    assert held == {id(weight) for weight in model.parameters()}
