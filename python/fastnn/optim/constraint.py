"""Constraints that are applied to parameters after each step: hooks for any optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn import _core
from fastnn._checks import Checked
from fastnn.nn.utils import max_norm_
from fastnn.optim.optimizer import Optimizer
from fastnn.tensor import Tensor

__all__ = ["MaxNorm", "ProximalL1"]


class _Constraint(Checked):
    """What both share: which parameters of the optimizer are meant, group by group."""

    def __init__(self, params: Iterable[Tensor] | None) -> None:
        self._params = None if params is None else list(params)

    def _members(self, group: dict[str, Any]) -> list[Tensor]:
        """Weights: biases and the parameters of norms have one axis."""
        if self._params is None:
            return [p for p in group["params"] if len(p.shape) > 1]
        own = set(map(id, self._params))
        return [p for p in group["params"] if id(p) in own]


class ProximalL1(_Constraint):
    """L1 penalty by its proximal step: p = sign(p) max(|p| - lr l1, 0) after each step.

    Unlike the gradient of the penalty, it makes weights exactly 0. For SGD this is ISTA; lr is the
    group's at the time.

    Args:
        l1: Factor of sum |p|, >= 0.
        params: Parameters to shrink; by default those of at least two axes.

    Raises:
        ValueError: If l1 is negative or not finite.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([[0.25, -2.0]], requires_grad=True)
        >>> optimizer = fn.optim.SGD([w], lr=0.5)
        >>> remove = optimizer.register_step_post_hook(fn.optim.ProximalL1(1.0))
        >>> w.grad = fn.zeros(1, 2)
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([[ 0. , -1.5]], dtype=float32)

    Source:
        Daubechies, Defrise, De Mol 2004, "An iterative thresholding algorithm for linear inverse
        problems with a sparsity constraint".
    """

    def __init__(self, l1: float, params: Iterable[Tensor] | None = None) -> None:
        super().__init__(params)
        if not 0 <= l1 < float("inf"):
            raise ValueError(f"ProximalL1: expected a finite l1 >= 0, got {l1}")
        self.l1 = float(l1)

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Shrink the parameters."""
        for group, rate in zip(optimizer.param_groups, optimizer.rates, strict=True):
            _core.soft_threshold(self._members(group), self.l1, rate)


class MaxNorm(_Constraint):
    """Keeps the norm of each unit's incoming weights at most max_norm, after each step.

    Args:
        max_norm: The largest norm, > 0; 3 and 4 are usual.
        params: Parameters to project, units along the first axis; by default those of at least two
            axes.
        squared: Whether max_norm is that of the squared norm.

    Raises:
        ValueError: If max_norm is not positive.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([[3.0, 4.0], [0.0, 1.0]], requires_grad=True)
        >>> optimizer = fn.optim.SGD([w])
        >>> remove = optimizer.register_step_post_hook(fn.optim.MaxNorm(2.5))
        >>> w.grad = fn.zeros(2, 2)
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([[1.5, 2. ],
               [0. , 1. ]], dtype=float32)

    Source:
        Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(
        self, max_norm: float, params: Iterable[Tensor] | None = None, *, squared: bool = False
    ) -> None:
        super().__init__(params)
        if not max_norm > 0:
            raise ValueError(f"MaxNorm: expected max_norm > 0, got {max_norm}")
        self.max_norm, self.squared = float(max_norm), squared

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Project the parameters."""
        for group in optimizer.param_groups:
            max_norm_(self._members(group), self.max_norm, squared=self.squared)
