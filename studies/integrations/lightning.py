"""Training towards a plan in a Lightning ``Trainer``."""

from __future__ import annotations

from typing import Any

from torch import nn

from sconv_search.plan import CompressionPlan
from sconv_search.studies.integrations.towards_plan import TowardsPlan
from sconv_search.system.packages import require_package

pl: Any = require_package("lightning.pytorch", "lightning", "the callback of Lightning needs")


class StructuralRegularization(pl.Callback):  # type: ignore[misc]  # the class is looked up when it is needed
    """Adds the structural regularization to a ``LightningModule``'s loss, logs residuals, and compresses at an epoch.

    The penalty's gradient is added before each step of an optimizer (after gradients of mixed precision are unscaled,
    before they are clipped), which is what adding the penalty to the loss does; the logged loss stays the module's own.
    Logged are ``structural_loss`` at each step, and ``residual/<layer>`` at the end of each epoch. At ``compress_at``
    layers are replaced in place; optimizers and their schedules go on with the new weights.

    Args:
        plan: names of layers are those in the module, or in its attribute ``network``.
        weight: of the penalty; it rises linearly from 0 to this at ``compress_at``.
        compress_at: the epoch, counted from 0, before which the layers are replaced; None never replaces them, and the
            weight rises to the last epoch.
        network: attribute of the module that holds the network, such as ``"model"``; None is the module itself.

    Raises:
        ValueError: at the start of the training: the epoch is beyond the last one, or the plan does not fit.
    """

    def __init__(
        self, plan: CompressionPlan, *, weight: float = 1.0, compress_at: int | None = None, network: str | None = None
    ) -> None:
        super().__init__()
        self.plan, self.weight, self.compress_at, self.attribute = plan, weight, compress_at, network
        self.towards: TowardsPlan | None = None

    def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Reads which channels share a sum from the weights as they are now."""
        if self.compress_at is not None and not 0 < self.compress_at < (trainer.max_epochs or 0):
            raise ValueError(
                f"compress_at must be within the {trainer.max_epochs} epochs, after 0; got {self.compress_at}"
            )
        network = pl_module.get_submodule(self.attribute) if self.attribute else pl_module
        self.towards = TowardsPlan(network, self.plan, self.weight)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Compresses where the epoch has come."""
        assert self.towards is not None
        if self.compress_at is not None and trainer.current_epoch >= self.compress_at and not self.towards.compressed:
            self.towards.compress_(trainer.optimizers)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Adds the penalty's gradient."""
        assert self.towards is not None
        if self.towards.compressed:
            return
        epochs = self.compress_at or trainer.max_epochs or 1
        progress = (trainer.current_epoch + self._part(trainer)) / epochs
        pl_module.log("structural_loss", self.towards.add_gradient_(progress))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Logs how far each layer is from its structure."""
        assert self.towards is not None
        residuals = self.towards.residuals()
        pl_module.log_dict({f"residual/{name}": value for name, value in residuals.items()})

    @staticmethod
    def _part(trainer: Any) -> float:
        """How much of the epoch is done, 0 to 1."""
        batches = trainer.num_training_batches
        return trainer.fit_loop.epoch_loop.batch_idx / batches if batches and batches != float("inf") else 0.0
