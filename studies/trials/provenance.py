"""What a record must say of where it was made."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("sconv-search", "torch", "optuna")


@lru_cache(maxsize=1)
def provenance() -> dict[str, str | None]:
    """Machine, package versions and, in a checkout, the commit: the fields of a ``TrialRecord``."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    machine = f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}"
    return {"machine": machine, "versions": versions, "commit": _commit(), "command": _command()}


def _command() -> str | None:
    """The command line as it was typed; None where the Python interface was used instead."""
    program = Path(sys.argv[0])
    typed = program.name == "sconv-search" or (program.name == "__main__.py" and program.parent.name == "studies")
    return shlex.join(["sconv-search", *sys.argv[1:]]) if typed else None


def _processor() -> str:
    """The processor's name where torch or the system knows it."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(capabilities.get("cpu_name") or platform.processor() or platform.machine())


def _commit() -> str | None:
    """The commit of this checkout, marked where the tree differs from it; None outside of one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
