"""Adam, and Adam with decoupled decay."""

from __future__ import annotations

from typing import Any

from fastnn.optim.optimizer import Optimizer, Params

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam, as in torch.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
    p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Keeps the quotient finite.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        amsgrad: Divide by the largest v so far, which never shrinks.
        maximize: Climb instead of descend.
        decoupled_weight_decay: Decay the weights, p *= 1 - lr weight_decay, not the gradient.
        bias_correction: If False, the corrections 1 - b^t are left out: the first steps are then
            (1 - b1) / sqrt(1 - b2) times as long, 3.162 with the defaults.
        eps_mode: ``"outside"``, sqrt(v) + eps, or ``"inside"``, sqrt(v + eps).

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
        Kingma, Ba 2015, "Adam: a method for stochastic optimization"; Reddi, Kale, Kumar 2018, "On
        the convergence of Adam and beyond", for amsgrad.
    """

    slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        eps_mode: str = "outside",
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            "bias_correction": bias_correction,
            "eps_mode": eps_mode,
        }
        super().__init__(params, options)

    def _rule(self, group: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        return ("adam_amsgrad", self.slots) if group["amsgrad"] else ("adam", self.slots[:2])


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr weight_decay before the step.

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Keeps the quotient finite.
        weight_decay: See above.
        amsgrad: Divide by the largest v so far.
        maximize: Climb instead of descend.
        bias_correction: See :class:`Adam`.
        eps_mode: ``"outside"``, sqrt(v) + eps, or ``"inside"``, sqrt(v + eps).

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> fn.optim.AdamW([w]).param_groups[0]["weight_decay"]
        0.01

    Source:
        Loshchilov, Hutter 2019, "Decoupled weight decay regularization".
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        eps_mode: str = "outside",
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            bias_correction=bias_correction,
            eps_mode=eps_mode,
        )
