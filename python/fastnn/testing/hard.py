"""Inputs that broke other libraries; the oracle and the bound are those of the row.

The list follows the catalogue in the project's reliability notes: huge and tiny logits, equal rows,
masks of -inf, rows far from zero, subnormals, and a sample of all float32 bit patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn.testing.op import Op

__all__ = ["bit_patterns", "hard_cases"]

Array = np.ndarray[Any, Any]
Cases = dict[str, tuple[tuple[Array | None, ...], dict[str, Any]]]

FLT_MAX = float(np.finfo(np.float32).max)


def bit_patterns(count: int = 1 << 15, seed: int = 0) -> Array:
    """Finite float32 numbers from all over the bit patterns, and points where formulas turn."""
    bits = np.linspace(0, 0xFFFFFFFF, count, dtype=np.uint64)
    jitter = np.random.default_rng(seed).integers(0, 0x10000, count, dtype=np.uint64)
    x = ((bits + jitter) & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    turns = [0.0, -0.0, 2**-149, 2**-126, 1e-30, 1e-8, 1e-4, 0.5, 1, 5.9, 8.99, 9.02, 13.2, 16.6]
    turns += [22, 44, 87.3, 88.7, 88.73, 89, 103.9, 104, 127, 128, 150, 1e4, 1e30, FLT_MAX]
    finite = x[np.isfinite(x)].astype(np.float64)
    x = np.concatenate([finite, turns, np.negative(turns), np.linspace(-20, 20, 4001)])
    return x.astype(np.float32).astype(np.float64)


def _elementwise() -> Cases:
    return {"bit patterns": ((bit_patterns(),), {})}


def _rows() -> Cases:
    rng = np.random.default_rng(5)
    masked = rng.standard_normal((4, 40))
    masked[:, ::3] = -np.inf
    spike = np.zeros((3, 50))
    spike[:, 7] = 1e30
    rows = {
        "logits of 1e4": 1e4 * rng.choice([-1.0, 1.0], (5, 33)),
        "logits of 1e30": 1e30 * rng.choice([-1.0, 1.0], (5, 33)),
        "largest floats": FLT_MAX * rng.choice([-1.0, 1.0], (5, 33)),
        "equal logits of 1e30": np.full((2, 10), 1e30),
        "all -1e4": np.full((2, 17), -1e4),
        "one spike": spike,
        "mask of -inf": masked,
        "offset 1e8": 1e8 + 8 * rng.integers(-4, 5, (4, 100)),
        "offset -88": rng.standard_normal((4, 100)) - 88,
        "subnormals": 2.0**-140 * rng.standard_normal((3, 20)),
        "uniform over 32,000": np.zeros((1, 32_000)),
        "falling": -np.arange(200.0).reshape(1, 200),
    }
    return {k: ((v.astype(np.float32).astype(np.float64),), {}) for k, v in rows.items()}


def _cross_entropy() -> Cases:
    cases: Cases = {}
    for name, ((x, *_), _params) in _rows().items():
        assert x is not None
        # The label is a finite logit: the loss is then finite, and so is the gradient.
        labels = np.argmax(np.isfinite(x), axis=-1)
        cases[name] = ((x, labels, None), {"reduction": "none"})
        cases[f"{name}, best"] = ((x, np.argmax(x, axis=-1), None), {"reduction": "mean"})
    return cases


def _logits() -> Cases:
    """Targets 0, 1/2 and 1 for logits of all sizes."""
    x = np.concatenate([np.tile(bit_patterns(1 << 12), 3), [1000.0, -1000.0] * 3])
    t = np.resize(np.repeat([0.0, 0.5, 1.0], 11), x.size)
    infinite = np.array([np.inf, -np.inf, np.inf, -np.inf])
    cases: Cases = {"bit patterns": ((x, t, None, None), {"reduction": "none"})}
    matching = np.array([1.0, 0.0, 0.5, 0.5])
    cases["infinite"] = ((infinite, matching, None, None), {"reduction": "none"})
    cases["no weight"] = ((x, t, None, np.zeros(())), {"reduction": "none"})
    return cases


def _probabilities() -> Cases:
    x = np.array([0.0, 1.0, 0.0, 1.0, 2**-149, 1 - 2**-24, 0.5])
    t = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.5])
    return {"certain": ((x, t, None), {"reduction": "none"})}


def _differences() -> Cases:
    rng = np.random.default_rng(8)
    x = np.float32(bit_patterns(1 << 12) / 4).astype(float)
    near = np.float32(x * (1 + 2.0**-23)).astype(float)
    large = np.float32(1e30 * rng.standard_normal(1000)).astype(float)
    return {
        "bit patterns": ((x, near), {"reduction": "none"}),
        "mean of huge": ((large, np.zeros(1000)), {}),
    }


def _norm_rows() -> dict[str, Array]:
    rng = np.random.default_rng(6)
    noise = rng.standard_normal((4, 257))
    rows = {
        "offset 2e3": 2e3 + noise,
        "offset 100, spread 0.01": 100 + 0.01 * noise,
        "offset 4e4": 4e4 + noise,
        "offset 1e6": 1e6 + noise,
        "offset 1e8, spread 100": 1e8 + 100 * noise,
        "scale 1e30": 1e30 * (1 + noise),
        "scale 1e-20": 1e-20 * noise,
        "constant": np.full((2, 256), 1234.0),
        "constant 1e10": np.full((2, 31), 1e10),
        "one spike": np.eye(3, 300) * 1e30,
        "subnormals": 2.0**-140 * noise,
    }
    return {k: v.astype(np.float32).astype(np.float64) for k, v in rows.items()}


def _layer_norm() -> Cases:
    rows = _norm_rows().items()
    return {k: ((v, None, None), {"normalized_shape": v.shape[1:]}) for k, v in rows}


def _rms_norm() -> Cases:
    rows = _norm_rows().items()
    params = {"eps": float(np.float32(1e-5))}
    return {k: ((v, None), {"normalized_shape": v.shape[1:], **params}) for k, v in rows}


def _batch_norm() -> Cases:
    cases: Cases = {}
    for name, rows in _norm_rows().items():
        none = (None,) * 4
        cases[f"{name}, columns"] = ((rows.T.copy(), *none), {"training": True})
        cases[f"{name}, planes"] = ((rows[None], *none), {"training": True})
    return cases


def _group_norm() -> Cases:
    rows = _norm_rows().items()
    return {k: ((v[:, None], None, None), {"num_groups": 1}) for k, v in rows}


def _sums() -> Cases:
    rng = np.random.default_rng(7)
    signs = rng.choice([-1.0, 1.0], 50_001)
    return {
        "cancelling": ((np.float32(1e6 * signs + rng.standard_normal(50_001)).astype(float),), {}),
        "log-normal": ((np.float32(np.exp(6 * rng.standard_normal(50_001))).astype(float),), {}),
        "of 1e38": ((np.float32(3e38 * np.tile([1.0, -1.0], 500)).astype(float),), {}),
    }


# By the name of an op where its cases differ, or by family.
HARD: Mapping[str, Callable[[], Cases]] = {
    "activation": _elementwise,
    "softmax": _rows,
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy_with_logits": _logits,
    "binary_cross_entropy": _probabilities,
    "mse_loss": _differences,
    "l1_loss": _differences,
    "smooth_l1_loss": _differences,
    "huber_loss": _differences,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "reduce": _sums,
}


def hard_cases(op: Op) -> Cases:
    """The inputs and params for an op, by name."""
    cases = HARD.get(op.short, HARD.get(op.family, dict))()
    return {k: v for k, v in cases.items() if len(v[0]) == 1 + len(op.arrays)}
