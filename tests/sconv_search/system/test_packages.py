"""A package that only some work needs is named where it is missing."""

from __future__ import annotations

import json

import pytest

from sconv_search.system.packages import require_package


def test_a_package_that_is_there_is_imported() -> None:
    assert require_package("json", "tasks", "this needs") is json


def test_a_missing_package_is_named_with_what_brings_it() -> None:
    words = r"HRNet needs the package nowhere, which is not installed; pip install 'sconv-search\[tasks\]'"
    with pytest.raises(ValueError, match=words):
        require_package("nowhere.at.all", "tasks", "HRNet needs")
