"""One kernel makes the sums that slices make: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import optimize_for_inference
from sconv_search.inference.fused_sums import BLOCK, FusedSums, fusible
from sconv_search.inference.implementations import ONE_KERNEL, implementations
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.sums.spatial_pooling import pool_space
from tests.sconv_search.inference.test_optimize import preferring

triton = pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BOTH = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(autouse=True)
def runnable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is read by Triton when it is first imported, for the interpreter or for a GPU."""
    if DEVICE.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    import sconv_search.inference.triton_sums  # noqa: F401


def layer_of(variant: str, *, c: int = 4, groups: int = 1, **geometry: object) -> StructuredConv2d:
    """A layer of 12 channels with trained-like weights."""
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 8, 3, groups=groups, **{"padding": 1, **geometry})  # type: ignore[arg-type]
    return StructuredConv2d.from_conv(conv, c=c, n=2, variant=variant).to(DEVICE).eval()


def sums_of(layer: StructuredConv2d) -> FusedSums:
    """All sums of the layer."""
    return FusedSums(layer.pooling, box=layer._boxes, padding=layer.padding, dilation=layer.dilation)  # type: ignore[arg-type]


def by_slices(layer: StructuredConv2d, x: Tensor) -> Tensor:
    """The same sums, by additions of slices."""
    return pool_space(F.pad(layer.pooling(x), layer._pads), layer._boxes, layer.dilation)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ["natural", "permuted", "signed_permuted", "merged", "signed_merged"])
@pytest.mark.parametrize("memory_format", BOTH)
def test_it_makes_the_sums_of_every_variant(variant: str, memory_format: torch.memory_format) -> None:
    layer = layer_of(variant)
    x = torch.randn(3, 12, 9, 11, device=DEVICE).contiguous(memory_format=memory_format)
    found = sums_of(layer)(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, by_slices(layer, x), rtol=0, atol=1e-5)


GEOMETRIES = [{"padding": (2, 0)}, {"dilation": (2, 1), "padding": (1, 2)}, {"groups": 2, "c": 2}, {"c": 1}, {"c": 12}]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_it_honors_geometry(geometry: dict[str, int]) -> None:
    layer, x = layer_of("merged", **geometry), torch.randn(2, 12, 7, 10, device=DEVICE)
    torch.testing.assert_close(sums_of(layer)(x), by_slices(layer, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_added_up_in_fp32(dtype: torch.dtype) -> None:
    layer, x = layer_of("natural", c=1), torch.full((1, 12, 6, 6), 100.0, device=DEVICE, dtype=dtype)
    x[:, 0], x[:, 1] = 30_000.0, -30_000.0  # running sums in 16 bits would lose the hundreds in bf16
    expected = by_slices(layer, x.double()).to(dtype)
    torch.testing.assert_close(sums_of(layer)(x), expected, rtol=0, atol=0)


def test_more_positions_and_sums_than_one_program_has() -> None:
    torch.manual_seed(0)
    layer = StructuredConv2d.from_conv(nn.Conv2d(70, 4, 3, padding=1), c=45, n=2, variant="natural").to(DEVICE)
    x = torch.randn(2, 70, 9, 13, device=DEVICE)
    torch.testing.assert_close(sums_of(layer)(x), by_slices(layer, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_network_made_ready_may_use_it(stride: int) -> None:
    layer = layer_of("merged", stride=stride)
    network, x = (
        nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), layer).to(DEVICE).eval(),
        torch.randn(2, 3, 9, 9, device=DEVICE),
    )
    ready, rows = optimize_for_inference(network, x, timer=preferring(ONE_KERNEL))
    assert rows[0].chosen == ONE_KERNEL
    assert any(isinstance(module, FusedSums) for module in ready.modules())
    torch.testing.assert_close(ready(x), network(x), rtol=0, atol=1e-5)


def test_it_is_offered_only_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of("merged"), torch.randn(1, 12, 6, 6, device=DEVICE)
    assert ONE_KERNEL in implementations(layer, x)
    assert not fusible(x.double())
    assert not fusible(x[0])
    circular = layer_of("merged", padding_mode="circular")
    assert ONE_KERNEL not in implementations(circular, x)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert fusible(x) == (DEVICE.type == "cuda")


@pytest.mark.skipif(DEVICE.type == "cuda", reason="it is compiled by running there")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_it_compiles_for_a_gpu_that_is_not_here(dtype: str) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    from sconv_search.inference import triton_sums

    kernel = JITFunction(triton_sums._kernel.fn)
    fixed = {"KH": 2, "KW": 2, "PH": 1, "PW": 1, "DH": 1, "DW": 1, "P": triton_sums.POSITIONS, "B": BLOCK}
    images, tables = dict.fromkeys(("x", "written"), f"*{dtype}"), {"channels": "*i64", "signs": "*fp32"}
    known = {**images, **tables, **dict.fromkeys(("counts", "longest"), "*i32"), **dict.fromkeys(fixed, "constexpr")}
    signature = {name: known.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(
        fn=kernel, signature=signature, constexprs={(kernel.arg_names.index(k),): v for k, v in fixed.items()}
    )
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert "sm_90" in made.asm["ptx"]
