"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from fastnn.optim.optimizer import Optimizer, Params

__all__ = ["SGD"]


class SGD(Optimizer):
    """SGD with momentum and Nesterov's form, as in torch.

    g += weight_decay p;  b = momentum b + (1 - dampening) g (b = g at first);
    p -= lr (g + momentum b if nesterov else b).

    The other forms of momentum in use are ``form="B"``: b = momentum b - lr g; p += b; ``"C"``:
    b = momentum b + lr g; p -= b; and ``"D"``: b = momentum b + (1 - momentum) g;
    p -= lr b / (1 - momentum^t). A, B and C make the same steps while lr is constant; after lr
    drops, A brakes at once, and B and C keep their velocity. D makes longer first steps.

    With nesterov, p is the point that looks ahead, x + momentum b for Nesterov's iterate x in form
    B: gradients are taken there.

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        momentum: Decay of the velocity b.
        dampening: Weight of the gradient in b is 1 - dampening.
        weight_decay: Coupled L2 penalty.
        nesterov: Look ahead; needs momentum > 0, dampening 0, and not form D.
        maximize: Climb instead of descend.
        form: ``"A"`` (torch's), ``"B"``, ``"C"`` or ``"D"``, see above; dampening is of A.

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
        Polyak 1964, "Some methods of speeding up the convergence of iteration methods"; Sutskever
        et al. 2013, "On the importance of initialization and momentum in deep learning".
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        form: str = "A",
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "form": form,
        }
        super().__init__(params, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        momentum, dampening, form = group["momentum"], group["dampening"], group["form"]
        if group["nesterov"] and (momentum <= 0 or dampening != 0):
            raise ValueError(
                "SGD: expected momentum > 0 and dampening 0 with nesterov, got "
                f"momentum={momentum}, dampening={dampening}"
            )
        if form != "A" and dampening != 0:
            raise ValueError(f"SGD: expected dampening 0 with form {form!r}, got {dampening}")
        if form == "D" and (group["nesterov"] or momentum >= 1):
            raise ValueError(
                "SGD: expected momentum < 1 and no nesterov with form 'D', got "
                f"momentum={momentum}, nesterov={group['nesterov']}"
            )

    def _rule(self, group: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        return ("sgd_momentum", self.slots) if group["momentum"] else ("sgd", ())
