from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan
from sconv_search.baselines.channel_pruning import ChannelPruning
from sconv_search.calibration import retargeting
from sconv_search.calibration.moments import Moments
from sconv_search.calibration.sequential_fit import FittedAlone, compress_layers, fit_in_sequence
from sconv_search.structured.method import StructuredConvolution
from sconv_search.studies.methods import METHODS, compress


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_linears(bias: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=bias), nn.ReLU(), nn.Linear(8, 5, bias=bias)).double().eval()


def structured(**counts: int) -> CompressionPlan:
    return CompressionPlan(
        sites={name: Choice(method="structured_conv", structure={"c": c}) for name, c in counts.items()}
    )


@pytest.fixture
def hardly_any_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retargeting, "RIDGES", (1e-9,))


@pytest.mark.usefixtures("hardly_any_ridge")
@pytest.mark.parametrize("bias", [True, False])
def test_the_second_of_two_layers_is_the_least_squares_fit_of_the_dense_outputs(bias: bool) -> None:
    network, x = two_linears(bias), drawn(4000, 6)
    small = StructuredConvolution().compress(network, structured(**{"0": 3, "2": 4}), x)
    with torch.no_grad():
        read = small[2].pooling(small[:2](x), 1)  # in the network compressed so far
        ones = torch.ones(len(x), 1, dtype=x.dtype)
        solution = torch.linalg.lstsq(torch.cat([read, ones], 1) if bias else read, network(x)).solution
    torch.testing.assert_close(small[2].weight.detach(), solution[:4].T, rtol=0, atol=1e-4)
    if bias:
        torch.testing.assert_close(small[2].bias.detach(), solution[4], rtol=0, atol=1e-4)


class Normed(nn.Module):
    """Convolutions without bias before batch norms, a shortcut, and a grouped one that no batch norm follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, stride=2, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 6, 3, padding=1, groups=2, bias=False)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.first(x)))
        x = F.relu(self.norm2(self.second(x)) + x[:, :, ::2, ::2])
        return self.head(F.relu(self.grouped(x)).mean((2, 3)))


@pytest.fixture
def normed() -> nn.Module:
    torch.manual_seed(0)
    network = Normed().double()
    for norm in (network.norm1, network.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    return network.eval()


SECOND = CompressionPlan(
    sites={
        "first": Choice(method="spatial_svd", structure={"rank": 2}),
        "second": Choice(method="structured_conv", structure={"c": 8, "n": 2}),
    }
)


def test_means_go_into_the_batch_norms_and_variances_stay(normed: nn.Module) -> None:
    x = drawn(64, 3, 8, 8)
    small, read = compress(normed, SECOND, x), {}
    for name, network in (("dense", normed), ("small", small)):
        network.norm2.register_forward_pre_hook(lambda _, given, name=name: read.update({name: given[0]}))
        network(x)
    wanted, moved = (read[name].mean((0, 2, 3)) for name in ("dense", "small"))
    torch.testing.assert_close(small.norm2.running_mean - moved, normed.norm2.running_mean - wanted, rtol=0, atol=1e-12)
    assert small.norm2.running_var.equal(normed.norm2.running_var)
    assert (small.norm2.running_mean - normed.norm2.running_mean).abs().max() > 1e-3


@pytest.mark.usefixtures("hardly_any_ridge")
def test_a_layer_before_a_batch_norm_is_fitted_about_the_means(normed: nn.Module) -> None:
    x = drawn(64, 3, 8, 8)
    small, seen = compress(normed, SECOND, x), {}
    small.second.register_forward_hook(lambda _, given, output: seen.update(x=given[0], z=output))
    normed.second.register_forward_hook(lambda _, given, output: seen.update(y=output))
    with torch.no_grad():
        small(x)
        normed(x)
        pooled = F.avg_pool2d(F.pad(small.second.pooling(seen["x"]), (1, 1, 1, 1)), 2, 1, divisor_override=1)
        rows = F.unfold(pooled, 2, stride=2).movedim(1, 2).flatten(0, 1)
        goal, fit = (seen[name].movedim(1, -1).flatten(0, 2) for name in "yz")
        rows, goal, fit = rows - rows.mean(0), goal - goal.mean(0), fit - fit.mean(0)
        best = rows @ torch.linalg.lstsq(rows, goal).solution
    assert float((fit - goal).square().sum()) <= (1 + 1e-4) * float((best - goal).square().sum())


@pytest.mark.parametrize("method", ["structured_conv", "spatial_svd", "weight_svd", "tucker", "cp", "channel_pruning"])
@pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
def test_in_sequence_no_method_errs_more_on_the_inputs_that_it_is_fitted_to(normed: nn.Module, method: str) -> None:
    x, options = drawn(96, 3, 8, 8), METHODS[method].options(normed)
    plan = CompressionPlan(
        sites={
            name: Choice(method=method, structure=found[len(found) // 2])
            for name, found in options.items()
            if name != "head"
        }
    )
    alone, sequence = (compress(normed, plan, x, in_sequence=way) for way in (False, True))
    with torch.no_grad():
        errors = [float((network(x) - normed(x)).square().mean()) for network in (alone, sequence)]
    assert errors[1] < errors[0]


def test_layers_that_pruning_narrows_are_fitted_to_the_outputs_that_are_left(normed: nn.Module) -> None:
    x = drawn(64, 3, 8, 8)
    plan = CompressionPlan(
        sites={
            "first": Choice(method="channel_pruning", structure={"keep": 6}),
            "grouped": Choice(method="weight_svd", structure={"rank": 2}),
        }
    )
    kept = ChannelPruning().prepared(normed, plan, x).kept["second"]
    small = compress(normed, plan, x)
    read: dict[str, Tensor] = {}
    for name, network in (("dense", normed), ("small", small)):
        network.norm2.register_forward_pre_hook(lambda _, given, name=name: read.update({name: given[0]}))
        network(x)
    torch.testing.assert_close(
        small.norm2.running_mean - read["small"].mean((0, 2, 3)),
        (normed.norm2.running_mean - read["dense"].mean((0, 2, 3)))[kept],
        rtol=0,
        atol=1e-12,
    )


class Reused(nn.Module):
    """One convolution that runs twice, before one that runs once."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.again(F.relu(self.again(x)))))


def both(method: str, structure: dict[str, int]) -> CompressionPlan:
    return CompressionPlan(sites={name: Choice(method=method, structure=structure) for name in ("again", "last")})


def test_a_layer_that_runs_twice_is_fitted_by_itself_and_those_behind_it_in_sequence() -> None:
    torch.manual_seed(0)
    network, x = Reused().double().eval(), drawn(64, 4, 6, 6)
    plan = both("spatial_svd", {"rank": 3})
    alone, sequence = (compress(network, plan, x, in_sequence=way) for way in (False, True))
    assert sequence.again[1].weight.equal(alone.again[1].weight)
    errors = [float((small(x) - network(x)).detach().square().mean()) for small in (alone, sequence)]
    assert errors[1] < errors[0]


class Branching(nn.Module):
    """Which layer runs depends on the first input."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.again, self.last) if x[0, 0, 0, 0] > 0 else (self.last, self.again)
        return second(F.relu(first(x)))


def test_where_the_order_depends_on_the_inputs_layers_are_fitted_by_themselves_with_a_note() -> None:
    torch.manual_seed(0)
    network, x = Branching().double().eval(), drawn(64, 4, 6, 6)
    plan = both("spatial_svd", {"rank": 3})
    with pytest.warns(RuntimeWarning, match="fitted by themselves, not one after the other"):
        sequence = compress(network, plan, x)
    alone = compress(network, plan, x, in_sequence=False)
    torch.testing.assert_close(sequence(x), alone(x), rtol=0, atol=0)


def test_a_layer_that_no_input_reaches_keeps_its_data_free_form_with_a_note() -> None:
    torch.manual_seed(0)
    network = Reused().double().eval()
    network.unused = nn.Conv2d(4, 4, 3).double()
    x, sites = drawn(8, 4, 6, 6), ("last", "unused")
    plan = CompressionPlan(sites={name: Choice(method="spatial_svd", structure={"rank": 3}) for name in sites})
    with pytest.warns(RuntimeWarning, match="calibration never ran unused"):
        small = compress(network, plan, x)
    free = compress(network, plan)
    assert small.unused[1].weight.equal(free.unused[1].weight)


def test_what_no_compressed_layer_comes_before_is_fitted_as_alone_bit_for_bit(normed: nn.Module) -> None:
    x = drawn(64, 3, 8, 8)
    plan = CompressionPlan(sites={"grouped": Choice(method="structured_conv", structure={"c": 2, "n": 3, "merged": 1})})
    alone, sequence = (compress(normed, plan, x, in_sequence=way) for way in (False, True))
    torch.testing.assert_close(sequence.grouped.weight, alone.grouped.weight, rtol=0, atol=1e-12)


def test_the_ridge_that_held_out_inputs_prefer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network, taken = two_linears(True), []
    solved = retargeting.ridge_solved

    def watched(square: Tensor, cross: Tensor, ridge: float) -> Tensor:
        taken.append(ridge)
        return solved(square, cross, ridge)

    monkeypatch.setattr(retargeting, "ridge_solved", watched)
    halves = {"0": 3, "2": 4}
    plan = CompressionPlan(
        sites={name: Choice(method="structured_conv", structure={"c": c}) for name, c in halves.items()}
    )
    chosen = []
    for count in (4000, 16):  # with few inputs a strong ridge, or no change
        taken.clear()
        StructuredConvolution().compress(network, plan, drawn(count, 6))
        chosen.append(taken[-1] if len(taken) > len(retargeting.RIDGES) else float("inf"))
    assert chosen[0] < chosen[1]


def test_no_inputs_are_refused(normed: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"N >= 1, got \(0, 3, 8, 8\)"):
        compress(normed, SECOND, drawn(0, 3, 8, 8))


def test_a_build_of_ones_own_gets_the_layer_that_meets_the_dense_outputs(normed: nn.Module) -> None:
    met: dict[str, Moments | None] = {}

    def half(layer: nn.Module, moments: Moments | None) -> nn.Module:
        met["first"] = moments
        small = copy.deepcopy(layer)
        small.weight.data /= 2
        return small

    def same(layer: nn.Module, moments: Moments | None) -> nn.Module:
        met["second"] = moments
        return copy.deepcopy(layer)

    x = drawn(256, 3, 8, 8)
    builds = {"first": half, "second": same}
    small = fit_in_sequence(normed, builds, x)
    assert list(met) == ["first", "second"]
    seen: dict[str, Tensor] = {}
    for name, network in (
        ("dense", normed),
        ("alone", compress_layers(normed, builds, x, in_sequence=False)),
        ("small", small),
    ):
        network.norm2.register_forward_hook(lambda _, given, output, name=name: seen.update({name: output}))
        network(x)
    errors = [float((seen[name] - seen["dense"]).detach().square().mean()) for name in ("alone", "small")]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("method", ["structured_conv", "weight_svd", "channel_pruning"])
def test_layers_with_hooks_at_their_full_structure_stay_what_they_were(method: str) -> None:
    network, x = two_linears(bias=True), drawn(64, 6)
    network[0].register_forward_pre_hook(lambda _, given: (given[0] * 3 + 1,))
    network[0].register_forward_hook(lambda _, given, made: made * 2)
    full = {"channel_pruning": {"0": {"keep": 8}}, "weight_svd": {"0": {"rank": 6}, "2": {"rank": 5}}}.get(
        method, {"0": {"c": 6}, "2": {"c": 8}}
    )
    plan = CompressionPlan(sites={name: Choice(method=method, structure=structure) for name, structure in full.items()})
    torch.testing.assert_close(compress(network, plan, x)(x), network(x), rtol=1e-5, atol=1e-5)


def test_a_layer_whose_hook_changes_what_a_batch_norm_reads_is_fitted_about_zero() -> None:
    seen = dict[str, Tensor]()

    def build(layer: nn.Module, moments: Moments | None) -> nn.Module:
        assert moments is not None
        seen["mean"] = moments.mean
        return copy.deepcopy(layer)

    network = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8)).double().eval()
    hook = network[0].register_forward_hook(lambda _, given, made: made.relu())
    fit_in_sequence(network, {"0": build}, drawn(64, 6) + 1)
    assert seen["mean"].any()  # else the batch norm's mean takes it
    hook.remove()
    network[0].register_forward_hook(lambda _, given, made: None)
    fit_in_sequence(network, {"0": build}, drawn(64, 6) + 1)
    assert not seen["mean"].any()


class Repeated(nn.Module):
    """Calls its first layer as often as it is told, on shares of the inputs."""

    def __init__(self, times: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.first, self.last, self._times = nn.Linear(6, 8), nn.Linear(8, 5), times

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.first(part) for part in x.chunk(self._times(x))]))


def test_a_layer_that_runs_once_for_each_input_is_fitted_by_itself(recwarn: pytest.WarningsRecorder) -> None:
    network, x = Repeated(len).double().eval(), drawn(64, 6)
    found, alone = (compress(network, structured(first=3, last=8), x, in_sequence=kept) for kept in (True, False))
    assert found.first.weight.equal(alone.first.weight)
    assert not any("by themselves" in str(warning.message) for warning in recwarn)


def test_where_more_inputs_call_a_layer_more_often_layers_are_fitted_by_themselves_with_a_note() -> None:
    network, x = Repeated(lambda x: 1 if len(x) < 3 else 2).double().eval(), drawn(64, 6)
    with pytest.warns(FittedAlone, match="some inputs pass first more than once"):
        found = compress(network, structured(first=6, last=8), x)
    torch.testing.assert_close(found(x), network(x), rtol=1e-9, atol=1e-9)


class Doubling(nn.Sequential):
    """Writes over its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


@pytest.mark.parametrize("in_sequence", [True, False])
@pytest.mark.parametrize("several", [False, True])
def test_inputs_that_a_forward_writes_over_stay_as_they_are(in_sequence: bool, several: bool) -> None:
    network, x = Doubling(*two_linears(bias=True)).eval(), drawn(64, 6)
    given = {"x": x.clone()} if several else x.clone()
    small = compress(network, structured(**{"0": 3, "2": 4}), given, in_sequence=in_sequence)
    assert torch.equal(given["x"] if several else given, x)
    plain = compress(two_linears(bias=True), structured(**{"0": 3, "2": 4}), 2 * x, in_sequence=in_sequence)
    torch.testing.assert_close(small[2].weight, plain[2].weight, rtol=1e-4, atol=1e-5)  # several are packed in float32
