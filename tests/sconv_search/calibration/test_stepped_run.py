from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import Tensor, nn

from sconv_search.calibration.stepped_run import Stepped, SteppedRun


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError(f"no {tuple(x.shape)}")


def test_a_run_that_is_told_what_its_modules_give_ends_as_the_network_does() -> None:
    plain, x = network(), torch.randn(5, 3)
    stepped, met = Stepped(plain, ["0", "2"]), []
    with SteppedRun(stepped, x) as run:
        while run.name is not None:
            met.append(run.name)
            run.resume(stepped.original(run.name)(run.x))
        torch.testing.assert_close(run.output, plain(x), rtol=0, atol=0)
    assert met == ["0", "2"]


def test_a_run_goes_on_with_what_it_is_given() -> None:
    plain, x = network(), torch.randn(5, 3)
    other = torch.randn(5, 4)
    with SteppedRun(Stepped(plain, ["0"]), x) as run:
        assert torch.equal(run.x, x)
        run.resume(other)
        torch.testing.assert_close(run.output, plain[2](other.relu()), rtol=0, atol=0)


def test_runs_of_one_network_stand_at_different_places() -> None:
    plain, x = network(), torch.randn(2, 3)
    stepped = Stepped(plain, ["0", "2"])
    with SteppedRun(stepped, x) as first, SteppedRun(stepped, -x) as second:
        first.resume(stepped.original("0")(first.x))
        assert (first.name, second.name) == ("2", "0")
        second.resume(stepped.original("0")(second.x))
        torch.testing.assert_close(second.x, plain[:2](-x), rtol=0, atol=0)


def test_the_network_is_not_modified_and_no_gradients_are_kept() -> None:
    plain, x = network(), torch.randn(2, 3)
    expected = copy.deepcopy(plain)(x)
    with SteppedRun(Stepped(plain, ["2"]), x) as run:
        assert not run.x.requires_grad
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=0)


def test_what_the_forward_raises_is_raised_where_it_is_waited_for() -> None:
    with (
        pytest.raises(ValueError, match=r"no \(2, 4\)"),
        SteppedRun(Stepped(nn.Sequential(nn.Linear(3, 4), Failing()), ["0"]), torch.zeros(2, 3)) as run,
    ):
        run.resume(torch.zeros(2, 4))


def test_a_run_that_is_given_up_leaves_no_thread() -> None:
    before = threading.active_count()
    with SteppedRun(Stepped(network(), ["2"]), torch.zeros(2, 3)):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_hooks_of_a_module_that_a_run_stops_at_run_once() -> None:
    plain, x = network(), torch.randn(5, 3)
    plain[0].register_forward_pre_hook(lambda _, given: (given[0] + 1,))
    plain[0].register_forward_hook(lambda _, given, made: made * 2)
    stepped = Stepped(plain, ["0"])
    with SteppedRun(stepped, x) as run:
        torch.testing.assert_close(run.x, x + 1, rtol=0, atol=0)
        run.resume(stepped.original("0")(run.x))
        torch.testing.assert_close(run.output, plain(x), rtol=0, atol=0)
