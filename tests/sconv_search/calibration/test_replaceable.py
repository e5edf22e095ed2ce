"""Layers that the network uses for more than calling them are found by running it."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration import replaceable as asking
from sconv_search.calibration import replacement_proof as proof
from sconv_search.calibration.replaceable import left_alone, replaceable
from sconv_search.calibration.replacement_proof import READ_ELSEWHERE
from sconv_search.cost.input_shape import takes
from sconv_search.studies import METHODS
from sconv_search.studies.selection import offered
from sconv_search.studies.space.sites import site_table


class Using(nn.Module):
    """Three layers, of which ``odd`` is used as the test says."""

    def __init__(self, use) -> None:
        super().__init__()
        self.first, self.odd, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)
        self.use = use

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.last(self.use(self.odd, self.first(x_NCHW)))


def by_weight(layer: nn.Module, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias)


def by_class(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x) if isinstance(layer, nn.Conv2d) else x[..., 2:, 2:]


def by_norm(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x) / layer.weight.detach().norm()


def by_method(layer: nn.Module, x: Tensor) -> Tensor:
    return layer._conv_forward(x, layer.weight.data, None)


def by_its_hook(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x) if not hasattr(layer, "weight_total") else x


def called(layer: nn.Module, x: Tensor) -> Tensor:
    assert layer.weight.dtype == x.dtype
    assert layer.weight.size(0) == layer.out_channels
    return layer(input=x)


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    asking._KEPT.forget()


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (by_weight, READ_ELSEWHERE),
        (by_norm, READ_ELSEWHERE),
        (by_method, READ_ELSEWHERE),
        (by_class, "with another layer in its place that computes the same, what "),
    ],
)
def test_the_layer_at_fault_is_left_alone_with_the_reason(use, reason: str) -> None:
    torch.manual_seed(0)
    network = Using(use).eval()
    before = copy.deepcopy(network.state_dict())
    found = left_alone(network)
    assert set(found) == {"odd"}
    assert found["odd"].startswith(reason)
    assert set(replaceable(network)) == {"first", "last"}
    assert (
        set(METHODS["structured_conv"].options(network))
        == set(METHODS["weight_svd"].options(network))
        == {"first", "last"}
    )
    table = site_table(network, (3, 8, 8), ["structured_conv", "channel_pruning"])
    row = next(layer for layer in table.layers if layer.site == "odd")
    assert row.reasons["structured_conv"] == found["odd"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_layer_that_is_called_is_replaceable() -> None:
    assert left_alone(Using(called)) == {}


def test_a_hook_that_reads_its_layers_weight_is_found() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    network[1].register_forward_hook(lambda layer, given, output: output + layer.weight.mean())
    assert set(left_alone(network)) == {"1"}


def test_weights_that_are_read_in_training_alone_are_found() -> None:
    torch.manual_seed(0)
    network = Using(lambda layer, x: layer(x) * (layer.weight.norm() if layer.training else 1))
    assert left_alone(network) == {"odd": READ_ELSEWHERE}


OUTSIDE: list[nn.Module] = []


def by_a_global_name(layer: nn.Module, x: Tensor) -> Tensor:
    return OUTSIDE[0](x)


@pytest.mark.parametrize("reach", ["global", "weak reference"])
def test_a_network_whose_copies_run_its_own_layers_is_left_alone(reach: str) -> None:
    torch.manual_seed(0)
    network = Using(by_a_global_name)
    OUTSIDE[:] = [network.odd]
    if reach == "weak reference":
        known = weakref.ref(network.odd)
        network.use = lambda layer, x: known()(x)
    found = left_alone(network)
    assert set(found) == {"first", "odd", "last"}
    assert all(reason.startswith("the network reaches its module 'odd' by a way that no") for reason in found.values())


def test_the_fast_path_of_attention_is_found() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, 4))
    takes(network, (5, 8))
    assert set(left_alone(network)) >= {"1.linear1", "1.linear2", "1.self_attn.out_proj"}
    assert set(replaceable(network)) == {"0", "2"}


def test_five_runs_are_enough_where_nothing_is_wrong_and_none_for_a_like(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    values = proof.Proof._run
    monkeypatch.setattr(proof.Proof, "_run", lambda self, *given: runs.append(1) or values(self, *given))
    network = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(20)])
    takes(network, (3, 8, 8))
    for one in (network, copy.deepcopy(network)):
        assert left_alone(one) == {}
    assert len(runs) == 5
    left_alone(nn.Sequential(*network, nn.ReLU()))
    assert len(runs) == 10


def test_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "MOST_RUNS", 5)
    parts = [nn.Sequential(Using(by_class), nn.Conv2d(4, 3, 1)) for _ in range(8)]
    network = nn.Sequential(*parts).eval()
    takes(network, (3, 40, 40))
    found = left_alone(network)
    assert {f"{place}.0.odd" for place in range(8)} <= set(found)


def test_a_change_that_the_outputs_hide_is_found() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Using(by_class), nn.Conv2d(4, 4, 3)).eval()
    with torch.no_grad():
        network[1].weight.mul_(1e-9)
    assert set(left_alone(network)) == {"0.odd"}


def test_random_networks_are_compared_by_the_same_random_numbers() -> None:
    class Noisy(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + torch.randn(())

    network, state = nn.Sequential(nn.Conv2d(3, 4, 3), Noisy(4, 4, 3)), torch.get_rng_state()
    assert set(left_alone(network)) == {"1"}
    assert torch.equal(torch.get_rng_state(), state)


def test_outputs_of_any_form_are_compared() -> None:
    class Result:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    class Wrapping(Using):
        def forward(self, x_NCHW: Tensor) -> object:
            return {"found": [Result(super().forward(x_NCHW))]}

    torch.manual_seed(0)
    assert set(left_alone(Wrapping(by_class))) == {"odd"}


def test_the_shape_that_was_told_is_the_one_that_runs() -> None:
    class OnlyOneSize(nn.Sequential):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            if x_NCHW.shape[-1] != 11:
                raise ValueError("the image must be 11 wide")
            return self[1](F.conv2d(x_NCHW, self[0].weight))

    network = OnlyOneSize(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)).eval()
    assert left_alone(network) == {}  # it cannot be run
    takes(network, (3, 11, 11))
    assert set(left_alone(network)) == {"0"}
    assert set(offered(network, ["weight_svd"])) == {"1"}
    takes(network, (3, 12, 12))
    with pytest.raises(ValueError, match=r"OnlyOneSize fails on an input of shape \(3, 12, 12\).*11 wide"):
        left_alone(network)


def test_a_network_of_several_inputs_is_run_on_what_was_told() -> None:
    class Matching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.image, self.text = nn.Embedding(5, 4), nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x_NCHW: Tensor, *, words: Tensor) -> Tensor:
            return self.text(self.words(words)).mean(1) @ self.text.weight + self.image(x_NCHW).mean((2, 3))

    network = Matching()
    assert "text" in replaceable(network)  # there is no telling what to call it with
    takes(network, {"x_NCHW": (3, 8, 8), "words": torch.tensor([[0, 4]])})
    assert set(replaceable(network)) == {"image"}
    assert left_alone(network) == {"words": "Embedding is not supported", "text": READ_ELSEWHERE}


def test_lazy_layers_stay_as_they_are() -> None:
    network = nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    assert set(left_alone(network)) == {"0"}
    assert type(network[0]) is nn.LazyConv2d


def test_where_no_input_is_known_a_warning_says_what_to_tell() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, given: dict[str, Tensor]) -> Tensor:
            return self.odd(given["x"]) + F.conv2d(given["x"], self.odd.weight, padding=1)

    network = Reads()
    with pytest.warns(UserWarning, match=r"Reads runs on none .* sconv_search\.cost\.takes\(network"):
        assert left_alone(network) == {}
    takes(network, ({"x": torch.randn(1, 3, 6, 6)},))
    assert left_alone(network) == {"odd": READ_ELSEWHERE}


def test_linear_layers_over_positions_are_proven_without_being_told() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(8, 8)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            x_NHWC = x_NCHW.permute(0, 2, 3, 1)
            return self.mix(x_NHWC) + F.linear(x_NHWC, self.mix.weight)

    assert left_alone(Mixed()) == {"mix": READ_ELSEWHERE}


@pytest.mark.parametrize("by_number", [False, True])
def test_a_network_that_walks_its_innermost_modules_is_left_alone(by_number: bool) -> None:
    class Walks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.last = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            if by_number:
                return self.last(self.first(x)) * len(list(self.modules()))
            for module in self.modules():
                x = x if list(module.children()) else module(x)
            return x

    assert set(left_alone(Walks())) == {"first", "last"}


class Sometimes(nn.Module):
    """Reads the weights of ``odd`` by itself where the test says so."""

    def __init__(self, when, gate: float = 0.0) -> None:
        super().__init__()
        self.odd, self.next = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.gate, self.when = nn.Parameter(torch.tensor(gate)), when

    def forward(self, x: Tensor) -> Tensor:
        return self.next(F.conv2d(x, self.odd.weight) if self.when(self, x) else self.odd(x))


@pytest.mark.parametrize("most", [proof.MOST_READ, 0])
def test_weights_that_are_read_with_gradients_alone_are_found(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "MOST_READ", most)
    network = Sometimes(lambda own, x: torch.is_grad_enabled())
    assert left_alone(network) == {"odd": READ_ELSEWHERE}
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("told", [1, 3])
def test_weights_that_are_read_of_another_number_of_inputs_are_found(told: int) -> None:
    network = Sometimes(lambda own, x: not own.training and (len(x) > 1) == (told == 1))
    takes(network, torch.randn(told, 3, 8, 8))
    assert left_alone(network) == {"odd": READ_ELSEWHERE}


def test_a_change_that_shows_of_several_inputs_alone_is_found() -> None:
    network = Sometimes(lambda own, x: not own.training and len(x) > 1 and not isinstance(own.odd, nn.Conv2d))
    assert set(left_alone(network)) == {"odd"}


def test_a_network_that_takes_one_input_at_a_time_is_proven_on_one() -> None:
    network = Sometimes(lambda own, x: bool(x.view(1, 3, 8, 8).isnan().any()))
    takes(network, (3, 8, 8))
    assert left_alone(network) == {}


def test_the_answer_for_one_gate_is_not_taken_for_another() -> None:
    open_, shut = (Sometimes(lambda own, x: float(own.gate) > 0, gate) for gate in (1.0, 0.0))
    shut.when = open_.when
    assert left_alone(shut) == {}
    assert left_alone(open_) == {"odd": READ_ELSEWHERE}


def test_a_run_that_fails_within_a_layer_hides_no_later_read() -> None:
    class OneAtATime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.odd = nn.Linear(8, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.odd(F.relu(self.first(x.reshape(1, -1))))  # of two inputs the first layer cannot read the row
            return y + self.odd.weight.sum() if self.training else y

    network = OneAtATime()
    takes(network, (8,))
    assert left_alone(network) == {"odd": READ_ELSEWHERE}
