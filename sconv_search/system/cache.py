"""Results kept by content: every trial of a search works on another copy of the same trained weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from threading import Lock
from types import FunctionType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.utils.weak import WeakIdKeyDictionary

from sconv_search.system.content import PLAIN, content_of, tensor_content

KEPT_BYTES = 2**30
"""Results that one remembered function keeps; the SVDs of all layers of a ResNet-50 are about a quarter of it."""
Result = TypeVar("Result", bound=tuple[object, ...])
_CONTENTS = frozenset({"_parameters", "_buffers", "_modules", "training"})


_MEMOS: WeakSet[Memo[Any]] = WeakSet()


def forget_all() -> None:
    """Gives up every kept result, so that the next calls take as long as first ones."""
    for memo in _MEMOS:
        memo.forget()


class Memo(Generic[Result]):
    """The last results by key, the one not used for the longest time given up first.

    Args:
        most: bytes that the tensors of all results may take together; the newest result is kept whatever it takes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Result] = OrderedDict()
        self._lock = Lock()
        _MEMOS.add(self)

    def get(self, key: Hashable) -> Result | None:
        """The result kept under that key."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def forget(self) -> None:
        """Gives up all results."""
        with self._lock:
            self._kept.clear()

    def put(self, key: Hashable, result: Result) -> None:
        """Keeps a result."""
        with self._lock:
            self._kept[key] = result
            self._kept.move_to_end(key)
            total = sum(map(_size, self._kept.values()))
            while len(self._kept) > 1 and total > self._most:
                total -= _size(self._kept.popitem(last=False)[1])


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
    """The same, computed once for inputs that many calls share, as long as torch does not write to them."""
    version, known = _CONTENTS_SEEN.get(tensor, (-1, None))
    found: Hashable = known if version == tensor._version else content(tensor)
    _CONTENTS_SEEN[tensor] = (tensor._version, found)
    return found


def network_content(network: nn.Module) -> Hashable:
    """Equal for networks of one architecture with equal weights and buffers."""
    tensors = (*network.parameters(), *network.buffers())
    return (architecture(network), tuple(content(tensor) for tensor in tensors))


def architecture(network: nn.Module) -> Hashable:
    """All that decides a network's forward but the values of its weights and buffers; equal for copies."""
    first: dict[int, str] = {}
    facts: list[Hashable] = []
    kinds: dict[type[nn.Module], Hashable] = {}
    parts = {id(module): (place, module) for place, module in enumerate(network.modules())}
    for name, module in network.named_modules(remove_duplicate=False):
        if (before := first.setdefault(id(module), name)) != name:
            facts.append((name, before))
            continue
        tensors = {**module._parameters, **module._buffers}
        shapes = [
            (key, _shape(t), t.dtype, t.is_meta, first.setdefault(id(t), f"{name}.{key}"))
            for key, t in tensors.items()
            if t is not None
        ]
        own = {key: value for key, value in vars(module).items() if key not in _CONTENTS and not _empty(value)}
        kind = type(module)
        if kind not in kinds:
            kinds[kind] = _class_content(kind)
        facts.append((name, kind, tuple(shapes), content_of(own, parts)))
    return (tuple(facts), tuple(kinds.values()))


def _empty(value: object) -> bool:
    return isinstance(value, dict) and not value


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    return None if isinstance(tensor, UninitializedTensorMixin) else tuple(tensor.shape)


def _class_content(kind: type[nn.Module]) -> Hashable:
    """The functions and plain values of a class and its bases, torch's own left out: they may be replaced while a
    program runs.
    """
    own = [base for base in kind.__mro__ if base is not object and base.__module__.partition(".")[0] != "torch"]
    known = (*PLAIN, FunctionType)
    return tuple(
        (name, content_of(value)) for base in own for name, value in vars(base).items() if isinstance(value, known)
    )
