"""What a search space was measured of, so that one of something else is not taken for it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from sconv_search.search_space.space import SearchSpace
from sconv_search.studies.context import StudyContext
from sconv_search.studies.spec import StudySpec


def space_identity(context: StudyContext, spec: StudySpec) -> Mapping[str, str]:
    """All that a space follows from; the machine and its threads only where times were measured."""
    device = next(context.network.parameters()).device.type
    timed = {
        "machine": platform.node(),
        "device": device,
        "threads": str(torch.get_num_threads()),
        "batch": str(spec.latency_batch),
    }
    return {
        **context.identity,
        "methods": json.dumps(spec.methods),
        "sites": json.dumps([spec.include, spec.exclude, spec.multiple]),
        "plans": json.dumps(spec.plans),
        "operators that count nothing": json.dumps(spec.count_free),
        **(timed if spec.times else {}),
    }


def identity_sha256(identity: Mapping[str, str]) -> str:
    """SHA-256 of it, for files of which every line says what it is of."""
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()


def require_measured_of(space: SearchSpace, identity: Mapping[str, str], path: Path) -> None:
    """Refuses a space that was measured of something else; one of a version that did not write what, is taken as it is.

    Raises:
        ValueError: what differs, and what to do.
    """
    names = {**space.measured_of, **identity} if space.measured_of else {}
    if differing := [name for name in names if space.measured_of.get(name) != identity.get(name)]:
        raise ValueError(
            f"{str(path)!r} was measured with another {', '.join(differing)}; "
            "name another folder with --out, or move the file away, and the space is measured anew"
        )


def require_start(space: SearchSpace | None, start: Mapping[str, str], path: Path, advice: str) -> None:
    """Refuses what follows a search in its folder from another start: another network, code or data.

    Nothing is compared that only one of both names, nor with a search by another version, whose checksums may differ.

    Args:
        space: that of the search, where it says what it was measured of.
        start: the context's ``identity``, or a part of it.
        path: of the run's folder.

    Raises:
        ValueError: what differs.
    """
    known = {} if space is None else space.measured_of
    if known.get("version") != version("sconv-search"):
        return
    if differing := [name for name, value in start.items() if known.get(name, value) != value]:
        raise ValueError(f"the run in {str(path)!r} was searched with another {', '.join(differing)}; {advice}")
