from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration import moments as calibration
from sconv_search.calibration.moments import (
    Moments,
    grouped_kernel,
    input_moments,
    least_squares_tail,
    output_error,
    spread_evenly,
)

LAYERS: dict[str, nn.Module] = {
    "plain": nn.Conv2d(6, 4, 3),
    "strided": nn.Conv2d(6, 4, 3, stride=(2, 1), padding=(1, 2)),
    "dilated": nn.Conv2d(6, 4, 3, padding=2, dilation=(1, 2), bias=False),
    "same": nn.Conv2d(6, 4, (3, 4), padding="same", dilation=2),
    "groups": nn.Conv2d(6, 4, (3, 5), padding=(1, 2), groups=2),
    "depthwise": nn.Conv2d(6, 6, 3, padding=1, groups=6),
    "pointwise, strided, padded": nn.Conv2d(6, 4, 1, stride=2, padding=1),
    **{mode: nn.Conv2d(6, 4, 3, padding=(2, 1), padding_mode=mode) for mode in ("reflect", "replicate", "circular")},
    "1d": nn.Conv1d(6, 4, 5, padding=2, stride=2),
    "3d": nn.Conv3d(6, 4, 3, padding=1, stride=(1, 2, 2), groups=2),
    "linear": nn.Linear(6, 4),
    "linear, no bias": nn.Linear(6, 4, bias=False),
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
SIZES = {0: (), 1: (9,), 2: (9, 8), 3: (5, 6, 5)}


def inputs(layer: nn.Module, count: int = 40) -> Tensor:
    return torch.randn(count, 6, *SIZES[layer.weight.dim() - 2], dtype=torch.float64) + 0.3


def outputs(layer: nn.Module, x: Tensor) -> Tensor:
    """Of each group, without bias, (g, O, positions)."""
    y = (
        F.linear(x, layer.weight)[..., None]
        if isinstance(layer, nn.Linear)
        else layer._conv_forward(x, layer.weight, None)
    )
    return y.movedim(1, 0).flatten(1).unflatten(0, (getattr(layer, "groups", 1), -1)).detach()


def moments_of(layer: nn.Module, x: Tensor) -> Moments:
    return input_moments(nn.Sequential(layer), ["0"], x)["0"]


@layers
def test_the_moments_of_the_patches_give_the_mean_and_the_moments_of_the_outputs(layer: nn.Module) -> None:
    dense = copy.deepcopy(layer).double()
    x = inputs(dense)
    moments, kernel_gOF, y_gOP = moments_of(dense, x), grouped_kernel(dense).flatten(2), outputs(dense, x)
    assert moments.positions == y_gOP.shape[2]
    torch.testing.assert_close((kernel_gOF @ moments.mean[..., None])[..., 0], y_gOP.mean(2))
    torch.testing.assert_close(kernel_gOF @ moments.second @ kernel_gOF.mT, y_gOP @ y_gOP.mT / y_gOP.shape[2])
    for group, part in enumerate(y_gOP):
        torch.testing.assert_close(
            (kernel_gOF @ moments.covariance @ kernel_gOF.mT)[group], part.cov(correction=0).reshape(len(part), -1)
        )


def test_the_moments_are_those_of_torchs_unfold() -> None:
    conv = nn.Conv2d(6, 4, (3, 2), padding=1, stride=2, dilation=(1, 2)).double()
    x = inputs(conv)
    patches = F.unfold(x, (3, 2), padding=1, stride=2, dilation=(1, 2)).movedim(1, 0).flatten(1)
    torch.testing.assert_close(moments_of(conv, x).second[0], patches @ patches.T / patches.shape[1])


def test_single_precision_errs_by_less_than_a_millionth() -> None:
    conv = nn.Conv2d(6, 4, 3)
    x = inputs(conv).float()
    exact, single = moments_of(copy.deepcopy(conv).double(), x.double()), moments_of(conv, x)
    assert single.second.dtype == torch.float64
    assert (exact.second - single.second).abs().max() < 1e-6 * exact.second.abs().max()


def test_a_shared_layer_reads_what_all_its_uses_read() -> None:
    network = nn.Sequential(linear := nn.Linear(6, 6), nn.Tanh(), linear).double()
    x = torch.randn(10, 6, dtype=torch.float64)
    read = torch.cat([x, torch.tanh(linear(x))]).detach()
    torch.testing.assert_close(input_moments(network, ["0"], x)["0"].second[0], read.T @ read / 20)


def test_a_network_in_training_mode_is_read_as_in_evaluation_and_left_as_it_is() -> None:
    network = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)).double().train()
    before = copy.deepcopy(network.state_dict())
    x = inputs(network[1])
    found = input_moments(network, ["1"], x)["1"]
    read = network[0].eval()(x)  # by the running statistics
    torch.testing.assert_close(found.second, moments_of(network[1], read).second)
    network.train()
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network[1]._forward_pre_hooks


def test_of_a_network_that_is_asked_once_no_content_is_read_and_nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*arguments: object) -> None:
        raise AssertionError("its content was read")

    network, x = nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 6, 6)
    expected = input_moments(network, ["0"], x)["0"]
    monkeypatch.setattr(calibration, "network_content", read)
    monkeypatch.setattr(calibration._KEPT, "put", read)
    assert input_moments(network, ["0"], x, once=True)["0"].second.equal(expected.second)


def test_the_same_question_about_a_copy_is_answered_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    x, runs = torch.randn(7, 6), []
    measured = calibration._measured
    monkeypatch.setattr(calibration, "_measured", lambda net, names, x: runs.append(names) or measured(net, names, x))
    first = input_moments(network, ["0"], x)
    again = input_moments(copy.deepcopy(network), ["0", "1"], x.clone())
    assert runs == [["0"], ["1"]]
    assert first["0"].second is again["0"].second
    network[0].weight.data[0] += 1
    input_moments(network, ["0"], x)
    assert runs[2:] == [["0"]]


@given(count=st.integers(1, 3000), most=st.integers(1, 500))
def test_positions_are_spread_one_in_each_equal_run(count: int, most: int) -> None:
    chosen = spread_evenly(count, most)
    assert len(chosen) == min(count, most)
    assert chosen.unique().equal(chosen)
    if count > most:
        assert ((chosen + 1) * most - 1).div(count, rounding_mode="floor").sub(torch.arange(most)).abs().max() <= 1
        assert chosen.max() < count


def test_no_column_of_an_image_is_preferred() -> None:
    columns = spread_evenly(32 * 32 * 64, 2048) % 32
    assert columns.bincount(minlength=32).max() <= 2 * 2048 / 32


def test_many_positions_are_read_in_part_and_nearly_give_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv2d(6, 4, 3, padding=1).double()
    x = inputs(conv, 100)
    whole = moments_of(conv, x)
    monkeypatch.setattr(calibration, "MOST_POSITIONS", 1000)
    part = moments_of(nn.Conv2d(6, 4, 3, padding=1).double(), x)
    assert 1000 <= part.positions <= 1010
    assert (part.second - whole.second).norm() < 0.3 * whole.second.norm()


def test_a_wrong_kind_an_unknown_name_and_no_inputs_are_refused() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(3, 4, 3))
    with pytest.raises(
        TypeError, match="site '0': moments are known for convolutions and linear layers, got ConvTranspose2d"
    ):
        input_moments(network, ["0"], torch.zeros(1, 3, 4, 4))
    with pytest.raises(KeyError, match="'1'"):
        input_moments(network, ["1"], torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="needs inputs"):
        input_moments(network, ["0"], torch.zeros(0, 3, 4, 4))


def test_a_layer_that_never_runs_is_left_out_with_a_warning() -> None:
    class Unused(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](x)

    with pytest.warns(RuntimeWarning, match="never ran 1"):
        assert set(input_moments(Unused(nn.Linear(3, 3), nn.Linear(3, 3)), ["0", "1"], torch.ones(2, 3))) == {"0"}


@layers
@pytest.mark.parametrize("intercept", [False, True])
def test_a_tail_is_the_least_squares_fit_and_never_errs_more_than_its_start(layer: nn.Module, intercept: bool) -> None:
    dense = copy.deepcopy(layer).double()
    x = inputs(dense)
    moments, kernel = moments_of(dense, x), grouped_kernel(dense)
    groups, filters, features = kernel.flatten(2).shape
    fixed, start = torch.randn(groups, 3, features).double(), torch.randn(groups, filters, 3).double()
    tail = least_squares_tail(
        kernel, start, moments, lambda p: p.flatten(2) @ fixed.mT, intercept=intercept, ridge=1e-14
    )
    y_gOP = outputs(dense, x)
    z_gKP = torch.cat([outputs(other, x) for other in _with_kernels(dense, fixed)], 1)

    def error(kernel_gOK: Tensor, shift_gO: Tensor) -> Tensor:
        return (y_gOP - kernel_gOK @ z_gKP - shift_gO[..., None]).square().sum((0, 1)).mean()

    rows = torch.cat([z_gKP, torch.ones_like(z_gKP[:, :1])], 1) if intercept else z_gKP
    expected = torch.linalg.lstsq(rows.mT, y_gOP.mT).solution.mT
    torch.testing.assert_close(tail.kernel, expected[..., :3], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        tail.shift, expected[..., 3] if intercept else torch.zeros_like(tail.shift), rtol=1e-5, atol=1e-7
    )
    torch.testing.assert_close(torch.tensor(tail.error).double(), error(tail.kernel, tail.shift), rtol=1e-6, atol=1e-9)
    assert tail.error <= error(start, torch.zeros_like(tail.shift))
    change = kernel.flatten(2) - tail.kernel @ fixed
    torch.testing.assert_close(output_error(change, moments, intercept=intercept), torch.tensor(tail.error).double())


def _with_kernels(layer: nn.Module, fixed_gKF: Tensor) -> list[nn.Module]:
    """Layers with the geometry of ``layer`` whose outputs, one of each group, are the fixed map's."""
    made = []
    for rows in fixed_gKF.unbind(1):
        other = copy.deepcopy(layer)
        other.weight = nn.Parameter(rows.reshape(len(rows), *layer.weight.shape[1:]))
        made.append(other)
    return made


def test_directions_that_no_input_takes_stay_where_the_start_put_them() -> None:
    linear = nn.Linear(6, 4, bias=False).double()
    x = torch.randn(30, 6, dtype=torch.float64)
    x[:, 4:] = 0
    start = torch.randn(1, 4, 6, dtype=torch.float64)
    tail = least_squares_tail(grouped_kernel(linear), start, moments_of(linear, x), lambda p: p, intercept=False)
    torch.testing.assert_close(tail.kernel[..., 4:], start[..., 4:], rtol=0, atol=1e-12)
    torch.testing.assert_close(tail.kernel[0, :, :4], linear.weight.detach()[:, :4], rtol=1e-4, atol=1e-4)


def test_inputs_of_zeros_change_nothing() -> None:
    linear = nn.Linear(6, 4).double()
    start = torch.randn(1, 4, 6, dtype=torch.float64)
    moments = moments_of(linear, torch.zeros(5, 6, dtype=torch.float64))
    tail = least_squares_tail(grouped_kernel(linear), start, moments, lambda p: p, intercept=True)
    torch.testing.assert_close(tail.kernel, start, rtol=0, atol=0)
