"""All sums of a structured 2-D convolution in one Triton kernel: each activation is read, and each sum written, once.

Legend: N images, C channels read (of all groups), S sums written, M channels at most in one sum; H, W read and I, J
written positions; P positions and B sums of one program. Sums over the channels come as a table of channels and signs,
so that chains in any order, merged and signed ones are one kernel; sums over space are K x K taps, with the layer's
padding and dilation. Added up in fp32 whatever the type; read in any memory format, written channels-last.

Imported only where Triton is. Its interpreter (``TRITON_INTERPRET=1``) runs the kernel on a CPU, for tests; there the
functions that Triton itself writes in Triton (``tl.zeros``, ``tl.max``) work only if it was first imported so, and are
not used.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

POSITIONS = 64
"""P: with B of 32 a program has 2,048 sums, in fp32 16 registers a thread of four warps."""


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    x,
    written,
    channels,
    signs,
    counts,
    longest,
    positions,
    sums,
    most,
    height,
    width,
    rows,
    columns,
    step_n,
    step_c,
    step_h,
    step_w,
    KH: tl.constexpr,
    KW: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    DH: tl.constexpr,
    DW: tl.constexpr,
    P: tl.constexpr,
    B: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    row, column = place // columns % rows - PH, place % columns - PW
    image = x + place // (rows * columns) * step_n
    own = tl.program_id(1) * B + tl.arange(0, B)
    count = tl.load(counts + own, mask=own < sums, other=0)
    total = tl.full((P, B), 0.0, tl.float32)
    for k in range(0, tl.load(longest + tl.program_id(1))):
        among = k < count
        channel = tl.load(channels + own * most + k, mask=among, other=0)
        sign = tl.load(signs + own * most + k, mask=among, other=0.0)
        for a in tl.static_range(KH):
            for b in tl.static_range(KW):
                h, w = row + a * DH, column + b * DW
                inside = (place < positions) & (h >= 0) & (h < height) & (w >= 0) & (w < width)
                at = (image + h * step_h + w * step_w)[:, None] + (channel * step_c)[None, :]
                value = tl.load(at, mask=inside[:, None] & among[None, :], other=0.0)
                total += sign[None, :] * value.to(tl.float32)
    at = written + place[:, None] * sums + own[None, :]
    tl.store(at, total.to(written.dtype.element_ty), mask=(place < positions)[:, None] & (own < sums)[None, :])


@triton_op("sconv_search::summed", mutates_args={})
def summed(
    x: Tensor,
    channels: Tensor,
    signs: Tensor,
    counts: Tensor,
    longest: Tensor,
    box: list[int],
    padding: list[int],
    dilation: list[int],
    block: int,
) -> Tensor:
    """(N, C, H, W) -> (N, S, I, J), channels-last: box sums over space of the signed sums over channels.

    Args:
        channels: (S, M) int64; a row's first ``counts`` entries are the channels of its sum.
        signs: (S, M) fp32, the weight of each.
        counts: (S,) int32.
        block: sums that one program makes of a position, B.
        longest: (S / B, rounded up) int32, the largest count of each B sums.
        box: taps along height and width; ``padding``, at both ends, by zeros, and ``dilation`` likewise.
    """
    images, _, height, width = x.shape
    rows, columns = (
        size + 2 * pad - (taps - 1) * gap
        for size, pad, taps, gap in zip((height, width), padding, box, dilation, strict=True)
    )
    sums, most = channels.shape
    written = x.new_empty(images, rows, columns, sums)
    positions = images * rows * columns
    grid = (triton.cdiv(positions, POSITIONS), triton.cdiv(sums, block))
    wrap_triton(_kernel)[grid](
        x,
        written,
        channels,
        signs,
        counts,
        longest,
        positions,
        sums,
        most,
        height,
        width,
        rows,
        columns,
        *x.stride(),
        KH=box[0],
        KW=box[1],
        PH=padding[0],
        PW=padding[1],
        DH=dilation[0],
        DW=dilation[1],
        P=POSITIONS,
        B=block,
    )
    return written.permute(0, 3, 1, 2)
