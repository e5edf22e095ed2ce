"""Compressed networks on the Hugging Face hub, through its mixin for PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from torch import nn

from sconv_search.plan import CompressionPlan
from sconv_search.studies.oneshot.saving import FILES, load, save
from sconv_search.system.files import write_whole


class HubNetwork(nn.Module, PyTorchModelHubMixin, library_name="sconv-search", tags=["model-compression"]):
    """A compressed network that is pushed to the hub and loaded from it: plan, weights and ``config.json``.

    ``save_pretrained(folder)``, ``push_to_hub("ORG/NAME")`` and ``from_pretrained("ORG/NAME")`` are those of
    ``huggingface_hub.PyTorchModelHubMixin``. ``config.json`` holds the plan and the original network's name.

    Args:
        network: what ``compress`` returned.
        network_name: the original network's name, as ``named_network`` reads it, by which ``from_pretrained`` builds it
            again; None needs ``from_pretrained(..., network=...)``.

    Raises:
        TypeError: the network has no plan.
    """

    def __init__(self, network: nn.Module, network_name: str | None = None) -> None:
        super().__init__()
        if not isinstance(getattr(network, "plan", None), CompressionPlan):
            raise TypeError(f"{type(network).__name__} has no plan; give what sconv_search.compress returned")
        self.network, self.network_name = network, network_name

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the compressed network gives."""
        return self.network(*inputs, **named)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Writes the folder as the mixin does, in place of a network that is there; broken off, that one stays."""
        config = Path(save_directory) / "config.json"
        before = config.read_bytes() if config.is_file() else None
        try:
            url: str | None = super().save_pretrained(save_directory, **options)
        except BaseException:
            if before is not None and not config.exists():  # the mixin removes it before anything is written
                write_whole(config, before)
            raise
        return url

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self.network, save_directory, network_name=self.network_name, overwrite=True)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        network: nn.Module | None = None,
        network_name: str | None = None,
        **other: Any,
    ) -> Self:
        if other:
            raise TypeError(f"from_pretrained takes network= and network_name=, got {', '.join(other)}")
        folder = model_id
        if not Path(folder).is_dir():
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=list(FILES),
            )
        loaded = load(folder, network if network is not None else network_name)
        return cls(loaded, network_name or getattr(loaded, "network_name", None))
