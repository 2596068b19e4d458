"""Optimizer steps as published, on float64 arrays; each returns the new parameter and state."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
State = dict[str, Array]


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
) -> tuple[Array, State]:
    """Sutskever et al. 2013 in torch.optim's form; the first buffer is the gradient itself."""
    g = (-g if maximize else g) + weight_decay * p
    if momentum == 0:
        return p - lr * g, {}
    b = g if step == 1 else momentum * state["momentum_buffer"] + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b), {"momentum_buffer": b}


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
    maximize: bool = False,
    decoupled: bool = False,
) -> tuple[Array, State]:
    """Kingma, Ba 2015, algorithm 1; with ``decoupled``, Loshchilov, Hutter 2019, algorithm 2."""
    g = -g if maximize else g
    if decoupled:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    m = betas[0] * state.get("exp_avg", np.zeros_like(p)) + (1 - betas[0]) * g
    v = betas[1] * state.get("exp_avg_sq", np.zeros_like(p)) + (1 - betas[1]) * g * g
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), {"exp_avg": m, "exp_avg_sq": v}


def adamw(p: Array, g: Array, state: State, step: int, **options: Any) -> tuple[Array, State]:
    """Adam with decoupled decay, 0.01 by default."""
    return adam(p, g, state, step, **{"weight_decay": 0.01, **options}, decoupled=True)


def clip_grad_norm(grads: list[Array], max_norm: float) -> tuple[float, list[Array]]:
    """The norm of all gradients as one vector; and the gradients times min(1, max_norm / norm)."""
    norm = float(np.sqrt(sum(float((g**2).sum()) for g in grads)))
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    return norm, [g * factor for g in grads]
