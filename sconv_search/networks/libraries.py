"""Networks of torchvision and timm by their names, with the weights that a name says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sconv_search.data.crops import Photos
from sconv_search.named import UnknownNameError
from sconv_search.networks.photos import photos_of_timm, photos_of_torchvision
from sconv_search.system.packages import require_package

if TYPE_CHECKING:
    from torch import nn

SHOWN = 5
LIBRARIES = ("torchvision", "timm", "hf-hub", "local-dir")
"""What stands before the colon; the last two are timm's names of places with a ``config.json``."""


class LibraryNetwork:
    """A network of a library; nothing is built or downloaded before ``made``.

    Args:
        library: one of ``LIBRARIES``.
        name: what stands after the colon: ``resnet18``, ``resnet18@IMAGENET1K_V1`` or ``resnet18.a1_in1k``, a
            repository of the Hugging Face hub, or a folder.
        options: keyword arguments for the library.

    Raises:
        KeyError: the library knows no such network, or no such weights of it; the nearest are named.
        ValueError: the library is not installed.
        FileNotFoundError: the folder is missing, or holds no ``config.json``.
    """

    def __init__(self, library: str, name: str, options: Mapping[str, Any]) -> None:
        self.library, self.name, self.options = library, name, dict(options)
        self.text = f"{library}:{name}"
        _CHECKS[library](name)

    @property
    def has_weights(self) -> bool:
        """Whether the name says trained weights: those after an ``@``, a tag, or ``pretrained=true``."""
        if isinstance(said := self.options.get("pretrained"), bool):
            return said
        if self.library == "torchvision":
            return "@" in self.name or self.options.get("weights") is not None
        return self.library != "timm" or "." in self.name

    def made(self, *, trained: bool) -> nn.Module:
        """The network in evaluation mode, with the weights that its name says, or with random ones.

        Raises:
            ValueError: the library does not make it so, or the weights can be neither found nor downloaded.
        """
        make = self._of_torchvision if self.library == "torchvision" else self._of_timm
        try:
            return make(trained and self.has_weights).eval()
        except Exception as error:  # of any kind, from the library
            doing = "making" if not trained else "making or loading the weights of"
            raise ValueError(f"{doing} {self.text!r} raises {type(error).__name__}: {error}") from error

    def photos(self, network: nn.Module) -> Photos | None:
        """How it wants photos; None where the library does not say."""
        if self.library != "torchvision":
            resolve = require_package("timm.data", "tasks", f"{self.text!r} needs").resolve_model_data_config
            channels = self.options.get("in_chans")
            return photos_of_timm(resolve(network), channels if isinstance(channels, int) else None)
        models = _torchvision()
        name, _, chosen = self.name.partition("@")
        known = models.get_model_weights(name)
        if not len(known):
            return None
        weights = known[chosen] if chosen else known.DEFAULT
        return photos_of_torchvision(weights.transforms())

    def _of_torchvision(self, trained: bool) -> nn.Module:
        models, (name, _, weights) = _torchvision(), self.name.partition("@")
        options = {key: value for key, value in self.options.items() if key not in ("pretrained", "weights")}
        options["weights"] = (weights or self.options.get("weights") or "DEFAULT") if trained else None
        if not trained and "weights_backbone" in _parameters(models.get_model_builder(name)):
            options.setdefault("weights_backbone", None)  # else those are downloaded
        made: nn.Module = models.get_model(name, **options)
        return made

    def _of_timm(self, trained: bool) -> nn.Module:
        timm = require_package("timm", "tasks", f"{self.text!r} needs")
        options = {name: value for name, value in self.options.items() if name != "pretrained"}
        made: nn.Module = timm.create_model(self._timm_name(), pretrained=trained, **options)
        return made

    def _timm_name(self) -> str:
        return self.name if self.library == "timm" else f"{self.library}:{self.name}"


def _torchvision() -> Any:
    from torchvision import models  # here: it takes a second

    return models


def _parameters(builder: Callable[..., Any]) -> set[str]:
    import inspect

    return set(inspect.signature(builder).parameters)


def _require_torchvision(name: str) -> None:
    models, (base, mark, weights) = _torchvision(), name.partition("@")
    _require_known("torchvision has no network", base, models.list_models())
    if mark:
        known = [*models.get_model_weights(base).__members__]
        _require_known(f"torchvision has no weights for {base!r} named", weights, known, every=True)


def _require_timm(name: str) -> None:
    timm = require_package("timm", "tasks", f"'timm:{name}' needs")
    base, mark, tag = name.partition(".")
    _require_known("timm has no network", base, timm.list_models())
    if mark:
        tags = [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(base)]
        _require_known(
            f"timm has no weights for {base!r} named", tag, [known_tag for known_tag in tags if known_tag], every=True
        )


def _require_known(title: str, name: str, known: list[str], *, every: bool = False) -> None:
    """Refuses a name that is none of those known.

    Raises:
        KeyError: the nearest are named, or every one.
    """
    if name not in known:
        near = known if every else get_close_matches(name, known, n=SHOWN, cutoff=0.5)
        raise UnknownNameError(f"{title} {name!r}; {'known' if every else 'nearest'}: {', '.join(near) or 'none'}")


def _require_hub(name: str) -> None:
    require_hub_name(name)
    require_package("timm", "tasks", f"'hf-hub:{name}' needs")


def require_hub_name(name: str) -> None:
    """Refuses what can be no repository of the Hugging Face hub, which is not asked for it.

    Raises:
        ValueError: owner or repository are missing.
    """
    owner, slash, repository = name.partition("/")
    if not (owner and slash and repository) or "/" in repository:
        raise ValueError(f"'hf-hub:{name}' must name an owner and a repository, as hf-hub:ORG/NAME")


def _require_folder(name: str) -> None:
    require_package("timm", "tasks", f"'local-dir:{name}' needs")
    if not (Path(os.path.expanduser(name)) / "config.json").is_file():
        raise FileNotFoundError(f"'local-dir:{name}': there is no {name}/config.json, which timm saves with a network")


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "torchvision": _require_torchvision,
    "timm": _require_timm,
    "hf-hub": _require_hub,
    "local-dir": _require_folder,
}
