"""Relatives of Adam: NAdam, RAdam, Adamax, Lion."""

from __future__ import annotations

from fastnn.optim.optimizer import Optimizer, Params

__all__ = ["Adamax", "Lion", "NAdam", "RAdam"]


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, as in torch.

    mu_t = b1 (1 - 0.96^(t momentum_decay) / 2), P_t = mu_1 ... mu_t; m and v as in Adam;
    p -= lr ((1 - mu_t) / (1 - P_t) g + mu_(t+1) / (1 - P_(t+1)) m) / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Keeps the quotient finite.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        momentum_decay: How fast mu_t goes from b1 / 2 to b1.
        decoupled_weight_decay: Decay the weights, p *= 1 - lr weight_decay, not the gradient.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.NAdam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.8943548], dtype=float32)

    Source:
        Dozat 2016, "Incorporating Nesterov momentum into Adam".
    """

    rule = "nadam"
    slots = ("exp_avg", "exp_avg_sq")
    scalars = ("step", "mu_product")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)


class RAdam(Optimizer):
    """Adam whose first steps are rectified, as in torch: no warm-up is needed.

    r_inf = 2 / (1 - b2) - 1;  r_t = r_inf - 2 t b2^t / (1 - b2^t); m and v as in Adam. While
    r_t <= 5 the variance of v is not tractable and p -= lr m / (1 - b1^t); then this is multiplied
    by sqrt((r_t - 4) (r_t - 2) r_inf (1 - b2^t) / ((r_inf - 4) (r_inf - 2) r_t)) / (sqrt(v) + eps).

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Keeps the quotient finite.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        decoupled_weight_decay: Decay the weights, p *= 1 - lr weight_decay, not the gradient.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.RAdam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.8], dtype=float32)

    Source:
        Liu et al. 2020, "On the variance of the adaptive learning rate and beyond".
    """

    rule = "radam"
    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)


class Adamax(Optimizer):
    """Adam with the largest gradient in the place of the second moment, as in torch.

    m as in Adam;  u = max(b2 u, |g| + eps);  p -= lr m / (1 - b1^t) / u.

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0.
        betas: Decay of the first moment and of u, each in [0, 1).
        eps: Keeps the quotient finite.
        weight_decay: Coupled L2 penalty, g += weight_decay p.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.Adamax([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.9], dtype=float32)

    Source:
        Kingma, Ba 2015, "Adam: a method for stochastic optimization", section 7.1.
    """

    rule = "adamax"
    slots = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
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


class Lion(Optimizer):
    """Steps of one length, in the direction of a sign; half of Adam's state.

    p *= 1 - lr weight_decay;  p -= lr sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g.

    Args:
        params: Tensors or groups.
        lr: Learning rate, >= 0; three to ten times smaller than Adam's.
        betas: Weights of m in the step and in the next m, each in [0, 1).
        weight_decay: Decoupled decay; three to ten times larger than AdamW's.
        maximize: Climb instead of descend.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import fastnn as fn
        >>> w = fn.tensor([1.0], requires_grad=True)
        >>> optimizer = fn.optim.Lion([w], lr=0.125)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.detach().numpy()
        array([0.875], dtype=float32)

    Source:
        Chen et al. 2023, "Symbolic discovery of optimization algorithms".
    """

    rule = "lion"
    slots = ("exp_avg",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": True,
            "maximize": maximize,
        }
        super().__init__(params, options)
