"""Training towards a plan in a Hugging Face ``Trainer``."""

from __future__ import annotations

from typing import Any

from torch import nn

from sconv_search.plan import CompressionPlan
from sconv_search.studies.integrations.towards_plan import TowardsPlan
from sconv_search.system.packages import require_package

library: Any = require_package("transformers", "transformers", "the callback of transformers needs")


class StructuralRegularization(library.TrainerCallback):  # type: ignore[misc]  # looked up when it is needed
    """Adds the structural regularization to a ``Trainer``'s loss, logs residuals, and compresses at an epoch.

    The penalty's gradient is added before each step of the optimizer, after gradients are clipped; the logged loss
    stays the trainer's own. ``structural_loss`` and ``residual/<layer>`` are added to what the trainer logs. At
    ``compress_at`` layers are replaced in place; the optimizer and its schedule go on with the new weights.

    Args:
        plan: names of layers are those in the model.
        weight: of the penalty; it rises linearly from 0 to this at ``compress_at``.
        compress_at: the epoch, counted from 0, before which the layers are replaced; None never replaces them, and the
            weight rises to the last epoch.

    Raises:
        ValueError: at the start of the training: the epoch is beyond the last one, the plan does not fit, or gradients
            are scaled (``fp16``; use ``bf16``).
    """

    def __init__(self, plan: CompressionPlan, *, weight: float = 1.0, compress_at: int | None = None) -> None:
        self.plan, self.weight, self.compress_at = plan, weight, compress_at
        self.towards: TowardsPlan | None = None
        self._value = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **others: Any) -> None:
        """Reads which channels share a sum from the weights as they are now."""
        if args.fp16:
            raise ValueError(
                "gradients are scaled with fp16=True, which the penalty's are not; use bf16=True, or neither"
            )
        if self.compress_at is not None and not 0 < self.compress_at < state.num_train_epochs:
            raise ValueError(
                f"compress_at must be within the {state.num_train_epochs} epochs, after 0; got {self.compress_at}"
            )
        self.towards = TowardsPlan(model, self.plan, self.weight)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, *, optimizer: Any, **others: Any) -> None:
        """Compresses where the epoch has come."""
        assert self.towards is not None
        due = self.compress_at is not None and round(state.epoch or 0) >= self.compress_at
        if due and not self.towards.compressed:
            self.towards.compress_([getattr(optimizer, "optimizer", optimizer)])

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Adds the penalty's gradient."""
        assert self.towards is not None
        epochs = self.compress_at or state.num_train_epochs or 1
        self._value = self.towards.add_gradient_((state.epoch or 0.0) / epochs)

    def on_log(
        self, args: Any, state: Any, control: Any, *, logs: dict[str, float] | None = None, **others: Any
    ) -> None:
        """Adds the penalty and how far each layer is from its structure to what is logged."""
        if self.towards is None or self.towards.compressed or logs is None:
            return
        named = {f"residual/{name}": value for name, value in self.towards.residuals().items()}
        named["structural_loss"] = self._value
        logs.update(named)
        if state.log_history:
            state.log_history[-1].update(named)
