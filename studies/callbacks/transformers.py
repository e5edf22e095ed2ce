"""A callback of the Hugging Face ``Trainer``: its model trains towards a plan, and is compressed at an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sconv_search.plan import CompressionPlan
from sconv_search.studies.callbacks.regularized_training import RegularizedTraining, adopt_, follow_
from sconv_search.system.packages import require_package

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
else:
    TrainerCallback = require_package("transformers", "transformers", "sconv_search.transformers needs").TrainerCallback


class StructuralRegularization(TrainerCallback):
    """Adds the plan's penalty to what a ``Trainer`` learns, logs how far the layers are from their structure
    (``structural_residual``, their mean), and compresses the model.

    The penalty's gradient is added before each step of the optimizer, so the loss stays as it is. After compression the
    optimizer goes on with the new layers, in its groups and at its learning rate. A training that is resumed from a
    checkpoint has to be resumed before it was compressed.

    Args:
        plan: for layers by their names in the model.
        weight: of the penalty, which rises linearly from 0 up to it until compression.
        compress_at: epoch before which the model is compressed, 0 for the first; None leaves it dense.
        calibration: inputs (N, ...) to which the compressed layers are fitted, for models that are called with one
            tensor; None fits to the weights alone.

    Raises:
        ValueError: the weight or the epoch is out of range.
    """

    def __init__(
        self,
        plan: CompressionPlan,
        *,
        weight: float = 1.0,
        compress_at: float | None = None,
        calibration: Tensor | None = None,
    ) -> None:
        if compress_at is not None and not compress_at >= 0:
            raise ValueError(f"compress_at is the number of an epoch, 0 for the first, got {compress_at}")
        self.plan, self.weight, self.compress_at, self.calibration = plan, weight, compress_at, calibration
        self.compressed = False
        self._training: RegularizedTraining | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Takes the dense model's weights as what the training started from.

        Raises:
            ValueError: the training scales its gradients (fp16), or several processes would have to compress together.
        """
        if args.fp16:
            raise ValueError("StructuralRegularization cannot add to gradients that fp16 scales; train with bf16")
        if self.compress_at is not None and args.world_size > 1:
            raise ValueError(
                f"compress_at={self.compress_at}: {args.world_size} processes cannot compress in the middle of a "
                "training; leave it out and compress after it"
            )
        if self.compress_at is not None and args.max_steps <= 0 and self.compress_at >= args.num_train_epochs:
            raise ValueError(f"compress_at={self.compress_at}: the training has {args.num_train_epochs:g} epochs")
        self._training = RegularizedTraining(
            given["model"], self.plan, weight=self.weight, calibration=self.calibration
        )

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Compresses the model if its epoch has come."""
        if self._training is None or self.compress_at is None or round(state.epoch or 0.0, 6) < self.compress_at:
            return
        model: nn.Module = given["model"]
        before = dict(model.named_parameters())
        adopt_(model, self._training.compressed(model))
        follow_(_unwrapped(given["optimizer"]), before, model)
        self._training, self.compressed = None, True

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Adds the penalty's gradient."""
        if self._training is None:
            return
        epochs = args.num_train_epochs if self.compress_at is None else self.compress_at
        steps = state.max_steps * min(1.0, epochs / args.num_train_epochs)
        self._training.add_gradient_((state.global_step + 1) / max(steps, 1), _unwrapped(given["optimizer"]))

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Logs the residuals into the trainer's history."""
        if self._training is not None and (residuals := self._training.residuals()):
            mean = sum(residuals.values()) / len(residuals)
            state.log_history.append({"structural_residual": mean, "epoch": state.epoch, "step": state.global_step})


def _unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer within that of accelerate."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
