"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastnn import _core
from fastnn.optim.optimizer import Optimizer, _check_range
from fastnn.tensor import Tensor

__all__ = ["SGD"]


class SGD(Optimizer):
    """SGD with momentum and Nesterov's form, as in torch.

    g += weight_decay p;  b = momentum b + (1 - dampening) g (b = g at first);
    p -= lr (g + momentum b if nesterov else b).

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        momentum: Decay of the velocity b.
        dampening: Weight of the gradient in b is 1 - dampening.
        weight_decay: Coupled L2 penalty.
        nesterov: Look ahead; needs momentum > 0 and dampening 0.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.SGD([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.8], dtype=float32)

    Source:
        Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        _check_range("SGD", "momentum", group["momentum"], 0.0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: expected momentum > 0 and dampening 0 with nesterov, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def _update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Any], state: Any
    ) -> None:
        buffers = self._slot("momentum_buffer", params) if group["momentum"] else []
        _core.sgd(
            params,
            grads,
            buffers,
            state,
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            group["maximize"],
        )
