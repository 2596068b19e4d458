"""A rate for each weight: Adagrad, RMSprop, Adadelta."""

from __future__ import annotations

from typing import Any

from fastnn.optim.optimizer import Optimizer, Params

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(Optimizer):
    """Rates that shrink with the squares of the gradients so far, as in torch.

    s += g^2;  p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        lr_decay: See above.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        initial_accumulator_value: What s starts with.
        eps: Keeps the quotient finite.
        maximize: Climb instead of descend.
        eps_mode: ``"outside"``, sqrt(v) + eps, or ``"inside"``, sqrt(v + eps).

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.Adagrad([w], lr=0.125)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.875], dtype=float32)

    Source:
        Duchi, Hazan, Singer 2011, "Adaptive subgradient methods for online learning and stochastic
        optimization".
    """

    rule = "adagrad"
    slots = ("sum",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        eps_mode: str = "outside",
    ) -> None:
        options = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
            "eps_mode": eps_mode,
        }
        super().__init__(params, options)

    def _initial(self, slot: str, group: dict[str, Any]) -> float:
        return float(group["initial_accumulator_value"])


class RMSprop(Optimizer):
    """Adagrad with a mean of the squares that forgets, as in torch.

    v = alpha v + (1 - alpha) g^2;  step = g / (sqrt(v) + eps), or with centered
    g / (sqrt(v - mean^2) + eps), where mean = alpha mean + (1 - alpha) g;
    p -= lr step, or with momentum b = momentum b + step; p -= lr b.

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        alpha: Decay of the means, in [0, 1); Hinton's value is 0.9.
        eps: Keeps the quotient finite.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        momentum: Decay of the velocity b.
        centered: Divide by the deviation from the mean gradient.
        maximize: Climb instead of descend.
        eps_mode: ``"outside"``, sqrt(v) + eps, or ``"inside"``, sqrt(v + eps).

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.RMSprop([w], lr=0.0125)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.875], dtype=float32)

    Source:
        Tieleman, Hinton 2012, "Lecture 6.5: rmsprop"; Graves 2013, "Generating sequences with
        recurrent neural networks", for centered.
    """

    slots = ("square_avg", "momentum_buffer", "grad_avg")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        eps_mode: str = "outside",
    ) -> None:
        options = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
            "eps_mode": eps_mode,
        }
        super().__init__(params, options)

    def _rule(self, group: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        rule, slots = "rmsprop", ["square_avg"]
        if group["momentum"]:
            rule, slots = f"{rule}_momentum", [*slots, "momentum_buffer"]
        if group["centered"]:
            rule, slots = f"{rule}_centered", [*slots, "grad_avg"]
        return rule, tuple(slots)


class Adadelta(Optimizer):
    """Steps whose unit is the weights', as in torch.

    v = rho v + (1 - rho) g^2;  d = sqrt(a + eps) / sqrt(v + eps) g;
    a = rho a + (1 - rho) d^2;  p -= lr d.

    Args:
        params: Tensors or groups.
        lr: Factor of the step, >= 0.
        rho: Decay of the means, in [0, 1).
        eps: Starts the first steps, too.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.Adadelta([w])
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.99683774], dtype=float32)

    Source:
        Zeiler 2012, "ADADELTA: an adaptive learning rate method".
    """

    rule = "adadelta"
    slots = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)
