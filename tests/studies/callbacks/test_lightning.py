"""The Lightning callback with the real library: penalty, compression in the middle, resuming after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import sconv_search as ss

pytest.importorskip("lightning")
import lightning as L  # the library's own short name

PLAN = ss.CompressionPlan(sites={"0": ss.Choice(method="structured_conv", structure={"c": 2, "n": 2})})


class Module(L.LightningModule):
    """A tiny classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3))
        self.logged: dict[str, list[float]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.02, momentum=0.9)

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        self.logged.setdefault(name, []).append(float(value))


def loader() -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 4, 8, 8, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(32) % 3), batch_size=8)


def trained(module: Module, callback: L.Callback | None, folder: Path, epochs: int, **options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(
        max_epochs=epochs, callbacks=[callback] if callback else [], accelerator="cpu", default_root_dir=folder, **quiet
    )
    trainer.fit(module, loader(), **options)
    return trainer


def test_layers_come_near_their_structure_and_the_residuals_are_logged(tmp_path: Path) -> None:
    module, plain = Module(), Module()
    trained(plain, None, tmp_path, 4)
    trained(module, ss.lightning.StructuralRegularization(PLAN, weight=20.0), tmp_path, 4)
    distances = [float(ss.structural_loss(each.model, PLAN)()) for each in (module, plain)]
    assert distances[0] < 0.8 * distances[1]
    residuals = module.logged["structural_residual"]
    assert len(residuals) == 4
    assert residuals[-1] < residuals[0]
    assert module.logged["structural_weight"][-1] == 20.0
    assert isinstance(module.model[0], nn.Conv2d)


def test_the_network_is_compressed_at_its_epoch_and_trained_on(tmp_path: Path) -> None:
    module = Module()
    callback = ss.lightning.StructuralRegularization(PLAN, weight=5.0, compress_at=2)
    trainer = trained(module, callback, tmp_path, 4)
    assert isinstance(module.model[0], ss.StructuredConv2d)
    assert callback.compressed
    assert module.logged["structural_weight"][-1] == 5.0
    assert len(module.logged["structural_weight"]) == 2 * 4
    (optimizer,) = trainer.optimizers
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in module.parameters()}
    assert all("momentum_buffer" in optimizer.state[p] for p in module.parameters())


def test_a_training_resumes_after_compression(tmp_path: Path) -> None:
    def callback() -> L.Callback:
        return ss.lightning.StructuralRegularization(PLAN, weight=5.0, compress_at=1)

    whole = Module()
    trained(whole, callback(), tmp_path, 4)
    first = Module()
    trainer = trained(first, callback(), tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "middle.ckpt")
    second = Module()
    trained(second, callback(), tmp_path, 4, ckpt_path=str(tmp_path / "middle.ckpt"))
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], tensor)


def test_a_module_without_such_a_network_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Module has no module 'backbone' to compress.*one of: model"):
        trained(Module(), ss.lightning.StructuralRegularization(PLAN, network="backbone"), tmp_path, 1)


def test_an_epoch_beyond_the_last_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compress_at=2: the training has 2 epochs, the first of number 0"):
        trained(Module(), ss.lightning.StructuralRegularization(PLAN, compress_at=2), tmp_path, 2)


def test_an_epoch_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="compress_at is the number of an epoch, 0 for the first, got -1"):
        ss.lightning.StructuralRegularization(PLAN, compress_at=-1)
