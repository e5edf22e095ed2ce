"""Results kept by content: every trial of a search works on another copy of the same trained weights."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from sconv_search.system.content import Named, class_content, content_of, tensor_content
from sconv_search.system.identity import condensed

MOST_IDLE = 8
"""Trainings for which a result that no call asks for is kept: most are of weights that no other trial comes to."""
KEPT_BYTES = 2**30
"""Results that one remembered function keeps; the SVDs of all layers of a ResNet-50 are about a quarter of it."""
Result = TypeVar("Result", bound=tuple[object, ...])
_CONTENTS = frozenset({"_parameters", "_buffers", "_modules", "training"})
_MEMOS: WeakSet[Memo[Any]] = WeakSet()


def forget_all() -> None:
    """Gives up every kept result, so that the next calls take as long as first ones."""
    for memo in _MEMOS:
        memo.forget()


def forget_idle() -> None:
    """Gives up the results that were not asked for during the last ``MOST_IDLE`` calls of this; each training makes
    one.
    """
    for memo in _MEMOS:
        memo.forget_idle()


class Memo(Generic[Result]):
    """The last results by key, the one not used for the longest time given up first.

    Args:
        most: bytes that the tensors of all results may take together; the newest result is kept whatever it takes.
        results: how many are kept.
    """

    def __init__(self, most: int, results: int = sys.maxsize) -> None:
        self._most, self._results = most, results
        self._kept: OrderedDict[Hashable, Result] = OrderedDict()
        self._used: dict[Hashable, int] = {}
        self._now = 0
        self._lock = Lock()
        _MEMOS.add(self)

    def __len__(self) -> int:
        """Number of results."""
        return len(self._kept)

    def get(self, key: Hashable) -> Result | None:
        """The result kept under that key."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self._used[key] = self._now
            return self._kept.get(key)

    def forget(self) -> None:
        """Gives up all results."""
        with self._lock:
            self._kept.clear()
            self._used.clear()

    def forget_idle(self) -> None:
        """Gives up the results that were not asked for since the last ``MOST_IDLE`` calls of this."""
        with self._lock:
            self._now += 1
            for key in [key for key, used in self._used.items() if self._now - used > MOST_IDLE]:
                del self._kept[key], self._used[key]

    def put(self, key: Hashable, result: Result) -> None:
        """Keeps a result."""
        with self._lock:
            self._kept[key] = result
            self._kept.move_to_end(key)
            self._used[key] = self._now
            total = sum(map(_size, self._kept.values()))
            while len(self._kept) > 1 and (total > self._most or len(self._kept) > self._results):
                oldest, given_up = self._kept.popitem(last=False)
                del self._used[oldest]
                total -= _size(given_up)


def _size(result: tuple[object, ...]) -> int:
    return sum(part.numel() * part.element_size() for part in result if isinstance(part, Tensor))


def remembered(compute: Callable[..., Result], *, most: int = KEPT_BYTES) -> Callable[..., Result]:
    """The function of tensors and numbers, its last results kept by the tensors' contents; of none without values."""
    memo: Memo[Result] = Memo(most)

    @wraps(compute)
    def look_up(*arguments: Tensor | float | None) -> Result:
        if any(isinstance(value, Tensor) and value.is_meta for value in arguments):
            return compute(*arguments)
        key = tuple(content(value) if isinstance(value, Tensor) else value for value in arguments)
        result = memo.get(key)
        if result is None:
            result = compute(*arguments)
            memo.put(key, result)
        return result

    return look_up


def content(tensor: Tensor) -> Hashable:
    """Equal for tensors of equal values, shape, type and device."""
    return tensor_content(tensor)


_CONTENTS_SEEN: Any = WeakIdKeyDictionary()


def unwritten_content(tensor: Tensor) -> Hashable:
    """The content of inputs that many calls share: computed once, as long as torch alone can write to them and does
    not.

    Of memory that numpy shares, writing does not show; it is looked at each time.
    """
    if not tensor.untyped_storage().resizable():
        return content(tensor)
    version, known = _CONTENTS_SEEN.get(tensor, (-1, None))
    key: Hashable = known if version == tensor._version else content(tensor)
    _CONTENTS_SEEN[tensor] = (tensor._version, key)
    return key


_UNWRITTEN: dict[nn.Module, tuple[Hashable, Hashable]] = {}
"""Architecture and content."""


@contextmanager
def unwritten(network: nn.Module) -> Iterator[None]:
    """Until the end of the block nothing changes the network, so that its architecture and content are computed once.

    To read all weights takes three tenths of the time in which a choice for a layer of DenseNet-201 is measured.
    """
    before = _UNWRITTEN.get(network)
    if before is None:
        same = architecture(network)
        _UNWRITTEN[network] = same, _with_values(same, network)
    try:
        yield
    finally:
        if before is None:
            _UNWRITTEN.pop(network, None)  # another thread may have left its block


def network_content(network: nn.Module) -> Hashable:
    """Equal for networks of one architecture with equal weights and buffers."""
    if (known := _UNWRITTEN.get(network)) is not None:
        return known[1]
    return _with_values(architecture(network), network)


def _with_values(same: Hashable, network: nn.Module) -> Hashable:
    tensors = (*network.parameters(), *network.buffers())
    return condensed((same, tuple(content(tensor) for tensor in tensors)))


def architecture(network: nn.Module) -> Hashable:
    """All that decides a network's forward but the values of its weights and buffers; equal for copies.

    Of the user's own classes and functions also what their code names: helper functions, other classes, constants.
    """
    if (known := _UNWRITTEN.get(network)) is not None:
        return known[0]
    first: dict[int, str] = {}
    facts: list[Hashable] = []
    kinds: dict[type[nn.Module], Hashable] = {}
    parts = {id(module): (index, module) for index, module in enumerate(network.modules())}
    named = Named(parts)
    for name, module in network.named_modules(remove_duplicate=False):
        if (before := first.setdefault(id(module), name)) != name:
            facts.append((name, before))
            continue
        tensors = {**module._parameters, **module._buffers}
        shapes = [
            (key, _shape(t), t.dtype, first.setdefault(id(t), f"{name}.{key}"))
            for key, t in tensors.items()
            if t is not None
        ]
        own = {key: value for key, value in vars(module).items() if key not in _CONTENTS and not _empty(value)}
        kind = type(module)
        if kind not in kinds:
            kinds[kind] = class_content(kind, named)
        facts.append((name, kind, tuple(shapes), content_of(own, parts, named)))
    return (tuple(facts), tuple(kinds.values()), named.contents)


def _empty(value: object) -> bool:
    return isinstance(value, dict) and not value


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    return None if is_lazy(tensor) else tuple(tensor.shape)
