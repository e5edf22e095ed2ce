"""State dicts inside of training checkpoints, and the prefixes that wrappers of networks put before names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "checkpoint"),
)
"""Keys under which training programs keep a network's state dict; averages of weights come first, as they are what is
scored.
"""
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""Of ``DataParallel``, of ``torch.compile``, and of classes that hold the network, such as Lightning's."""
AVERAGE_COUNT = "n_averaged"
"""What ``torch.optim.swa_utils.AveragedModel`` adds to a state dict."""
MOST_DEPTH, SHOWN = 3, 8


def unwrapped(loaded: Any, title: str) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The state dict in what a file holds, and where it was found, in words.

    Args:
        found: the file's content.
        title: how messages call the file.

    Raises:
        ValueError: there is none; what there is, is named.
    """
    path: list[str] = []
    while not _is_state(loaded):
        key = next(
            (key for key in WRAPPERS if isinstance(loaded, Mapping) and _holds(loaded.get(key), MOST_DEPTH)), None
        )
        if key is None:
            raise ValueError(f"{title} holds no state dict: {_words(loaded)}; looked for under {', '.join(WRAPPERS)}")
        path.append(key)
        loaded = loaded[key]
    state = {name: tensor for name, tensor in loaded.items() if name != AVERAGE_COUNT}
    return state, ((f"its state dict is taken from {' / '.join(map(repr, path))}",) if path else ())


def prefix_of(names: Collection[str], wanted: Collection[str]) -> str:
    """The prefix of all the file's names without which they are more like the network's; empty where there is none."""
    prefix, known = "", set(wanted)
    while names and not known & {name[len(prefix) :] for name in names}:
        rest = {name[len(prefix) :] for name in names}
        step = next((one for one in PREFIXES if all(name.startswith(one) for name in rest)), None)
        if step is None:
            return ""
        prefix += step
    return prefix


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _holds(value: Any, depth: int) -> bool:
    """Whether a state dict lies in it."""
    if _is_state(value):
        return True
    return depth > 0 and isinstance(value, Mapping) and any(_holds(value.get(key), depth - 1) for key in WRAPPERS)


def _words(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f"it is a {type(loaded).__name__}"
    keys = [f"{key!r} ({type(value).__name__})" for key, value in list(loaded.items())[:SHOWN]]
    return f"its keys are {', '.join(keys)}" if keys else "it is empty"
