"""A compressed network from its files: the original architecture, a plan, and weights. No pickles."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sconv_search.cost.network_inputs import Inputs
from sconv_search.plan import CompressionPlan, read_plan
from sconv_search.studies.methods import compress_again
from sconv_search.system.files import write_whole
from sconv_search.system.weights import load_weights_, save_weights


def save_compressed(network: nn.Module, plan: CompressionPlan, folder: str | Path) -> None:
    """Writes ``plan.json`` and ``weights.safetensors`` of a compressed network."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / "weights.safetensors")
    write_whole(folder / "plan.json", plan.to_json(indent=1).encode("utf-8"))


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
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no plan.json")
    network = compress_again(architecture, read_plan(path), input_shape)
    load_weights_(network, folder / "weights.safetensors")
    return network.eval()
