"""The callback of Hugging Face's Trainer with the real library: penalty, compression in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sconv_search as ss

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from transformers import Trainer, TrainingArguments

PLAN = ss.CompressionPlan(sites={"body.0": ss.Choice(method="structured_conv", structure={"c": 2, "n": 2})})


class Classifier(nn.Module):
    """A model of the form that a Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(6 * 36, 3)

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.body(pixel_values))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def examples() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"pixel_values": torch.randn(4, 8, 8, generator=generator), "labels": torch.tensor(k % 3)} for k in range(32)
    ]


def trained(callback: Any, folder: Path, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=0.02,
        optim="sgd",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        seed=0,
        **options,
    )
    callbacks = [] if callback is None else [callback]
    trainer = Trainer(model=Classifier(), args=arguments, train_dataset=examples(), callbacks=callbacks)
    trainer.train()
    return trainer


def test_layers_come_near_their_structure_and_the_residuals_are_logged(tmp_path: Path) -> None:
    plain = trained(None, tmp_path)
    regularized = trained(ss.transformers.StructuralRegularization(PLAN, weight=20.0), tmp_path)
    loss = float(ss.structural_loss(regularized.model, PLAN)())
    assert loss < 0.8 * float(ss.structural_loss(plain.model, PLAN)())
    residuals = [
        entry["structural_residual"] for entry in regularized.state.log_history if "structural_residual" in entry
    ]
    assert len(residuals) == 4
    assert residuals[-1] < residuals[0]


def test_the_model_is_compressed_at_its_epoch_and_trained_on(tmp_path: Path) -> None:
    callback = ss.transformers.StructuralRegularization(PLAN, weight=5.0, compress_at=2)
    trainer = trained(callback, tmp_path)
    assert callback.compressed
    assert isinstance(trainer.model.body[0], ss.StructuredConv2d)
    assert sum("structural_residual" in entry for entry in trainer.state.log_history) == 2
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.parameters()}


def test_scaled_gradients_are_refused(tmp_path: Path) -> None:
    callback = ss.transformers.StructuralRegularization(PLAN)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    arguments.fp16 = True
    with pytest.raises(ValueError, match="cannot add to gradients that fp16 scales; train with bf16"):
        callback.on_train_begin(arguments, None, None, model=Classifier())
