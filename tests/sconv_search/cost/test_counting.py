from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Cost, StructuredConv2d, StructuredConv3d, StructuredLinear, measure_cost
from sconv_search.cost.counting import counting_free, example_input, measure_modules, on_shapes
from sconv_search.networks.resnet import cifar_resnet


def arithmetic(network: nn.Module, shape: tuple[int, ...]) -> Cost:
    return replace(measure_cost(network, shape), activations=0)


class Runs(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


DENSE = {  # layer, shape: positions * outputs * channels of a group * taps; weights + biases
    "strided, groups": (
        nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
        (6, 9, 7),
        (5 * 4) * 8 * 3 * 9,
        8 * 3 * 9 + 8,
    ),
    "dilated": (nn.Conv2d(6, 8, 3, dilation=2), (6, 9, 7), (5 * 3) * 8 * 6 * 9, 8 * 6 * 9 + 8),
    "1d": (nn.Conv1d(6, 4, 5, padding=2, bias=False), (6, 11), 11 * 4 * 6 * 5, 4 * 6 * 5),
    "3d": (nn.Conv3d(2, 4, (1, 3, 3), stride=(1, 2, 2)), (2, 4, 5, 5), (4 * 2 * 2) * 4 * 2 * 9, 4 * 2 * 9 + 4),
    "pointwise": (nn.Conv2d(6, 8, 1, stride=2), (6, 7, 7), (4 * 4) * 8 * 6, 8 * 6 + 8),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 5, 5), (5 * 5) * 6 * 9, 6 * 9 + 6),
    "same": (nn.Conv2d(4, 6, 2, padding="same", groups=2), (4, 6, 6), (6 * 6) * 6 * 2 * 4, 6 * 2 * 4 + 6),
    "valid": (nn.Conv1d(4, 5, 3, padding="valid"), (4, 6), 4 * 5 * 4 * 3, 5 * 4 * 3 + 5),
    "circular": (nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"), (4, 6, 6), (6 * 6) * 5 * 4 * 9, 5 * 4 * 9 + 5),
    "reflect": (nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), (4, 6, 6), (6 * 6) * 5 * 4 * 9, 5 * 4 * 9 + 5),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5), (5 * 5) * 4 * 3 * 9, 4 * 3 * 9 + 6),
    "linear": (nn.Linear(8, 4), (8,), 8 * 4, 8 * 4 + 4),
    "linear on a sequence": (nn.Linear(8, 4, bias=False), (5, 8), 5 * 8 * 4, 8 * 4),
}


@pytest.mark.parametrize(("layer", "shape", "macs", "params"), DENSE.values(), ids=DENSE.keys())
def test_dense_layers_cost_multiply_accumulates_only(
    layer: nn.Module, shape: tuple[int, ...], macs: int, params: int
) -> None:
    written = layer(torch.zeros(1, *shape)).numel()
    assert measure_cost(layer, shape) == Cost(macs=macs, adds=0, params=params, activations=written)


ARITHMETIC = {  # additions and divisions
    "residual sum": (Runs(lambda x: F.relu(x) + x), (3, 8, 6), 3 * 8 * 6),
    "residual sum in place": (Runs(lambda x: F.relu(x).add_(x)), (3, 8, 6), 3 * 8 * 6),
    "difference": (Runs(lambda x: x[:, 1:] - x[:, :-1]), (3, 8, 6), 2 * 8 * 6),
    "product": (Runs(lambda x: x * 2), (3, 8, 6), 3 * 8 * 6),
    "sum": (Runs(lambda x: x.sum(1)), (3, 8, 6), (3 - 1) * 8 * 6),
    "mean": (Runs(lambda x: x.mean((2, 3))), (3, 8, 6), 3 * (8 * 6 - 1 + 1)),
    "average": (nn.AvgPool2d(2), (3, 8, 6), 3 * (4 * 3) * 4),
    "oblong average": (nn.AvgPool2d((2, 3), stride=1), (3, 8, 6), 3 * (7 * 4) * 6),
    "average, functional": (Runs(lambda x: F.avg_pool2d(x, 4)), (3, 8, 8), 3 * (2 * 2) * 16),
    "average of the whole": (Runs(lambda x: F.avg_pool2d(x, x.shape[-1])), (3, 8, 8), 3 * 64),
    "average along a line": (nn.AvgPool1d(3), (3, 9), 3 * 3 * 3),
    "average in a volume": (nn.AvgPool3d(2), (3, 4, 4, 4), 3 * 8 * 8),
    "adaptive average": (nn.AdaptiveAvgPool2d(1), (3, 8, 6), 3 * 8 * 6),
    "adaptive average of even parts": (nn.AdaptiveAvgPool2d((4, 2)), (3, 8, 6), 3 * 8 * 6),
    "adaptive average of overlapping parts": (nn.AdaptiveAvgPool2d(3), (3, 8, 6), 3 * (3 + 4 + 3) * 6),
    "adaptive average that repeats": (nn.AdaptiveAvgPool1d(4), (3, 2), 3 * 4),
}


@pytest.mark.parametrize(("network", "shape", "adds"), ARITHMETIC.values(), ids=ARITHMETIC.keys())
def test_other_arithmetic_is_counted_in_additions(network: nn.Module, shape: tuple[int, ...], adds: int) -> None:
    assert arithmetic(network, shape) == Cost(macs=0, adds=adds, params=0)


FREE = [
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.ZeroPad2d(1),
    nn.Flatten(),
    nn.Dropout(),
    nn.Hardswish(),
    nn.SiLU(),
    nn.PixelShuffle(2),
]


@pytest.mark.parametrize("layer", FREE, ids=lambda layer: type(layer).__name__)
def test_moving_comparing_and_activating_cost_nothing(layer: nn.Module) -> None:
    assert arithmetic(layer, (4, 6, 6)) == Cost(macs=0, adds=0, params=0)


def test_batch_norm_costs_its_parameters_only() -> None:
    assert arithmetic(nn.BatchNorm2d(4).train(), (4, 6, 6)) == Cost(macs=0, adds=0, params=8)


def structured(c: int, n: int, **geometry: int) -> StructuredConv2d:
    return StructuredConv2d.from_conv(nn.Conv2d(8, 6, 3, padding=geometry.get("dilation", 1), **geometry), c=c, n=n)


# On (8, 7, 5), padded to 9 x 7: channels before padding, then rows, then columns; then 6 filters of c * n * n weights.
STRUCTURED = {
    "both": (structured(4, 2), 7 * (7 * 5) + 4 * (8 * 7) + 4 * (8 * 6), (7 * 5) * 6 * 4 * 4, 6 * 4 * 4 + 6),
    "channels": (structured(4, 3), 7 * (7 * 5), (7 * 5) * 6 * 4 * 9, 6 * 4 * 9 + 6),
    "space": (structured(8, 2), 8 * (8 * 7) + 8 * (8 * 6), (7 * 5) * 6 * 8 * 4, 6 * 8 * 4 + 6),
    "least": (structured(1, 1), 7 * (7 * 5) + 2 * (7 * 7) + 2 * (7 * 5), (7 * 5) * 6, 6 + 6),
    "neither": (structured(8, 3), 0, (7 * 5) * 6 * 8 * 9, 6 * 8 * 9 + 6),
    "strided": (
        structured(4, 2, stride=2),
        7 * (7 * 5) + 4 * (8 * 7) + 4 * (8 * 6),
        (4 * 3) * 6 * 4 * 4,
        6 * 4 * 4 + 6,
    ),
    "dilated": (
        structured(4, 2, dilation=2),
        7 * (7 * 5) + 4 * (9 * 9) + 4 * (9 * 7),
        (7 * 5) * 6 * 4 * 4,
        6 * 4 * 4 + 6,
    ),
    "groups": (
        structured(2, 2, groups=2),
        2 * 3 * (7 * 5) + 4 * (8 * 7) + 4 * (8 * 6),
        (7 * 5) * 6 * 2 * 4,
        6 * 2 * 4 + 6,
    ),
}


@pytest.mark.parametrize(("layer", "adds", "macs", "params"), STRUCTURED.values(), ids=STRUCTURED.keys())
def test_structured_convolutions_pay_for_their_pooling(layer: nn.Module, adds: int, macs: int, params: int) -> None:
    assert arithmetic(layer, (8, 7, 5)) == Cost(macs=macs, adds=adds, params=params)


def test_a_strided_pointwise_layer_pools_only_what_it_reads() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(8, 6, 1, stride=2), c=3, n=1)
    assert arithmetic(layer, (8, 7, 5)) == Cost(macs=(4 * 3) * 6 * 3, adds=7 * (4 * 3), params=6 * 3 + 6)


def test_a_structured_volume_is_pooled_axis_by_axis() -> None:
    layer = StructuredConv3d.from_conv(nn.Conv3d(2, 4, 3, padding=1), c=2, n=2)  # (3, 4, 5) padded to (5, 6, 7)
    adds = 2 * (4 * 6 * 7) + 2 * (4 * 5 * 7) + 2 * (4 * 5 * 6)
    assert arithmetic(layer, (2, 3, 4, 5)) == Cost(macs=(3 * 4 * 5) * 4 * 2 * 8, adds=adds, params=4 * 2 * 8 + 4)


def test_a_structured_linear_layer_adds_one_less_than_its_features() -> None:
    layer = StructuredLinear.from_linear(nn.Linear(12, 5), c=5)
    assert arithmetic(layer, (12,)) == Cost(macs=5 * 5, adds=11, params=5 * 5 + 5)


def resnet_cost(depth: int) -> tuple[int, int]:
    macs, adds, inputs = 3 * 16 * 9 * 32 * 32, 0, 16
    for width, size in ((16, 32), (32, 16), (64, 8)):
        for block in range((depth - 2) // 6):
            macs += (inputs if block == 0 else width) * width * 9 * size * size + width * width * 9 * size * size
            adds += width * size * size
        inputs = width
    return macs + 64 * 10, adds + 64 * 8 * 8


@pytest.mark.parametrize(("depth", "params"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_cifar_resnets_cost_what_their_shapes_say(depth: int, params: int) -> None:
    macs, adds = resnet_cost(depth)
    assert arithmetic(cifar_resnet(depth), (3, 32, 32)) == Cost(macs=macs, adds=adds, params=params)


def test_resnet20_has_the_published_number_of_multiply_accumulates() -> None:
    assert measure_cost(cifar_resnet(20), (3, 32, 32)).macs == 40_551_040


def test_a_shared_layer_costs_each_use_and_its_parameters_once() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1)
    cost = measure_cost(nn.Sequential(shared, nn.ReLU(), shared), (4, 6, 6))
    assert replace(cost, activations=0) == Cost(macs=2 * (6 * 6) * 4 * 4 * 9, adds=0, params=4 * 4 * 9 + 4)


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


class Solved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x)


def test_an_operator_without_a_cost_is_refused_with_its_module_and_the_way_on() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), Spectrum()), Solved())
    with pytest.raises(
        ValueError, match=r"no cost is known for aten::fft_fft, run by 1\.1 \(Spectrum\); aten::linalg_inv, "
    ) as caught:
        measure_cost(network, (8, 8))
    assert "run by 2 (Solved)" in str(caught.value)
    assert "--count-free aten::fft_fft --count-free aten::linalg_inv, or in Python count_free=['aten::fft_fft'" in str(
        caught.value
    )


def test_an_operator_can_be_counted_as_nothing() -> None:
    network = nn.Sequential(nn.Linear(8, 8), Spectrum())
    for name in ("aten::fft_fft", "fft_fft"):
        assert measure_cost(network, (8,), count_free=[name]).macs == 64
    assert measure_modules(network, (8,), count_free=["aten::fft_fft"])["1"].flops == 0
    with counting_free(["aten::fft_fft"]):
        assert measure_cost(network, (8,)).macs == 64
    with pytest.raises(ValueError, match="no cost is known for aten::fft_fft"):
        measure_cost(network, (8,))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("aten::linear", "the cost of aten::linear is known; only an operator without a known cost"),
        ("aten::ftt_fft", "torch has no operator aten::ftt_fft; did you mean aten::fft_fft"),
    ],
)
def test_a_name_that_cannot_be_counted_free_is_refused(name: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        measure_cost(nn.Linear(8, 8), (8,), count_free=[name])


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class RunsScripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return scripted(x)


def test_scripted_code_is_refused_and_not_counted_as_nothing() -> None:
    with pytest.raises(ValueError, match=r"no cost is known for prim::CallFunction, run by 1 \(RunsScripted\)"):
        measure_cost(nn.Sequential(nn.Linear(8, 8), RunsScripted()), (8,))
    with pytest.raises(ValueError, match=r"the cost of 1 \(Linear\) cannot be counted: it is compiled"):
        measure_cost(nn.Sequential(nn.Linear(8, 8), torch.jit.script(nn.Linear(8, 8))), (8,))


class AsksWhetherItIsTraced(nn.Module):
    """As detectors do: traced, it computes with sizes as tensors, by a scripted function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            return torch.stack([x.shape[0]]) + scripted(x)  # type: ignore[list-item]
        return self.layer(x) + x


def test_a_network_that_asks_whether_it_is_traced_is_counted_as_it_runs() -> None:
    network = nn.Sequential(AsksWhetherItIsTraced(), nn.Linear(8, 8))
    costs = measure_modules(network, (8,))
    assert (costs[""].macs, costs[""].adds, costs["0"].macs, costs["0.layer"].macs, costs["1"].macs) == (
        128,
        8,
        64,
        64,
        64,
    )


class AsksAndIsScripted(AsksWhetherItIsTraced):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(scripted(x))


def test_what_runs_unseen_by_a_trace_is_never_left_out_of_a_count() -> None:
    with pytest.raises(ValueError, match="cannot be traced to count its cost"):
        measure_cost(AsksAndIsScripted(), (8,))


class RefusesTraces(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch._C._get_tracing_state() or torch.nn.functional.relu(x) is None:
            x.view(7, 7)
        return scripted(x)


def test_a_forward_that_fails_traced_alone_is_named_with_module_and_function() -> None:
    with pytest.raises(
        ValueError, match=r"Sequential cannot be traced .*: view in 1\.0 \(RefusesTraces\) fails with RuntimeError"
    ):
        measure_cost(nn.Sequential(nn.Linear(8, 8), nn.Sequential(RefusesTraces())), (8,))


def test_a_window_that_depends_on_the_input_is_counted() -> None:
    cost = arithmetic(Runs(lambda x: F.avg_pool2d(x, x.size()[2:])), (3, 8, 8))
    assert cost == Cost(macs=0, adds=3 * 64, params=0)


class Takes(nn.Module):
    """Two inputs of different kinds, by name or by place."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, pixels: Tensor, words: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        return {"first": self.layer(pixels), "second": self.layer(self.words(words)) * scale}


class TakesOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Takes()

    def forward(self, batch: dict[str, Tensor]) -> list[Tensor]:
        return list(self.inner(**batch).values())


PIXELS, WORDS = torch.zeros(3, 4), torch.zeros(5, dtype=torch.long)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (Takes(), (PIXELS, WORDS)),
        (Takes(), {"pixels": PIXELS, "words": WORDS}),
        (Takes(), {"words": WORDS, "pixels": PIXELS, "scale": 2.0}),
        (TakesOne(), {"pixels": PIXELS, "words": WORDS}),
        (TakesOne(), ({"pixels": PIXELS, "words": WORDS},)),
        (Takes().bfloat16(), (PIXELS.bfloat16(), WORDS)),
        (Takes().to("meta"), (PIXELS, WORDS.to("meta"))),
    ],
)
def test_an_example_is_passed_as_the_network_is_called(network: nn.Module, inputs: Any) -> None:
    measured = measure_cost(network, inputs)
    assert (measured.macs, measured.adds) == ((3 + 5) * 4 * 2, 5 * 2)


def test_shapes_in_a_tuple_or_dict_are_inputs_each() -> None:
    for inputs in (((3, 4), (5, 4)), {"input": (3, 4), "weight": (5, 4)}):
        assert measure_cost(Multiplies(), inputs).macs == 3 * 5 * 4


class Multiplies(nn.Module):
    def forward(self, input: Tensor, weight: Tensor) -> Tensor:
        return input @ weight.mT


def test_an_example_on_which_the_forward_fails_is_named_by_its_shapes() -> None:
    with pytest.raises(
        ValueError, match=r"Takes fails on the example of shapes \(3, 5\), \(5,\): .*cannot be multiplied"
    ):
        measure_cost(Takes(), (torch.zeros(3, 5), WORDS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_float_type_are_counted(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.Linear(4 * 16, 5)).to(
        dtype
    )
    assert measure_cost(network, (3, 6, 6)).macs == 4 * 27 * 16 + 4 * 16 * 5


class InAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = ([nn.Linear(4, 4), nn.Linear(4, 4)],)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[0]:
            x = layer(x)
        return x


def test_layers_that_no_module_finds_are_counted() -> None:
    assert measure_cost(nn.Sequential(nn.Linear(4, 4), InAList()), (4,)).macs == 3 * 16


def test_a_wrapper_for_several_devices_costs_what_it_wraps() -> None:
    assert measure_cost(nn.DataParallel(nn.Linear(4, 4)), (4,)).macs == 16


def test_results_that_depend_on_no_input_do_not_matter() -> None:
    network = Runs(lambda x: {"sum": x + x, "anchors": torch.ones(3), "kept": ANCHORS, "name": "boxes", "none": None})
    assert measure_cost(network, (4,)).adds == 4


ANCHORS = torch.ones(3)


def test_counting_works_where_no_gradients_are_kept() -> None:
    with torch.inference_mode():
        assert measure_cost(nn.Linear(4, 4), (4,)).macs == 16
    layer = nn.Linear(4, 4)
    with torch.inference_mode(), torch.no_grad():
        assert measure_cost(layer, (4,)).macs == 16


def test_a_network_without_values_whose_shapes_do_not_suffice_is_counted_on_zeros() -> None:
    network = nn.Sequential(nn.Conv1d(3, 4, 1), nn.LSTM(5, 6, batch_first=True)).to("meta")
    assert measure_cost(network, (3, 5)).macs == 4 * 5 * 3 + 4 * 24 * (5 + 6)


@pytest.mark.parametrize(
    ("network", "shape", "cause"),
    [
        (nn.Conv2d(4, 4, 3), (3, 8, 8), "to have 4 channels"),
        (nn.Linear(8, 4), (3, 7), "cannot be multiplied"),
        (nn.Sequential(nn.BatchNorm2d(4)), (4, 8), "expected 4D input"),
        (Runs(lambda x: x.sum(5)), (4, 8), "Dimension out of range"),
    ],
)
def test_a_forward_that_fails_is_reported_with_shape_and_cause(
    network: nn.Module, shape: tuple[int, ...], cause: str
) -> None:
    sizes = ", ".join(map(str, shape))
    with pytest.raises(
        ValueError, match=rf"{type(network).__name__} fails on an input of shape \({sizes}\): .*{cause}"
    ):
        measure_cost(network, shape)


@pytest.mark.parametrize("shape", [(), (0,), (3, -1, 4), (3, 2.5), ("3",)])
def test_a_shape_that_is_none_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="input_shape must hold positive whole numbers without the batch, got"):
        measure_cost(nn.ReLU(), shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_the_weights_does_not_matter(dtype: torch.dtype) -> None:
    layer = structured(4, 2)
    assert measure_cost(copy.deepcopy(layer).to(dtype), (8, 7, 5)) == measure_cost(layer, (8, 7, 5))


def test_the_network_is_not_modified() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 4, 1))
    network[1].eval()
    before, training = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    measure_cost(network, (3, 6, 6))
    assert [module.training for module in network.modules()] == training
    assert set(network.state_dict()) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


class Gated(nn.Module):
    """Its forward asks for a value, which a shape alone does not have."""

    def __init__(self, gate: float) -> None:
        super().__init__()
        self.layer, self.gate = nn.Linear(4, 4), nn.Parameter(torch.tensor(gate))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)) if float(self.gate) > 0 else self.layer(x)


@pytest.mark.parametrize(("gate", "macs"), [(1.0, 32), (-1.0, 16)])
def test_a_forward_that_reads_values_is_counted_on_them(gate: float, macs: int) -> None:
    assert measure_cost(Gated(gate), (4,)).macs == macs


def test_work_on_shapes_computes_no_values() -> None:
    """The numbers that this layer would write take a terabyte."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1))
    assert on_shapes(network, lambda shapes: shapes(example_input(shapes, (3, 2**17, 2**17))).shape) == (1, 16, 1, 1)
    assert next(network.parameters()).device.type == "cpu"


def test_work_that_shapes_do_not_allow_is_done_on_values() -> None:
    assert on_shapes(Gated(1.0), lambda network: network(torch.zeros(1, 4)).device.type) == "cpu"


def test_counting_leaves_the_network_as_it_is() -> None:
    network = cifar_resnet(20)
    before = copy.deepcopy(network.state_dict())
    measure_cost(network, (3, 32, 32))
    assert network.training
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
