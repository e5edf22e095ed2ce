"""Which sites and sizes a study takes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconv_search.networks.resnet import cifar_resnet
from sconv_search.studies import METHODS, StudyContext, StudySpec
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.selection import EVERYTHING, Selection, candidates, offered
from sconv_search.studies.space.measuring import measured_space

NETWORK = cifar_resnet(8)
NAMES = list(candidates(NETWORK))
PATTERNS = ["*", "conv1", "layer?.0.*", "layer1.*", "*.conv2", "linear", "layer[23].*"]


@given(st.lists(st.sampled_from(PATTERNS), max_size=3), st.lists(st.sampled_from(PATTERNS), max_size=3))
def test_sites_match_some_included_and_no_excluded_pattern(include: list[str], exclude: list[str]) -> None:
    selection = Selection(include=tuple(include), exclude=tuple(exclude))
    expected = {
        name
        for name in NAMES
        if (not include or any(fnmatchcase(name, p) for p in include))
        and not any(fnmatchcase(name, p) for p in exclude)
    }
    assert set(offered(NETWORK, ["weight_svd"], selection)) == expected & set(METHODS["weight_svd"].options(NETWORK))


@pytest.mark.parametrize("kind", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_names_the_nearest(kind: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{kind} pattern 'layer1\.0\.conv3' matches no site; nearest: layer1\.0\.conv[12], "
    ):
        offered(NETWORK, ["cp"], Selection(**{kind: ("layer1.0.conv3",)}))


@pytest.mark.parametrize("multiple", [0, -1, True, 2.0])
def test_a_multiple_is_a_positive_whole_number(multiple: object) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"multiple must be a positive whole number, such as 8, got {multiple!r}")
    ):
        Selection(multiple=multiple)  # type: ignore[arg-type]


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="include must hold patterns of site names"):
        Selection(include=("",))


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize("name", METHODS)
def test_sizes_are_offered_in_multiples(name: str, multiple: int) -> None:
    network = cifar_resnet(8)
    chosen = offered(network, [name], Selection(multiple=multiple))
    assert chosen
    for site, choices in chosen.items():
        limits = METHODS[name].limits(network.get_submodule(site))
        for choice in choices:
            sizes = {entry: size for entry, size in choice.structure.items() if entry in limits and entry != "n"}
            assert all(size % multiple == 0 or size == limits[entry] for entry, size in sizes.items()), (site, choice)


def test_the_space_holds_the_selected_sites_alone(context: StudyContext) -> None:
    everything = measured_space(context, ["spatial_svd"], Monitor())
    chosen = measured_space(context, ["spatial_svd"], Monitor(), Selection(exclude=("0",)))
    assert dict(chosen.sites) == {name: options for name, options in everything.sites.items() if name != "0"}
    assert "0" in everything.sites


def test_a_spec_keeps_the_selection_and_reads_files_without_one(spec: StudySpec) -> None:
    chosen = replace(spec, include=("a*", "b"), exclude=("c",), multiple=8)
    assert StudySpec.from_json(chosen.to_json()) == chosen
    assert chosen.selection == Selection(include=("a*", "b"), exclude=("c",), multiple=8)
    assert not chosen.has_same_space(spec)
    assert chosen.differences(spec) == [
        "include was (), is ('a*', 'b')",
        "exclude was (), is ('c',)",
        "multiple was 1, is 8",
    ]
    old = json.loads(spec.to_json())
    for name in ("include", "exclude", "multiple"):
        del old[name]
    assert StudySpec.from_json(json.dumps(old)) == spec
    assert spec.selection == EVERYTHING
