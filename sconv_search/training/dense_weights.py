"""Dense networks of our own training, kept beside the runs: each says what it was trained on, and is used for that
alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import nn

from sconv_search.data.splits import DataSet
from sconv_search.system.content import content_of
from sconv_search.system.identity import lasting_sha256
from sconv_search.system.weights import save_weights
from sconv_search.training.schedule import Schedule

KEY = "sconv_search.trained_on"
Identity = Mapping[str, str]
"""What trained weights depend on, by name."""


def dense_identity(
    task: str, network_sha256: str, schedule: Schedule, data: DataSet, data_sha256: str, seed: int
) -> Identity:
    """All that the weights of a task's dense network follow from, each as a text that is equal in other processes.

    Args:
        network_sha256: of its layers and code.
    """
    return {
        "task": task,
        "seed": str(seed),
        "data": data_sha256,
        "views of the data": views_sha256(data),
        "network": network_sha256,
        "schedule": json.dumps(asdict(schedule), sort_keys=True),
        "version": version("sconv-search"),
    }


def views_sha256(data: DataSet) -> str:
    """SHA-256 of how a network sees the images in training and scoring, which the data's own checksum leaves out."""
    transforms = [getattr(data.train, name, None) for name in ("view", "augmentation")]
    values = [data.mean, data.std, data.crop_padding, data.flip, data.class_weights, tuple(data.train.shape)]
    return lasting_sha256(content_of([type(data), *values, *transforms]))


def dense_path(cache: Path, identity: Identity) -> Path:
    """Where the weights of that identity lie; those of another one have another name."""
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()
    return cache / f"{_stem(identity)}-{digest[:12]}.safetensors"


def _stem(identity: Identity) -> str:
    return f"{identity['task'].replace('/', '-')}-seed{identity['seed']}"


def save_dense(network: nn.Module, path: Path, identity: Identity) -> None:
    """Writes the weights with what they were trained on."""
    save_weights(network, path, {KEY: json.dumps(dict(identity))})


def require_trained_on(path: Path, identity: Identity) -> None:
    """Refuses a file that does not hold the weights its name promises, as after renaming or copying by hand.

    Raises:
        ValueError: the file is damaged, or was trained on something else; the differences are named.
    """
    if differing := _differing(path, identity):
        raise ValueError(
            f"the dense network {str(path)!r} is not of this study: {differing}; "
            "move the file away, and one is trained anew"
        )


def say_others(cache: Path, identity: Identity, say: Callable[[str], None]) -> None:
    """Names the dense networks of the same task and seed that are kept, but were trained on something else."""
    for path in sorted(cache.glob(f"{_stem(identity)}*.safetensors")):
        if path != dense_path(cache, identity) and path.name.startswith((f"{_stem(identity)}-", f"{_stem(identity)}.")):
            say(f"the dense network {str(path)!r} is kept, but not used: {_differing(path, identity)}")


def _differing(path: Path, identity: Identity) -> str:
    """In what a file's weights are of another identity, in words; empty where they are of this one."""
    try:
        with safe_open(path, "pt") as file:
            known = json.loads((file.metadata() or {}).get(KEY, "null"))
    except (SafetensorError, OSError, ValueError) as error:
        return f"it is damaged ({error})"
    if not isinstance(known, dict):
        return "it does not say what it was trained on"
    names = [name for name in {**identity, **known} if known.get(name) != identity.get(name)]
    return f"it was trained with another {', '.join(names)}" if names else ""


@contextmanager
def alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """The time in which this command alone may train the network of that file; another that wants to waits for its
    end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        say(f"another command trains the dense network {str(path)!r}; waiting for it")
        held = lock.acquire()
    with held:
        yield
