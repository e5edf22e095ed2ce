"""How a network wants photos, read from its library's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sconv_search.data.crops import Photos


def photos_of_timm(config: Mapping[str, Any], channels: int | None = None) -> Photos:
    """From what ``timm.data.resolve_model_data_config`` gives.

    Args:
        channels: of the network, where they are other than those of the configuration.
    """
    size = tuple(config["input_size"][1:])
    means, deviations = ([float(value) for value in config[name]] for name in ("mean", "std"))
    if channels not in (None, len(means)):
        means, deviations = ([sum(values) / len(values)] * (channels or 1) for values in (means, deviations))
    crop = 1.0 if config.get("crop_mode") == "squash" else float(config.get("crop_pct") or 0.875)
    return Photos(size=size, resize=int(min(size) / crop), mean=tuple(means), std=tuple(deviations))


def photos_of_torchvision(transforms: Any) -> Photos | None:
    """From the transforms of torchvision's weights; None for those that are not of photos of one size."""
    if not all(hasattr(transforms, name) for name in ("crop_size", "resize_size", "mean", "std")):
        return None
    crop, resize = _numbers(transforms.crop_size), _numbers(transforms.resize_size)
    if not crop or not resize:
        return None
    return Photos(size=(crop[0], crop[-1]), resize=min(resize), mean=tuple(transforms.mean), std=tuple(transforms.std))


def _numbers(value: int | Sequence[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
