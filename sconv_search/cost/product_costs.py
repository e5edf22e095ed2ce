"""Multiply-accumulates of every product of matrices, by the shapes in a trace: output elements times contracted length.

Convolutions, linear layers, ``matmul`` and its kin, ``einsum``, attention and recurrent layers. What such an operator
does beside its products is counted in additions: the gates of a recurrent layer, the scale and mask of attention.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

Handle = Callable[[list[Any], list[Any]], Counter[str]]
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
RECURRENT_ADDITIONS = {"lstm": 8, "gru": 8, "rnn_tanh": 1, "rnn_relu": 1}
"""For each hidden number of a step: LSTM 4 sums of products, 2 products and a sum for the cell, 1 product for the
output; GRU 3 sums, 1 product with the reset gate, 4 for the weighted mean of old and new; a plain cell 1 sum."""
BILINEAR_SAMPLE = 7
"""Additions of a sum of four inputs by weights: four multiplications, three additions."""


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a traced tensor; a number, which has none, counts as a scalar.

    Raises:
        ValueError: the trace does not know it, as inside scripted code.
    """
    if value.type().kind() != "TensorType" and not value.isCompleteTensor():
        return ()
    sizes = value.type().sizes()
    if sizes is None:
        raise ValueError(
            f"{value.node().kind()} has a tensor whose shape is not in the trace; leave torch.jit.script out"
        )
    return tuple(sizes)


def elements(value: Any) -> int:
    """Elements of a traced tensor; 0 for numbers, which appear in the trace when shapes are computed."""
    sizes = shape_of(value)
    return math.prod(sizes) if sizes else 0


def written(value: Any) -> int:
    """Numbers that are written, a single one included."""
    return math.prod(shape_of(value))


def members(value: Any) -> list[Any]:
    """The values of a traced list."""
    return list(value.node().inputs())


def constant(value: Any) -> Any:
    """What a traced constant holds, or a list of constants; None for what is computed in the forward."""
    if value.node().kind() == "prim::ListConstruct":
        return [member.toIValue() for member in members(value)]
    return value.toIValue()


def is_given(inputs: Sequence[Any], index: int) -> bool:
    """Whether an optional argument is there."""
    return len(inputs) > index and inputs[index].type().kind() != "NoneType"


def counted(macs: int, outputs: Sequence[Any], adds: int = 0) -> Counter[str]:
    """The counts of an operator whose first output is its result."""
    return Counter(macs=macs, adds=adds, activations=elements(outputs[0]))


def contraction(first: int, axes: Sequence[int] = (-1,)) -> Handle:
    """A product that sums over these axes of the input with that number."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        sizes = shape_of(inputs[first])
        return counted(written(outputs[0]) * math.prod(sizes[axis] for axis in axes), outputs)

    return handle


def convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """The taps of one filter, for each output; of a transposed convolution, for each input."""
    transposed = bool(inputs[6].toIValue())
    return counted(elements(inputs[0] if transposed else outputs[0]) * math.prod(shape_of(inputs[1])[1:]), outputs)


def convolution_by_mode(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution padded by 'same' or 'valid': the taps of one filter, for each output."""
    return counted(elements(outputs[0]) * math.prod(shape_of(inputs[1])[1:]), outputs)


def convolution_over_time(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``conv_tbc``, whose kernel is (taps, inputs, outputs)."""
    return counted(elements(outputs[0]) * math.prod(shape_of(inputs[1])[:2]), outputs)


def deformable_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``deform_conv2d(x, weight, offset, mask, ...)``: a convolution of samples, each by bilinear interpolation, masked
    or not.
    """
    _, channels, *taps = shape_of(inputs[1])
    sizes = shape_of(outputs[0])
    samples = math.prod(sizes) // sizes[1] * shape_of(inputs[0])[1] * math.prod(taps)
    masked = bool(inputs[-1].toIValue())
    return counted(elements(outputs[0]) * channels * math.prod(taps), outputs, (BILINEAR_SAMPLE + masked) * samples)


def vector_products(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``linalg_vecdot(x, y, dim)``."""
    return counted(written(outputs[0]) * shape_of(inputs[0])[inputs[2].toIValue()], outputs)


def tensordot(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Of a K and K b numbers it makes a b: contracted length K is the root of both products' quotient."""
    result = written(outputs[0])
    contracted = math.isqrt(written(inputs[0]) * written(inputs[1]) // result) if result else 0
    return counted(result * contracted, outputs)


def bilinear(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Each output is a vector times a matrix times a vector."""
    _, first, second = shape_of(inputs[2])
    return counted(written(outputs[0]) * (first * second + second), outputs)


def distances(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``cdist`` and ``pdist``: a difference and a multiply-accumulate for each pair of rows and each column."""
    pairs = written(outputs[0]) * shape_of(inputs[0])[-1]
    return counted(pairs, outputs, pairs)


def attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``scaled_dot_product_attention(query, key, value, mask, ...)``: both products in full, causal or not.

    In additions: the query's scale, and the mask where it is added.
    """
    query, key = shape_of(inputs[0]), shape_of(inputs[1])
    positions = math.prod(shape_of(outputs[0])[:-1])
    scores = positions * key[-2]
    adds = positions * query[-1]
    if is_given(inputs, 3) and inputs[3].type().scalarType() != "Bool":
        adds += scores
    return counted(scores * query[-1] + written(outputs[0]) * key[-2], outputs, adds)


def recurrent(kind: str) -> Handle:
    """``lstm(x, states, weights, ...)`` and its kin: each weight matrix once a step, whatever the layers and
    directions.
    """

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        lists = [
            value
            for value in inputs
            if value.node().kind() == "prim::ListConstruct" and value.type().str() == "Tensor[]"
        ]
        matrices = [sizes for sizes in map(shape_of, members(lists[-1])) if len(sizes) == 2]
        steps = math.prod(shape_of(inputs[0])[:-1])
        rows = matrices[0][0]
        states = rows // GATES[kind] * sum(sizes[0] == rows for sizes in matrices) // 2  # of all layers and directions
        return counted(steps * sum(map(math.prod, matrices)), outputs, steps * RECURRENT_ADDITIONS[kind] * states)

    return handle


def recurrent_cell(kind: str) -> Handle:
    """``lstm_cell(x, state, w_ih, w_hh, ...)`` and its kin: one step."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        batch, hidden = math.prod(shape_of(inputs[0])[:-1]), shape_of(inputs[3])[-1]
        macs = batch * (written(inputs[2]) + written(inputs[3]))
        return counted(macs, outputs, batch * RECURRENT_ADDITIONS[kind] * hidden)

    return handle


def multi_dot(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``linalg_multi_dot``: in the order that needs the fewest products, which is the one that it takes."""
    chain = [shape_of(matrix) for matrix in members(inputs[0])]
    chain[0], chain[-1] = (chain[0] if len(chain[0]) == 2 else (1, *chain[0])), (*chain[-1], 1)[:2]
    sides = [sizes[0] for sizes in chain] + [chain[-1][1]]
    least = {(i, i): 0 for i in range(len(chain))}
    for length in range(1, len(chain)):
        for i in range(len(chain) - length):
            j = i + length
            least[i, j] = min(
                least[i, k] + least[k + 1, j] + sides[i] * sides[k + 1] * sides[j + 1] for k in range(i, j)
            )
    return counted(least[0, len(chain) - 1], outputs)


def einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """``einsum(equation, operands, path)``: pair by pair, in torch's order.

    A pair costs the product of all its axes' lengths. An axis that only one of them has and nothing after them needs is
    summed first, in additions, as is what is left over at the end.
    """
    shapes = [shape_of(operand) for operand in members(inputs[1])]
    terms, result = _axes(inputs[0].toIValue(), [len(shape) for shape in shapes])
    lengths: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for axis, length in zip(term, shape, strict=True):
            lengths[axis] = max(lengths.get(axis, 1), length)
    operands = [frozenset(term) for term in terms]
    present = [
        {axis: length for axis, length in zip(t, s, strict=True) if length > 1}
        for t, s in zip(terms, shapes, strict=True)
    ]
    macs = adds = 0
    for pair in _pairs(constant(inputs[2]) if is_given(inputs, 2) else None, len(operands)):
        left, right = (operands[index] for index in pair)
        sizes = [present[index] for index in pair]
        operands = [term for index, term in enumerate(operands) if index not in pair]
        present = [own for index, own in enumerate(present) if index not in pair]
        kept = frozenset(result).union(*operands)
        adds += sum(_summed(own, kept | other) for own, other in zip(sizes, (right, left), strict=True))
        used = (left & (right | kept)) | (right & (left | kept))
        joined = {axis: lengths[axis] for axis in used if any(axis in own for own in sizes)}
        macs += math.prod(joined.values())
        operands.append(used & kept)
        present.append({axis: length for axis, length in joined.items() if axis in kept})
    adds += _summed(present[0], frozenset(result))
    return counted(macs, outputs, adds)


def _summed(lengths: dict[str, int], kept: frozenset[str]) -> int:
    """Additions that take all other axes out of a tensor with these."""
    return math.prod(lengths.values()) - math.prod(length for axis, length in lengths.items() if axis in kept)


def _pairs(path: Sequence[int] | None, operands: int) -> list[tuple[int, int]]:
    """Which two operands are multiplied, turn by turn; a product goes to the end. Torch's own order is from the
    left.
    """
    if path:
        return [(path[i], path[i + 1]) for i in range(0, len(path), 2)]
    return [] if operands == 1 else [(0, 1)] + [(0, left - 1) for left in range(operands - 1, 1, -1)]


def _axes(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The axes' names in each operand and in the result; those that an ellipsis stands for are numbered from the
    right.
    """
    given, arrow, wanted = equation.replace(" ", "").partition("->")
    texts = given.split(",")
    letters = [text.replace("...", "") for text in texts]
    terms = []
    for text, own, rank in zip(texts, letters, ranks, strict=True):
        hidden = [f".{number}" for number in range(rank - len(own), 0, -1)] if "..." in text else []
        before = text.partition("...")[0]
        terms.append([*before, *hidden, *own[len(before) :]])
    broadcast = sorted({axis for term in terms for axis in term if axis.startswith(".")})
    if not arrow:
        every = "".join(letters)
        return terms, [*broadcast, *(axis for axis in sorted(set(every)) if every.count(axis) == 1)]
    return terms, [*(broadcast if "..." in wanted else []), *wanted.replace("...", "")]


PRODUCTS: dict[str, Handle] = {
    **dict.fromkeys(("_convolution", "convolution"), convolution),
    "_convolution_mode": convolution_by_mode,
    "conv_tbc": convolution_over_time,
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot", "vdot", "inner"), contraction(0)),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "sspaddmm"), contraction(1)),
    "addbmm": contraction(1, (0, -1)),
    "affine_grid_generator": contraction(0),
    **dict.fromkeys(("outer", "ger", "kron", "addr"), contraction(0, ())),
    "tensordot": tensordot,
    "linalg_vecdot": vector_products,
    "bilinear": bilinear,
    "cdist": distances,
    "_cdist_forward": distances,
    "pdist": distances,
    "chain_matmul": multi_dot,
    "linalg_multi_dot": multi_dot,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    **{kind: recurrent(kind) for kind in RECURRENT_ADDITIONS},
    **{f"{kind}_cell": recurrent_cell(kind) for kind in RECURRENT_ADDITIONS},
}
"""Operator of ``aten`` -> what it costs."""
