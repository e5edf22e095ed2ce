"""Networks by name with their weights and their inputs, the same for every command and from Python."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from torch import nn

from sconv_search.cost.network_inputs import is_shape
from sconv_search.data.crops import Photos
from sconv_search.named import UnknownNameError
from sconv_search.networks.libraries import LIBRARIES, require_hub_name
from sconv_search.networks.trained import returns_trained
from sconv_search.strict_json import require_regular
from sconv_search.studies import tasks
from sconv_search.studies.task import OfTask, Task
from sconv_search.studies.tasks import task_named
from sconv_search.studies.user_code import FORM, NamedNetwork, made_by, network_by
from sconv_search.system.packages import require_package
from sconv_search.system.weights import load_weights_


@dataclass(frozen=True, kw_only=True)
class FoundNetwork:
    """A network that was built by its name.

    Args:
        network: in evaluation mode.
        shape: of one input, without the batch; None where nobody says.
        photos: how it wants photos; None where nobody says.
        trained: whether its weights are trained.
        notes: what was recognized in a file of weights, in words.
    """

    network: nn.Module
    shape: tuple[int, ...] | None = None
    photos: Photos | None = None
    trained: bool
    notes: tuple[str, ...] = ()


def named_network(name: str, weights: str | Path | None = None) -> nn.Module:
    """The network of a name, in evaluation mode, with weights of a file or, without one, those that its name says.

    Args:
        name: ``torchvision:resnet18``, ``torchvision:resnet18@IMAGENET1K_V1``, ``timm:resnet18.a1_in1k``,
            ``hf-hub:ORG/NAME``, ``local-dir:PATH``, ``package.module:function`` or a key of ``TASKS``; then keyword
            arguments, as ``timm:resnet18?num_classes=10``.
        weights: safetensors, or a state dict of ``torch.save``, of which tensors alone are read.

    Raises:
        KeyError: there is no such network; the nearest are named.
        ValueError: the name has another form, a library is missing or fails, or the weights do not fit.
        FileNotFoundError: the weights or a folder are missing.
    """
    return found_network(name, weights).network


def found_network(name: str, weights: str | Path | None = None, *, trained: bool = True) -> FoundNetwork:
    """As ``named_network``, with what is known of the inputs.

    Args:
        trained: whether the weights that the name says are wanted; without, none are downloaded.
    """
    if weights is not None:
        require_regular(Path(weights), "weights file")
    wanted = trained and weights is None
    base, _, own = name.partition("@")
    if ":" not in base or ":" in own:
        named = _of_task(_known(name), wanted)
    elif (folder := compressed_folder(name)) is not None:
        from sconv_search.studies.oneshot.saving import load  # here: it builds networks by name, too

        loaded = load(folder)
        named = FoundNetwork(network=loaded, shape=getattr(loaded, "example", None), trained=True)
    elif base.partition(":")[0] in LIBRARIES:
        named = _of_library(network_by(name), wanted)
    else:
        made = made_by(name, nn.Module, Task, OfTask)
        if isinstance(made, Task | OfTask):
            named = _of_task(made if isinstance(made, Task) else made.task, wanted)
        else:
            named = FoundNetwork(network=made, trained=wanted and returns_trained(lambda: _again(name)))
    network = named.network.eval()
    if weights is None:
        return named
    return replace(named, trained=True, notes=load_weights_(network, weights))


def compressed_folder(name: str) -> Path | None:
    """The folder of a compressed network that the name stands for; None where it is no such network.

    ``config.json`` of the folder or repository tells it; a repository's files are downloaded, or taken from the cache.

    Raises:
        ValueError: it is no name of a repository.
    """
    library, _, rest = name.partition("?")[0].partition(":")
    if library == "local-dir":
        folder = Path(rest).expanduser()
        return folder if _is_ours(folder / "config.json") else None
    if library != "hf-hub":
        return None
    require_hub_name(rest)  # else the hub is asked, again and again where it cannot be reached
    hub = require_package("huggingface_hub", "hub", f"{name!r} needs")
    try:
        if not _is_ours(Path(hub.hf_hub_download(rest, "config.json"))):
            return None
        return Path(hub.snapshot_download(rest, allow_patterns=["plan.json", "weights.safetensors", "config.json"]))
    except (OSError, ValueError):  # it is not there, or cannot be reached: timm says so, or finds it elsewhere
        return None


def _is_ours(path: Path) -> bool:
    """Whether a ``config.json`` is that of a compressed network, as ``save`` writes it."""
    if not path.is_file():
        return False
    try:
        config = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(config, dict) and str(config.get("format", "")).startswith("sconv-search compressed network")


def _of_library(named: NamedNetwork, trained: bool) -> FoundNetwork:
    network = named.make(trained)
    photos = named.photos(network)
    shape = None if photos is None else photos.shape
    return FoundNetwork(network=network, shape=shape, photos=photos, trained=trained and bool(named.has_weights))


def _of_task(task: Task, trained: bool) -> FoundNetwork:
    shape = tuple(task.input_shape) if is_shape(task.input_shape) else task.input_shape
    if trained and task.trained_network is not None and (network := task.trained_network()) is not None:
        return FoundNetwork(network=network, shape=shape, trained=True)
    return FoundNetwork(network=task.network(), shape=shape, trained=trained and returns_trained(task.network))


def _again(name: str) -> nn.Module:
    made: nn.Module = made_by(name, nn.Module)
    return made


def _known(name: str) -> Task:
    """The task of that name.

    Raises:
        KeyError: there is none; the message says how networks of libraries are named.
    """
    base = name.partition("@")[0]
    if ":" not in base and base not in tasks.TASKS:
        near = get_close_matches(base, tasks.TASKS) or list(tasks.TASKS)
        raise UnknownNameError(
            f"unknown network {name!r}: networks of libraries are written torchvision:{base} or timm:{base}, your own"
            f" {FORM}; nearest task: {', '.join(near)}"
        )
    return task_named(name)
