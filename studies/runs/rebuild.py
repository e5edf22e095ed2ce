"""A compressed network from its files: the original architecture, a plan, and weights. No pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import CompressionPlan, read_plan
from sconv_search.studies.methods import compress_again
from sconv_search.system.files import write_together
from sconv_search.system.weights import load_weights_, weights_file

CONFIG_CHECKSUM = "weights_crc32"
"""What ``config.json`` says of the weights beside it."""


def save_compressed(
    network: nn.Module, plan: CompressionPlan, folder: str | Path, config: Mapping[str, Any] | None = None
) -> None:
    """Writes ``plan.json`` and ``weights.safetensors`` of a compressed network, all or nothing.

    Args:
        config: written to ``config.json``, with the checksum of the weights.
    """
    folder = Path(folder)
    weights, checksum = weights_file(network)
    contents = {folder / "weights.safetensors": weights}
    if config is not None:
        text = json.dumps({**config, CONFIG_CHECKSUM: checksum}, indent=1) + "\n"
        contents[folder / "config.json"] = text.encode("utf-8")
    # The plan last: a folder without one holds no network.
    write_together({**contents, folder / "plan.json": plan.to_json(indent=1).encode("utf-8")})


def rebuild(architecture: nn.Module, folder: str | Path, input_shape: Inputs | None = None) -> nn.Module:
    """The compressed network that ``save_compressed`` wrote, in evaluation mode.

    Args:
        architecture: the original dense network; its weights do not matter, and it is not modified.
        input_shape: of one input, as for ``compress``.

    Raises:
        FileNotFoundError: plan or weights are missing.
        KeyError: the plan is of another network: it names a layer that this one lacks.
        ValueError: plan or weights are damaged, or the weights' names or shapes do not fit; the differences are listed.
    """
    folder = Path(folder)
    path = folder / "plan.json"
    if not path.exists():
        raise FileNotFoundError(f"{str(folder)!r} holds no plan.json")
    network = compress_again(architecture, read_plan(path), input_shape)
    load_weights_(network, folder / "weights.safetensors")
    return network.eval()
