"""Optimizer steps as published, on float64 arrays; each returns the new parameter and state."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
State = dict[str, Any]
Result = tuple[Array, State]


def _old(state: State, name: str, p: Array) -> Array:
    value: Array = state.get(name, np.zeros_like(p))
    return value


def _gradient(p: Array, g: Array, weight_decay: float, maximize: bool) -> Array:
    """Of the loss plus weight_decay / 2 ||p||^2, or of the negative loss."""
    return (-g if maximize else g) + weight_decay * p


def _root(v: Array, eps: float, eps_mode: str) -> Array:
    root: Array = np.sqrt(v + eps) if eps_mode == "inside" else np.sqrt(v) + eps
    return root


def _divide(a: Array, b: Array) -> Array:
    """Quotient of numbers that are 0 together."""
    return np.divide(a, b, out=np.zeros_like(a), where=(a != 0) | (b != 0))


def sgd(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    form: str = "A",
) -> Result:
    """Polyak 1964, Sutskever et al. 2013; form A is torch's: the first buffer is the gradient."""
    g = _gradient(p, g, weight_decay, maximize)
    if momentum == 0:
        return p - lr * g, {}
    b = _old(state, "momentum_buffer", p)
    if form == "A":
        b = g if step == 1 else momentum * b + (1 - dampening) * g
        new = p - lr * (g + momentum * b if nesterov else b)
    elif form == "B":
        b = momentum * b - lr * g
        new = p + (momentum * b - lr * g if nesterov else b)
    elif form == "C":
        b = momentum * b + lr * g
        new = p - (momentum * b + lr * g if nesterov else b)
    else:
        b = momentum * b + (1 - momentum) * g
        new = p - lr * b / (1 - momentum**step)
    return new, {"momentum_buffer": b}


def _moments(
    p: Array, g: Array, state: State, betas: tuple[float, float]
) -> tuple[Array, Array, State]:
    m = betas[0] * _old(state, "exp_avg", p) + (1 - betas[0]) * g
    v = betas[1] * _old(state, "exp_avg_sq", p) + (1 - betas[1]) * g * g
    return m, v, {"exp_avg": m, "exp_avg_sq": v}


def _decay(
    p: Array, g: Array, lr: float, weight_decay: float, maximize: bool, decoupled: bool
) -> tuple[Array, Array]:
    """Decoupled (Loshchilov, Hutter 2019) or coupled decay: the weight and the gradient to use."""
    if decoupled:
        return p - lr * weight_decay * p, -g if maximize else g
    return p, _gradient(p, g, weight_decay, maximize)


def adam(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    eps_mode: str = "outside",
) -> Result:
    """Kingma, Ba 2015, algorithm 1; Loshchilov, Hutter 2019, algorithm 2; amsgrad as in torch."""
    p, g = _decay(p, g, lr, weight_decay, maximize, decoupled_weight_decay)
    m, v, new_state = _moments(p, g, state, betas)
    if amsgrad:
        v = np.maximum(_old(state, "max_exp_avg_sq", p), v)
        new_state["max_exp_avg_sq"] = v
    if bias_correction:
        m, v = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return p - lr * _divide(m, _root(v, eps, eps_mode)), new_state


def adamw(p: Array, g: Array, state: State, step: int, **options: Any) -> Result:
    """Adam with decoupled decay, 0.01 by default."""
    options = {"weight_decay": 0.01, **options, "decoupled_weight_decay": True}
    return adam(p, g, state, step, **options)


def nadam(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Result:
    """Dozat 2016, in torch.optim's form."""
    p, g = _decay(p, g, lr, weight_decay, maximize, decoupled_weight_decay)
    m, v, new_state = _moments(p, g, state, betas)
    mu, mu_next = (betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    product = state.get("mu_product", 1.0) * mu
    m_hat = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
    root = np.sqrt(v / (1 - betas[1] ** step)) + eps
    return p - lr * _divide(m_hat, root), {**new_state, "mu_product": product}


def radam(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Result:
    """Liu et al. 2020, algorithm 2; eps as in torch."""
    p, g = _decay(p, g, lr, weight_decay, maximize, decoupled_weight_decay)
    m, v, new_state = _moments(p, g, state, betas)
    m_hat = m / (1 - betas[0] ** step)
    end = 2 / (1 - betas[1]) - 1
    rho = end - 2 * step * betas[1] ** step / (1 - betas[1] ** step)
    if rho <= 5:
        return p - lr * m_hat, new_state
    rectified = np.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
    adaptive = _divide(np.full_like(v, np.sqrt(1 - betas[1] ** step)), np.sqrt(v) + eps)
    return p - lr * m_hat * rectified * adaptive, new_state


def adamax(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Result:
    """Kingma, Ba 2015, algorithm 2; eps as in torch."""
    g = _gradient(p, g, weight_decay, maximize)
    m = betas[0] * _old(state, "exp_avg", p) + (1 - betas[0]) * g
    u = np.maximum(betas[1] * _old(state, "exp_inf", p), np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** step) * _divide(m, u), {"exp_avg": m, "exp_inf": u}


def rmsprop(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
    eps_mode: str = "outside",
) -> Result:
    """Tieleman, Hinton 2012; centered as in Graves 2013."""
    g = _gradient(p, g, weight_decay, maximize)
    v = alpha * _old(state, "square_avg", p) + (1 - alpha) * g * g
    new_state = {"square_avg": v}
    if centered:
        mean = alpha * _old(state, "grad_avg", p) + (1 - alpha) * g
        new_state["grad_avg"] = mean
        v = v - mean**2
    direction = _divide(g, _root(v, eps, eps_mode))
    if momentum > 0:
        direction = momentum * _old(state, "momentum_buffer", p) + direction
        new_state["momentum_buffer"] = direction
    return p - lr * direction, new_state


def adagrad(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    eps_mode: str = "outside",
) -> Result:
    """Duchi, Hazan, Singer 2011, with diagonal matrices."""
    g = _gradient(p, g, weight_decay, maximize)
    total = state.get("sum", np.full_like(p, initial_accumulator_value)) + g * g
    rate = lr / (1 + (step - 1) * lr_decay)
    return p - rate * _divide(g, _root(total, eps, eps_mode)), {"sum": total}


def adadelta(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Result:
    """Zeiler 2012, algorithm 1."""
    g = _gradient(p, g, weight_decay, maximize)
    v = rho * _old(state, "square_avg", p) + (1 - rho) * g * g
    delta = _divide(np.sqrt(_old(state, "acc_delta", p) + eps) * g, np.sqrt(v + eps))
    acc = rho * _old(state, "acc_delta", p) + (1 - rho) * delta**2
    return p - lr * delta, {"square_avg": v, "acc_delta": acc}


def lion(
    p: Array,
    g: Array,
    state: State,
    step: int,
    *,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Result:
    """Chen et al. 2023, program 1."""
    g, m = -g if maximize else g, _old(state, "exp_avg", p)
    direction = np.sign(betas[0] * m + (1 - betas[0]) * g)
    new = p - lr * (direction + weight_decay * p)
    return new, {"exp_avg": betas[1] * m + (1 - betas[1]) * g}


def clip_grad_norm(
    grads: list[Array], max_norm: float, norm_type: float = 2.0
) -> tuple[float, list[Array]]:
    """The norm of all gradients as one vector; and the gradients times min(1, max_norm / norm)."""
    flat = np.abs(np.concatenate([np.zeros(0), *(g.reshape(-1) for g in grads)]))
    largest = flat.max(initial=0.0)
    if norm_type == np.inf or largest == 0:
        norm = float(largest)
    else:
        norm = float(largest * ((flat / largest) ** norm_type).sum() ** (1 / norm_type))
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return norm, [g * factor for g in grads]


def soft_threshold(w: Array, t: float) -> Array:
    """argmin_x t |x| + (x - w)^2 / 2."""
    return np.sign(w) * np.maximum(np.abs(w) - t, 0.0)


def max_norm(w: Array, limit: float) -> Array:
    """Each w[i, ...] scaled to a norm of at most limit."""
    norms = np.sqrt((w.reshape(len(w), -1) ** 2).sum(axis=1))
    factors = np.minimum(1.0, limit / np.where(norms > 0, norms, 1.0))
    projected: Array = w * factors.reshape(-1, *[1] * (w.ndim - 1))
    return projected
