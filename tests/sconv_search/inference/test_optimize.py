"""A network made ready computes what it computed, is never slower than its dense form, and says what was chosen."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, Compressor, optimize_for_inference
from sconv_search.cost.timing import Run
from sconv_search.inference.implementations import AS_TRAINED, DENSE
from sconv_search.inference.optimize import FASTEST, NOISE, WHOLE, LayerTimes, choice_table, fastest
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.conv_transpose import StructuredConvTranspose2d
from sconv_search.structured.kinds import STRUCTURED
from sconv_search.structured.linear import StructuredLinear
from sconv_search.studies import METHODS
from sconv_search.system.cache import Memo
from tests.test_contract import Tiny, drawn, plan_of

pytestmark = pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
Timer = Callable[[Mapping[str, Run]], dict[str, list[float]]]
SORTED = "sorted by the layer before"


def preferring(*names: str) -> Timer:
    """A clock by which the first of these names that is offered is fastest, then dense; in milliseconds 1, 2, and 3."""

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        favorite = next((name for name in names if name in runs), None)
        return {name: [0.001 if name in (favorite, FASTEST) else 0.002 if name == DENSE else 0.003] for name in runs}

    return timer


PREFERENCES = [
    (AS_TRAINED,),
    (DENSE,),
    ("1x1 + average", "average", "1x1"),
    (f"{SORTED} + slices", SORTED, "sorted + depthwise", "depthwise"),
    ("slices + average", "sorted", "1x1"),
]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """The contract's network with batch norms of some variety."""
    torch.manual_seed(0)
    tiny = Tiny().eval()
    for norm in (tiny.stem[1], tiny.norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    return tiny


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_keeps_its_outputs_and_its_network(method: Compressor, network: nn.Module) -> None:
    compressed, x = method.compress(network, plan_of(method, network, 1)), drawn(3, 1)
    before = copy.deepcopy(compressed.state_dict())
    for preference in PREFERENCES:
        ready, rows = optimize_for_inference(compressed, x, timer=preferring(*preference))
        torch.testing.assert_close(ready(x), compressed(x), rtol=0, atol=1e-4)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
        assert not any(weight.requires_grad for weight in ready.parameters())
        sites = [name for name, module in compressed.named_modules() if type(module) in STRUCTURED]
        assert [row.site for row in rows] == sites + [WHOLE] * bool(sites)
    assert all(torch.equal(tensor, before[name]) for name, tensor in compressed.state_dict().items())


@pytest.mark.parametrize("preference", PREFERENCES, ids=lambda names: names[0])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.filterwarnings("ignore")
def test_it_exports_and_reloads(
    method: Compressor, network: nn.Module, preference: tuple[str, ...], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if not method.regularizable and preference != PREFERENCES[0]:
        pytest.skip("layers of this method have one form")
    compressed, x = method.compress(network, plan_of(method, network, 1)), drawn(3, 1)
    ready, _ = optimize_for_inference(compressed, x, timer=preferring(*preference))
    torch.export.save(torch.export.export(ready, (x,)), tmp_path / "network.pt2")
    reloaded = torch.export.load(tmp_path / "network.pt2").module()
    torch.testing.assert_close(reloaded(x), compressed(x), rtol=0, atol=1e-4)
    buffer = io.BytesIO()
    torch.onnx.export(ready, (x,), buffer, dynamo=False)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, compressed(x).detach().numpy(), rtol=0, atol=1e-4)


def pair(variant: str = "merged") -> nn.Module:
    """A convolution, a batch norm, a depthwise convolution and a ReLU before a structured convolution."""
    torch.manual_seed(0)
    structured = StructuredConv2d.from_conv(nn.Conv2d(8, 4, 3, padding=1), c=3, n=2, variant=variant)
    before = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    return nn.Sequential(*before, structured).eval()


@pytest.mark.parametrize("variant", ["merged", "permuted", "signed_merged"])
def test_the_layer_before_writes_the_channels_sorted(variant: str) -> None:
    network, x = pair(variant), torch.randn(2, 2, 14, 14)
    ready, rows = optimize_for_inference(network, x, timer=preferring(f"{SORTED} + depthwise"))
    assert rows[0].chosen == f"{SORTED} + depthwise"
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)
    assert not torch.equal(ready[2].weight, network[2].weight)
    assert "Gather" not in repr(ready)


def test_channels_that_others_read_too_are_gathered() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.skip = pair(), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            inner = self.body[:5](x)
            return self.body[5](inner) + self.skip(inner)

    network, x = Residual().eval(), torch.randn(2, 2, 14, 14)
    ready, rows = optimize_for_inference(network, x, timer=preferring(f"{SORTED} + slices", "sorted + slices"))
    assert rows[0].chosen == "sorted + slices"
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (StructuredConv2d.from_conv(nn.Conv2d(8, 4, 3, padding=1), c=3, n=2, variant="merged"), (8, 9, 9)),
        (StructuredConv2d.from_conv(nn.Conv2d(8, 4, 3, padding=1), c=4, n=2), (8, 9, 9)),
        (StructuredConv2d.from_conv(nn.Conv2d(8, 4, 3, stride=2), c=4, n=3, variant="merged"), (8, 9, 9)),
        (StructuredConvTranspose2d.from_conv(nn.ConvTranspose2d(8, 4, 3), c=3), (8, 5, 5)),
        (StructuredLinear.from_linear(nn.Linear(8, 4), c=3), (8,)),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, nn.Module) else "",
)
def test_every_way_serves_an_input_without_the_batch_axis(layer: nn.Module, shape: tuple[int, ...]) -> None:
    network, x = nn.Sequential(layer).eval(), torch.randn(shape)
    _, rows = optimize_for_inference(network, x, timer=preferring(DENSE))
    assert {AS_TRAINED, DENSE} < {*rows[0].milliseconds}
    for way in rows[0].milliseconds:
        ready, chosen = optimize_for_inference(network, x, timer=preferring(way))
        assert chosen[0].chosen == way
        torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


def test_dense_is_kept_where_nothing_is_faster() -> None:
    assert fastest({AS_TRAINED: 3.0, "1x1": 2.5, DENSE: 2.0}) == DENSE
    assert fastest({AS_TRAINED: 2.0, DENSE: 2.0}) == DENSE
    assert fastest({AS_TRAINED: 1.9, "1x1": 1.8, DENSE: 2.0}) == "1x1"


@pytest.mark.parametrize(("own", "chosen"), [(0.9, FASTEST), (NOISE, FASTEST), (1.1, DENSE)])
def test_a_network_slower_than_its_dense_form_is_not_given(own: float, chosen: str) -> None:
    """Its layers measure faster, one by one."""

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        whole = {FASTEST: [own], DENSE: [1.0]}
        return whole if FASTEST in runs else {name: [2.0 if name == DENSE else 1.0] for name in runs}

    network, x = pair(), torch.randn(2, 2, 14, 14)
    ready, rows = optimize_for_inference(network, x, timer=timer)
    assert rows[-1].chosen == chosen
    assert rows[-1].ratio == (own if chosen != DENSE else 1.0)
    assert any(type(module) in STRUCTURED for module in ready.modules()) == (chosen != DENSE)
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


def test_a_network_that_was_fastest_by_luck_is_not_given() -> None:
    """Measured once more, beside the dense one alone, it is slower."""

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        if DENSE in runs and set(runs) != {FASTEST, DENSE}:
            return preferring(FASTEST, "average")(runs)
        return {FASTEST: [0.5], DENSE: [0.4]}

    network, x = pair(), torch.randn(2, 2, 14, 14)
    ready, rows = optimize_for_inference(network, x, timer=timer)
    assert (rows[-1].chosen, rows[-1].milliseconds[FASTEST], rows[-1].milliseconds[DENSE]) == (DENSE, 500, 400)
    assert not any(type(module) in STRUCTURED for module in ready.modules())


@pytest.mark.parametrize(("seconds", "times", "chosen"), [(0.001, 10, DENSE), (0.1, 4, DENSE), (1.0, 1, FASTEST)])
def test_quick_networks_are_compared_until_a_slow_spell_of_the_machine_is_over(
    seconds: float, times: int, chosen: str
) -> None:
    """In the first comparison dense takes three times as long as it does in all others."""
    compared = 0

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        nonlocal compared
        if set(runs) != {FASTEST, DENSE}:
            return preferring(FASTEST, "average")(runs)
        compared += 1
        return {FASTEST: [seconds * 1.2], DENSE: [seconds * (3 if compared == 1 else 1)]}

    _, rows = optimize_for_inference(pair(), torch.randn(2, 2, 14, 14), timer=timer)
    assert (rows[-1].chosen, compared) == (chosen, times)


def test_one_way_for_all_layers_is_taken_where_the_whole_is_faster_so() -> None:
    """Alone each layer is fastest as trained; the network is with average poolings."""
    seen: list[str] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        if FASTEST in runs:
            seen.extend(runs)
            return {name: [1.0 if name == "all by average" else 2.0] for name in runs}
        return {name: [{AS_TRAINED: 1.0, "average": 1.5, "depthwise": 5.0}.get(name, 2.0)] for name in runs}

    torch.manual_seed(0)
    layers = [StructuredConv2d.from_conv(nn.Conv2d(8, 8, 3, padding=1), c=8, n=2) for _ in range(2)]
    network, x = nn.Sequential(layers[0], nn.ReLU(), layers[1]).eval(), torch.randn(2, 8, 6, 6)
    ready, rows = optimize_for_inference(network, x, timer=timer)
    assert seen == [FASTEST, "all by average", "all by depthwise", DENSE]
    assert [row.chosen for row in rows] == ["average", "average", "all by average"]
    assert any(isinstance(module, nn.AvgPool2d) for module in ready.modules())
    assert rows[0].reason == "1.33 times as fast as dense"
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


def test_a_layer_that_writes_sorted_channels_does_so_in_each_network_measured() -> None:
    """It is structured itself; of several networks made of the same implementations, none changes another's."""

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        return {name: [1.0 if name.startswith((SORTED, "all by sorted by")) else 2.0] for name in runs}

    torch.manual_seed(0)
    layers = [StructuredConv2d.from_conv(nn.Conv2d(8, 8, 3, padding=1), c=3, n=2, variant="merged") for _ in range(3)]
    network, x = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval(), torch.randn(2, 8, 6, 6)
    ready, rows = optimize_for_inference(network, x, timer=timer)
    assert rows[1].chosen.startswith(SORTED)
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


def test_the_median_decides_not_one_slow_spell() -> None:
    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        return {name: [1.0, 1.0, 90.0] if name == AS_TRAINED else [2.0, 2.0, 2.0] for name in runs}

    _, rows = optimize_for_inference(pair(), torch.randn(2, 2, 14, 14), timer=timer)
    assert (rows[0].chosen, rows[0].milliseconds[AS_TRAINED]) == (AS_TRAINED, 1000.0)
    assert rows[0].reason == "2.00 times as fast as dense"


def test_layers_alike_are_measured_once_at_the_shape_that_they_read() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3, padding=1), c=2, n=2) for _ in range(3))
    ).eval()
    seen: list[torch.Size] = []

    def prepare(module: nn.Module, x: Tensor) -> Run:
        seen.append(x.shape)
        return lambda: None

    ways: list[int] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        ways.append(len(runs))
        return preferring(AS_TRAINED)(runs)

    _, rows = optimize_for_inference(network, torch.zeros(5, 4, 6, 7), prepare=prepare, timer=timer)
    assert len(rows) == 4
    # as trained, two kinds of channel sums with three of spatial ones less that, dense; then wholes
    assert [count for count, _ in groupby(ways)] == [7, 4, 2]
    assert set(seen) == {torch.Size([5, 4, 6, 7])}


def test_what_an_earlier_call_measured_is_not_measured_again() -> None:
    turns: list[list[str]] = []

    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        turns.append(list(runs))
        return preferring("average")(runs)

    known: Memo[LayerTimes] = Memo(1)
    found = [
        optimize_for_inference(pair(), torch.randn(2, 2, 14, 14), timer=timer, known=known)[1][0] for _ in range(2)
    ]
    assert found[0] == found[1]
    once = [len(runs) for runs, _ in groupby(turns)]
    assert once == [len(found[0].milliseconds), 4, 2, 4, 2], "the layer once, the whole each time"
    optimize_for_inference(pair(), torch.randn(2, 2, 16, 16), timer=timer, known=known)
    assert len([*groupby(turns)]) == 8, "another size is measured anew"


def test_the_table_says_what_was_chosen_and_why() -> None:
    _, rows = optimize_for_inference(pair(), torch.randn(2, 2, 14, 14), timer=preferring(DENSE))
    header, layer, whole = choice_table(rows).splitlines()
    assert header.split() == ["site", "chosen", "ms", "dense", "ms", "ratio", "why"]
    assert layer.split()[:5] == ["5", "dense", "1.000", "1.000", "1.00"]
    assert "dense is fastest; as trained takes 3.00 times as long" in layer
    assert whole.startswith(WHOLE)


def test_a_network_without_structured_layers_needs_no_clock() -> None:
    def timer(runs: Mapping[str, Run]) -> dict[str, list[float]]:
        raise AssertionError("nothing to measure")

    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    ready, rows = optimize_for_inference(network, torch.zeros(1, 2, 4, 4), timer=timer)
    assert (type(ready[1]), rows) == (nn.Identity, [])


def test_a_forward_that_draws_random_numbers_is_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    with pytest.raises(RuntimeError, match="draw random numbers"):
        optimize_for_inference(Noisy(), torch.zeros(1, 2, 4, 4))


def test_by_the_clock() -> None:
    """Whichever forms are measured fastest here, the network computes the same."""
    network, x = pair(), torch.randn(2, 2, 14, 14)
    ready, rows = optimize_for_inference(network, x)
    assert [row.site for row in rows] == ["5", WHOLE]
    assert all(time > 0 for row in rows for time in row.milliseconds.values())
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


def test_plans_that_leave_a_layer_dense_are_fine(network: nn.Module) -> None:
    plan = CompressionPlan(sites={"strided": Choice(method="structured_conv", structure={"c": 12, "n": 2})})
    x = drawn(2, 1)
    compressed = METHODS["structured_conv"].compress(network, plan)
    ready, rows = optimize_for_inference(compressed, x, timer=preferring("average"))
    assert [(row.site, row.chosen) for row in rows] == [("strided", "average"), (WHOLE, FASTEST)]
    torch.testing.assert_close(ready(x), compressed(x), rtol=0, atol=1e-4)


def test_a_network_that_asks_for_attributes_of_a_batch_norm_keeps_it() -> None:
    class Asking(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self[1].num_features

    network, x = Asking(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)).eval(), torch.randn(2, 4, 3, 3)
    ready, _ = optimize_for_inference(network, x)
    torch.testing.assert_close(ready(x), network(x))
    assert type(ready[1]) is nn.BatchNorm2d


def test_an_example_that_the_forward_writes_over_stays_as_it_is() -> None:
    class Doubling(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    network, x = Doubling(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)).eval(), torch.randn(2, 4, 3, 3)
    given = x.clone()
    ready, _ = optimize_for_inference(network, given)
    assert torch.equal(given, x)
    torch.testing.assert_close(ready(x.clone()), network(x.clone()))
