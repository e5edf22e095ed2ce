"""Compressed networks as folders: plan, weights, and what both are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.networks.libraries import LIBRARIES
from sconv_search.plan import CompressionPlan, read_plan
from sconv_search.records import Cost
from sconv_search.strict_json import built, content_of, parsed, table
from sconv_search.studies.oneshot.compress import Compressed
from sconv_search.studies.runs.folder import require_not_of_a_run
from sconv_search.studies.runs.rebuild import CONFIG_CHECKSUM, rebuild, save_compressed
from sconv_search.studies.user_code import network_by, require_findable
from sconv_search.system.state_dicts.files import state_file
from sconv_search.system.weights import CHECKSUM

FORMAT = "sconv-search compressed network 1"
CHECKED = ("torchvision", "timm")
"""Libraries whose networks are built without a download, to see whether a name is that of the network."""
FILES = ("plan.json", "weights.safetensors", "config.json")


def save(network: nn.Module, folder: str | Path, *, network_name: str | None = None, overwrite: bool = False) -> None:
    """Writes ``plan.json``, ``weights.safetensors`` and ``config.json`` of a network that ``compress`` returned.

    A save that is broken off leaves the folder as it was.

    Args:
        network_name: of the original network, as ``named_network`` reads it; ``load`` then builds it by itself.
        overwrite: whether files of these names that are in the folder are replaced.

    Raises:
        FileExistsError: a file has the folder's name, or the folder holds a file of these names and ``overwrite`` is
            not given.
        KeyError: a library has no network of that name, or no module is found for it.
        TypeError: the network has no plan.
        ValueError: torchvision's or timm's network of that name is another one, or the folder is a run's own.
    """
    folder = Path(folder)
    plan = getattr(network, "plan", None)
    if not isinstance(plan, CompressionPlan):
        raise TypeError(f"{type(network).__name__} has no plan; save what sconv_search.compress returned")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{str(folder)!r} is a file; give the name of a folder, to which three files are written")
    require_not_of_a_run(folder)
    if (there := [name for name in FILES if (folder / name).exists()]) and not overwrite:
        raise FileExistsError(
            f"the folder {str(folder)!r} holds {', '.join(there)} already; name another, or replace them by"
            " overwrite=True"
        )
    if network_name is not None:
        require_findable(network_name)
    if network_name is not None and network_name.partition(":")[0] in CHECKED:
        _require_same(network, plan, network_name)
    save_compressed(network, plan, folder, config_of(network, network_name))


def _require_same(network: nn.Module, plan: CompressionPlan, name: str) -> None:
    """Refuses the name of a network that lacks a site, or whose other weights have other shapes."""
    original = network_by(name).make(False)
    modules, wanted = dict(original.named_modules()), original.state_dict()
    if lost := [site for site in plan.sites if site not in modules]:
        raise ValueError(f"network_name={name!r} is another network: it has no layer {lost[0]!r}")
    for key, weight in network.state_dict().items():
        inside = any(key.startswith(f"{site}.") for site in plan.sites)
        if not inside and (key not in wanted or wanted[key].shape != weight.shape):
            has = f"{tuple(wanted[key].shape)}" if key in wanted else "none"
            raise ValueError(
                f"network_name={name!r} is another network: its {key!r} has shape {has}, here {tuple(weight.shape)}"
            )


def config_of(network: nn.Module, network_name: str | None = None) -> dict[str, Any]:
    """What ``config.json`` holds: the plan, the costs, and of what network it is."""
    costs = {
        name: {**asdict(cost), "flops": cost.flops}
        for name in ("cost", "dense_cost")
        if isinstance(cost := getattr(network, name, None), Cost)
    }
    plan: CompressionPlan = getattr(network, "plan")  # noqa: B009  # set by compress
    example = getattr(network, "example", None)
    shapes = pytree.tree_map(lambda leaf: list(leaf.shape) if isinstance(leaf, Tensor) else leaf, example)
    return {
        "format": FORMAT,
        "version": version("sconv-search"),
        "torch": torch.__version__,
        "network": network_name or getattr(network, "network_name", None),
        "input_shape": _input_shape(example),
        "architecture": f"{type(network).__module__}.{type(network).__qualname__}",
        "example": shapes if example is None or _is_json(shapes) else repr(shapes),
        "plan": json.loads(plan.to_json()),
        **costs,
    }


def _input_shape(example: object) -> list[int] | None:
    """The shape of one input without the batch, where the network takes one tensor."""
    if isinstance(example, Tensor):
        return list(example.shape[1:])
    return [*example] if isinstance(example, (tuple, list)) and all(isinstance(n, int) for n in example) else None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def load(folder: str | Path, network: nn.Module | str | None = None) -> Compressed:
    """The compressed network that ``save`` wrote, or a study confirmed, in evaluation mode.

    Args:
        network: the original architecture, or its name as ``named_network`` reads it; its weights do not matter, and it
            is not modified. None takes the name in ``config.json``, where that is a network of a library.

    Raises:
        FileNotFoundError: plan or weights are missing.
        KeyError: the plan is of another network.
        ValueError: a file is damaged or of another save than the others, the weights do not fit (the differences are
            listed), or the folder does not say what network it is of.
    """
    folder = Path(folder)
    config = read_config(folder)
    _require_one_save(folder, config)
    name = network if isinstance(network, str) else config.get("network")
    if not isinstance(network, nn.Module):
        network = _original(folder, name, given=isinstance(network, str))
    loaded = cast(Compressed, rebuild(network, folder))
    loaded.plan = read_plan(folder / "plan.json")
    loaded.network_name = name if isinstance(name, str) else None
    if isinstance(shape := config.get("input_shape"), list):
        loaded.example = tuple(shape)
    try:
        for part in ("cost", "dense_cost"):
            if part in config:
                counted = {key: value for key, value in table(config[part], part).items() if key != "flops"}
                setattr(loaded, part, built(Cost, counted, part))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: not what sconv_search.save writes: {error}") from error
    return loaded


def read_config(folder: Path) -> dict[str, Any]:
    """What ``config.json`` of a folder holds; nothing where there is none.

    Raises:
        ValueError: it is not JSON, no table, or no regular file.
    """
    path = folder / "config.json"
    if not path.exists():
        return {}
    content = content_of(path)
    try:
        return dict(table(parsed(content)))
    except ValueError as error:
        raise ValueError(f"{path}: not what sconv_search.save writes: {error}") from error


def _require_one_save(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses plan or weights of another save than ``config.json``; what that does not say is not asked."""
    plan, weights = folder / "plan.json", folder / "weights.safetensors"
    other = []
    if plan.is_file() and isinstance(config.get("plan"), dict):
        try:
            told = CompressionPlan.from_json(json.dumps(config["plan"]))
        except ValueError as error:
            raise ValueError(f"{folder / 'config.json'}: not what sconv_search.save writes: {error}") from error
        other += [] if read_plan(plan) == told else [plan.name]
    if weights.is_file() and (checksum := config.get(CONFIG_CHECKSUM)) is not None:
        written = state_file(weights).metadata.get(CHECKSUM, checksum)
        other += [] if written == checksum else [weights.name]
    if other:
        raise ValueError(
            f"{str(folder)!r} mixes two networks: {' and '.join(other)} and config.json are not of one save, which was"
            " broken off, or files were copied; copy all three of one, or save the network again"
        )


def _original(folder: Path, name: object, *, given: bool) -> nn.Module:
    """The untrained network of that name; code that a folder names is not run unasked."""
    from sconv_search.studies.oneshot.networks import found_network  # here: it loads compressed networks, too

    if not isinstance(name, str):
        raise ValueError(f"{str(folder)!r} does not say what network it is of; give it, or its name, as network=")
    base = name.partition("@")[0]
    if not given and ":" in base and base.partition(":")[0] not in LIBRARIES:
        raise ValueError(
            f"{str(folder)!r} names code to be run, {name!r}, and code that a folder names is not run unasked; if it is"
            f" yours, give network={name!r}"
        )
    return found_network(name, trained=False).network
