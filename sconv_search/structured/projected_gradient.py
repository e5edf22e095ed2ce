"""Gradients under which a structured layer learns at the pace of the dense layer that it replaces.

A small kernel ``v`` stands for the kernel ``W = A v``, with the matrix ``A`` of the masks. Plain descent moves ``W`` by
``-rate * A A^T dL/dW``: sums of ``s`` inputs multiply the step by about ``s``, so that a learning rate that serves a
dense network makes a structured one diverge. With ``(A^T A)^-1`` times the gradient, ``W`` moves by ``-rate * A A^+
dL/dW``: what the dense layer would do, projected on the structured kernels. ``A`` is a Kronecker product, so the axes
are solved one by one.

It is a hook of the parameter. Tensors that ``torch.func.functional_call`` puts in its place have none, and get the
derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sconv_search.structured import kernels
from sconv_search.structured.sums.channel_pooling import NaturalChains


class ProjectedLayer(nn.Module):
    """A layer whose small kernel ``weight`` gets ``(A^T A)^-1`` times the gradient, whichever parameter it is.

    Copies, assigned parameters, loaded and converted ones have the hook, frozen ones too, for when they are trained
    again. After ``torch.utils.swap_tensors`` it is set anew by the next ``train()``.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["alpha"]
    summed_axis: ClassVar[int] = 1
    """The kernel's axis of channel sums; 0 holds the groups' sums one after the other, 1 those of each output's
    group.
    """
    if TYPE_CHECKING:  # TorchScript cannot read these
        pooling: NaturalChains
        weight: Tensor

    def spatial_taps(self) -> Mapping[int, int]:
        """Spatial axis of the kernel -> taps of the dense kernel along it, where the small kernel may have fewer."""
        return {}

    def project_gradient_(self) -> None:
        """Gives the weight its hook, if it has none."""
        weight = self._parameters.get("weight")
        if (
            type(weight) is not nn.Parameter
            or "pooling" not in self._modules
            or weight.is_inference()
            or _is_projected(weight)
        ):
            return
        spatial = {dim: count for dim, count in self.spatial_taps().items() if weight.shape[dim] != count}
        if not spatial and self.pooling.count == self.pooling.channels:
            return
        trained = weight.requires_grad
        _drop_stale_(weight)
        weight.requires_grad_(True).register_hook(_Projection(self.pooling, self.summed_axis, spatial, weight))
        weight.requires_grad_(trained)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As every module's; setting an attribute comes here too."""
        super().register_parameter(name, param)
        self.project_gradient_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.project_gradient_()  # torch may put other parameters in place
        return self

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        super()._load_from_state_dict(*arguments, **named)
        self.project_gradient_()  # torch may swap what the parameter holds

    def train(self, mode: bool = True) -> Self:
        """As every module's; what a parameter holds may have been swapped since."""
        super().train(mode)
        self.project_gradient_()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.project_gradient_()  # copies of a parameter have no hooks


def _is_projected(weight: Tensor) -> bool:
    """Whether it has a hook that acts: one of what the parameter holds now."""
    return any(
        isinstance(hook, _Projection) and hook.held == weight._cdata for hook in (weight._backward_hooks or {}).values()
    )


def _drop_stale_(weight: Tensor) -> None:
    """Takes away hooks of what the parameter held before ``torch.utils.swap_tensors``, which still seem to be there;
    others act again.
    """
    hooks: Any = weight._backward_hooks
    if any(isinstance(hook, _Projection) for hook in (hooks or {}).values()):
        for key in [key for key, hook in hooks.items() if isinstance(hook, _Projection)]:
            del hooks[key]
        weight._backward_hooks = hooks  # torch hooks up what is assigned, and drops all that was


class _Projection:
    """The hook.

    Attributes:
        held: address of what the parameter held when it got the hook.
    """

    def __init__(self, pooling: NaturalChains, axis: int, spatial: Mapping[int, int], weight: Tensor) -> None:
        self.held: int = weight._cdata
        self._pooling, self._axis, self._spatial = pooling, axis, spatial
        self._inverses: dict[int, Tensor] = {}

    def __call__(self, grad: Tensor | None) -> Tensor | None:
        if grad is None:  # of a loss that the weight does not reach, as behind quantized layers
            return None
        if self._pooling.count != self._pooling.channels:
            grad = self._pooling.solved(grad) if self._axis == 1 else _inputs_first(self._pooling, grad)
        for dim, taps in self._spatial.items():
            if dim not in self._inverses:
                boxes = kernels.compose_axis(torch.eye(grad.shape[dim], dtype=torch.float64), 1, taps)
                self._inverses[dim] = torch.linalg.inv(boxes @ boxes.T)
            grad = (grad.movedim(dim, -1) @ self._inverses[dim].to(grad)).movedim(-1, dim)
        return grad


def _inputs_first(pooling: NaturalChains, grad: Tensor) -> Tensor:
    """The same for kernels of transposed convolutions, (g c, O / g, taps...)."""
    outputs_first: Tensor = grad.unflatten(0, (pooling.groups, -1)).transpose(1, 2).flatten(0, 1)
    solved: Tensor = pooling.solved(outputs_first).unflatten(0, (pooling.groups, -1)).transpose(1, 2).flatten(0, 1)
    return solved
