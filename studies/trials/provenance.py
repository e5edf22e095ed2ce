"""What a record must say of where it was made."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

_PASSWORD = re.compile(r"://([^:/@]*):.*@")
"""In the address of a database: a record is read by others."""
PACKAGES = ("sconv-search", "torch", "optuna")


def provenance() -> dict[str, str | None]:
    """Machine, package versions and, in a checkout, the commit: the fields of a ``TrialRecord``."""
    machine = f"{_processor()}, {torch.get_num_threads()} threads, Python {platform.python_version()}"
    return {"machine": machine, "versions": _versions(), "commit": _commit(), "command": _command()}


@lru_cache(maxsize=1)
def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _command() -> str | None:
    """The command line as it was typed; None where the Python interface was used instead."""
    program = Path(sys.argv[0])
    typed = program.name == "sconv-search" or (program.name == "__main__.py" and program.parent.name == "studies")
    return (
        shlex.join(["sconv-search", *(_PASSWORD.sub("://\\1:***@", word) for word in sys.argv[1:])]) if typed else None
    )


@lru_cache(maxsize=1)
def _processor() -> str:
    """The name of the GPU, else the processor's where torch or the system knows it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(capabilities.get("cpu_name") or platform.processor() or platform.machine())


@lru_cache(maxsize=1)
def _commit() -> str | None:
    """The commit of this checkout, marked where the tree differs from it; None outside of one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        finished = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip() or None
