from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sconv_search.copying import copied
from sconv_search.studies import StudyContext
from sconv_search.studies.executors.nodes import checked_here, installed_lookup, misfit, wanted_of


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    context: StudyContext


def test_a_node_with_other_weights_is_told_from_one_that_has_these(context: StudyContext) -> None:
    wanted = wanted_of(Evaluating(context=context))
    assert misfit(checked_here(Evaluating(context=context)), wanted) is None
    other = copied(context.network)
    with torch.no_grad():
        next(other.parameters())[0, 0, 0, 0] += 1e-6
    there = checked_here(Evaluating(context=replace(context, network=other)))
    reason = misfit(there, wanted)
    assert reason == f"network is {there['network'][:20]} there, and {wanted['network'][:20]} here"


def test_what_a_node_lacks_is_said() -> None:
    wanted = {"torch": "2.11", "data": "abc"}
    assert misfit({"torch": "2.11", "data": "error: no such folder"}, wanted) == "data no such folder"
    assert misfit({"torch": "2.11"}, wanted) == "data is missing"
    assert misfit({"torch": "error: is not installed", "data": "abc"}, wanted) == "torch is not installed"


def test_what_is_installed_is_found_without_this_package() -> None:
    """The function is sent as it is: it may run where this package is another one."""
    look_up = installed_lookup()
    assert not {name for name in look_up.__code__.co_names if "sconv" in name}
    assert look_up.__closure__ is None
    found = look_up()
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert {"Python", "sconv-search", "source of sconv-search"} <= found.keys()
