"""What a node must have before it runs a trial: the same packages, the same data, the same network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "error: "
"""Begins what stands in place of something that could not be read."""


@dataclass(frozen=True, kw_only=True)
class FitNode:
    """A node that was checked, by a name to read.

    Args:
        room: trials that it runs at the same time.
    """

    name: str
    room: int


def installed_lookup() -> Callable[[], dict[str, str]]:
    """A function that tells what is installed where it runs; it needs nothing of this package, which may be another
    one there.
    """

    def look_up() -> dict[str, str]:
        import hashlib
        import importlib.metadata
        import importlib.util
        import platform
        from pathlib import Path

        installed = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for name in ("sconv-search", "torch"):
            try:
                installed[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                installed[name] = "error: is not installed"
        spec = importlib.util.find_spec("sconv_search")
        if spec is not None and spec.origin is not None:
            root, digest = Path(spec.origin).parent, hashlib.sha256()
            folders = [root, *(root / name for name in ("baselines", "reports", "studies"))]  # those are links
            for path in sorted({path for folder in folders for path in folder.rglob("*.py")}):
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
            installed["source of sconv-search"] = digest.hexdigest()[:16]
        return installed

    return look_up


def checked_here(evaluator: Any) -> dict[str, str]:
    """Checksums of the data and the network as this process reads them; in place of one that cannot be read, why."""
    checksums = {"network": _weights_sha256(evaluator.context.network)}
    try:
        checksums["data"] = evaluator.context.data.checksum()
    except (OSError, ValueError) as error:
        checksums["data"] = f"{MISSING}{error}"
    return checksums


def wanted_of(evaluator: Any) -> dict[str, str]:
    """What ``checked_here`` must give on every node."""
    return {"network": _weights_sha256(evaluator.context.network), "data": evaluator.context.data_sha256}


def _weights_sha256(network: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).numpy().tobytes())
    return digest.hexdigest()


def misfit(has: Mapping[str, str], wanted: Mapping[str, str]) -> str | None:
    """In what a node differs from the one that asks, in words; None where in nothing."""
    for name in wanted:
        there = has.get(name, f"{MISSING}is missing")
        if there != wanted[name]:
            if there.startswith(MISSING):
                return f"{name} {there.removeprefix(MISSING)}"
            return f"{name} is {there[:20]} there, and {wanted[name][:20]} here"
    return None
