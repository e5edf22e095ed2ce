"""Networks of the built-in tasks that no library ships, and networks of libraries by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.networks.efficientnet_lite import efficientnet_lite0
    from sconv_search.networks.mobilenet import cifar_mobilenet_v2
    from sconv_search.networks.resnet import cifar_resnet, digits_network

_HOMES = {
    "efficientnet_lite0": "efficientnet_lite",
    "cifar_mobilenet_v2": "mobilenet",
    "cifar_resnet": "resnet",
    "digits_network": "resnet",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = ["cifar_mobilenet_v2", "cifar_resnet", "digits_network", "efficientnet_lite0"]
