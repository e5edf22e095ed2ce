"""A callback of Lightning: a ``LightningModule`` trains towards a plan, and is compressed at an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sconv_search.plan import CompressionPlan
from sconv_search.studies.callbacks.regularized_training import RegularizedTraining, adopt_, follow_
from sconv_search.studies.methods import compress
from sconv_search.system.packages import require_package

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    Callback = require_package("lightning.pytorch", "lightning", "sconv_search.lightning needs").Callback


class StructuralRegularization(Callback):
    """Adds the plan's penalty to what a ``LightningModule`` learns, logs how far its layers are from their structure
    (``structural_residual``, their mean) and how much the penalty weighs, and compresses the network.

    The penalty's gradient is added before each step of the optimizer, so the module's own loss stays as it is. Several
    processes that train together add the same. After compression the optimizers go on with the new layers, in their
    groups and at their learning rate.

    Args:
        plan: for layers by their names in the network, such as ``ss.compress(network, example, budget="50%").plan``.
        weight: of the penalty, which rises linearly from 0 up to it until compression.
        network: the module's attribute that holds the network.
        compress_at: epoch before which the network is compressed, 0 for the first; None leaves it dense: compress it
            after training with ``ss.compress(network, example, plan)``.
        calibration: inputs (N, ...) to which the compressed layers are fitted; None fits to the weights alone.

    Raises:
        ValueError: the weight or the epoch is out of range; at the start of the training where only that knows.
    """

    def __init__(
        self,
        plan: CompressionPlan,
        *,
        weight: float = 1.0,
        network: str = "model",
        compress_at: int | None = None,
        calibration: Tensor | None = None,
    ) -> None:
        if compress_at is not None and compress_at < 0:
            raise ValueError(f"compress_at is the number of an epoch, 0 for the first, got {compress_at}")
        self.plan, self.weight, self.network, self.compress_at = plan, weight, network, compress_at
        self.calibration = calibration
        self.compressed = False
        self._training: RegularizedTraining | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes ready for a checkpoint of a time after compression, in whose form the network then is put first.

        Raises:
            ValueError: the module has no such network, or several processes would have to compress together.
        """
        network, load = self._network(pl_module), pl_module.on_load_checkpoint
        if self.compress_at is not None and trainer.world_size > 1:
            raise ValueError(
                f"compress_at={self.compress_at}: {trainer.world_size} processes cannot compress in the middle of a "
                "training; leave it out and compress after it"
            )

        last = trainer.max_epochs or 0
        if self.compress_at is not None and 0 < last <= self.compress_at:
            raise ValueError(f"compress_at={self.compress_at}: the training has {last} epochs, the first of number 0")

        def load_in_its_form(checkpoint: dict[str, Any]) -> None:
            kept = checkpoint.get("callbacks", {}).get(self.state_key, {})
            if kept.get("compressed") and not self.compressed:
                adopt_(network, compress(network, self.plan).train(network.training))
                self.compressed = True
            load(checkpoint)

        if stage == "fit":
            pl_module.on_load_checkpoint = load_in_its_form  # type: ignore[method-assign]  # Lightning has no hook for it

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the module's own hook as it was."""
        vars(pl_module).pop("on_load_checkpoint", None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the dense network's weights as what the training started from."""
        if not self.compressed:
            self._training = RegularizedTraining(
                self._network(pl_module), self.plan, weight=self.weight, calibration=self.calibration
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compresses the network if its epoch has come."""
        if self._training is None or self.compress_at is None or trainer.current_epoch < self.compress_at:
            return
        network = self._network(pl_module)
        before = dict(network.named_parameters())
        adopt_(network, self._training.compressed(network))
        for optimizer in trainer.optimizers:
            follow_(optimizer, before, network)
        self._training, self.compressed = None, True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Adds the penalty's gradient."""
        if self._training is None:
            return
        steps = trainer.estimated_stepping_batches
        if self.compress_at is not None and trainer.max_epochs and trainer.max_epochs > 0:
            steps = steps * min(1.0, self.compress_at / trainer.max_epochs)
        weight = self._training.add_gradient_((trainer.global_step + 1) / max(steps, 1), optimizer)
        pl_module.log("structural_weight", weight)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the residuals."""
        if self._training is not None and (residuals := self._training.residuals()):
            pl_module.log("structural_residual", sum(residuals.values()) / len(residuals))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {"compressed": self.compressed, "plan": self.plan.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what a checkpoint kept.

        Raises:
            ValueError: the checkpoint is of another plan.
        """
        if state_dict["plan"] != self.plan.to_json():
            raise ValueError("the checkpoint is of a training towards another plan; give StructuralRegularization that")

    def _network(self, module: LightningModule) -> nn.Module:
        network = getattr(module, self.network, None)
        if isinstance(network, nn.Module):
            return network
        own = ", ".join(name for name, _ in module.named_children()) or "none"
        raise ValueError(
            f"{type(module).__name__} has no module {self.network!r} to compress; give StructuralRegularization "
            f"network=..., one of: {own}"
        )
