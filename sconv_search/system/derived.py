"""Whether tensors are still those of which something was derived, so that nothing derived goes stale."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor


class Derivation:
    """Remembers the values of the tensors of which something was derived.

    On a CPU the values themselves are compared, so that no way of writing them goes unnoticed; elsewhere, where that
    would wait for the device, identity and torch's count of writes.
    """

    def __init__(self, *tensors: Tensor | None) -> None:
        self._tensors = tensors
        self._known = [None if tensor is None else _state(tensor) for tensor in tensors]

    def is_of(self, *tensors: Tensor | None) -> bool:
        """Whether it was made of tensors of these values."""
        if len(tensors) != len(self._tensors):
            return False
        for index, tensor in enumerate(tensors):
            known, state = self._tensors[index], self._known[index]
            if tensor is None or known is None:
                if tensor is not known:
                    return False
            elif not _is_same(tensor, known, state):
                return False
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> Derivation:
        """Of the copies of its tensors; of none where they have changed since."""
        return Derivation(*copy.deepcopy(self._tensors, memo)) if self.is_of(*self._tensors) else Derivation()

    def __reduce__(self) -> tuple[type[Derivation], tuple[()]]:
        return Derivation, ()  # what is loaded is derived anew


def _state(tensor: Tensor) -> Tensor | int | None:
    if tensor.is_meta or type(tensor) is not Tensor:
        return None
    if tensor.device.type == "cpu":
        return tensor.detach().clone()
    return None if tensor.is_inference() else tensor._version


def _is_same(tensor: Tensor, known: Tensor, state: Tensor | int | None) -> bool:
    if not isinstance(state, Tensor):
        return tensor is known and (state is None or state == tensor._version)
    if tensor.dtype != state.dtype or tensor.device != state.device:
        return False
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():  # modes do not see this
            return torch.equal(tensor, state)
    return torch.equal(tensor, state)
