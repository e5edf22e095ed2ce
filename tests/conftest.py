from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "patient", deadline=None, derandomize=True
)  # a first call imports and compiles, and other processes share the cores
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
