"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn import _core
from fastnn.optim.optimizer import Optimizer, _check_range
from fastnn.tensor import Tensor

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam, as in torch; weight_decay is the coupled L2 penalty.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
    p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Added outside the square root.
        weight_decay: See above.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.Adam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.9], dtype=float32)

    Source:
        Kingma, Ba 2015, "Adam: a method for stochastic optimization".
    """

    slots = ("exp_avg", "exp_avg_sq")
    _decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        name = type(self).__name__
        _check_range(name, "betas[0]", group["betas"][0], 0.0, 1.0)
        _check_range(name, "betas[1]", group["betas"][1], 0.0, 1.0)
        _check_range(name, "eps", group["eps"], 0.0)

    def _update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Any], state: Any
    ) -> None:
        _core.adam(
            type(self).__name__.lower(),
            params,
            grads,
            self._slot("exp_avg", params),
            self._slot("exp_avg_sq", params),
            state,
            group["betas"][0],
            group["betas"][1],
            group["eps"],
            group["weight_decay"],
            self._decoupled,
            group["maximize"],
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr weight_decay before the step.

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Added outside the square root.
        weight_decay: See above.
        maximize: Climb instead of descend.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> fn.optim.AdamW([w]).param_groups[0]["weight_decay"]
        0.01

    Source:
        Loshchilov, Hutter 2019, "Decoupled weight decay regularization".
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize)
