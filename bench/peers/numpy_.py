"""NumPy: forward passes as one writes them in NumPy, with `out=` where that is faster."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from worker import serve

Array = np.ndarray[Any, Any]


def describe() -> dict[str, Any]:
    return {"version": np.__version__, "setting": os.environ.get("OPENBLAS_CORETYPE", "default")}


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    kind = case["kind"]
    x = [arrays[k] for k in arrays if k[0] == "x"]
    if kind == "call" and case["params"]["mode"] == "no grad":
        zero = np.float32(0)
        return {"maximum": lambda: np.maximum(x[0], zero)}
    if kind == "gemm" and case["dtype"] == "float32":
        a, b = (m.T if t == "T" else m for m, t in zip(x, case["params"]["layout"], strict=True))
        out = np.empty((a.shape[0], b.shape[1]), np.float32)
        return {"matmul": lambda: a @ b, "matmul out=": lambda: np.matmul(a, b, out=out)}
    if kind == "optimizer" and case["op"] in ("adam", "sgd"):
        return {"in place": _optimizer(case, arrays)}
    if kind == "fwd" and case["op"] in FORWARD:
        return FORWARD[case["op"]](*x, **case["params"])
    return {}


def _unary(name: str) -> Any:
    def make(x: Array) -> dict[str, Any]:
        f = globals()[f"_{name}"]
        buffer = np.empty_like(x)
        return {"fresh": lambda: f(x, None), "out=": lambda: f(x, buffer)}

    return make


def _relu(x: Array, out: Array | None) -> Array:
    return np.maximum(x, np.float32(0), out=out)


def _leaky_relu(x: Array, out: Array | None) -> Array:
    return np.maximum(x, np.multiply(x, np.float32(0.01), out=out), out=out)


def _tanh(x: Array, out: Array | None) -> Array:
    return np.tanh(x, out=out)


def _sigmoid(x: Array, out: Array | None) -> Array:
    y = np.negative(x, out=out)
    np.exp(y, out=y)
    y += 1
    return np.reciprocal(y, out=y)


def _silu(x: Array, out: Array | None) -> Array:
    y = _sigmoid(x, out)
    y *= x
    return y


def _softplus(x: Array, out: Array | None) -> Array:
    return np.logaddexp(x, np.float32(0), out=out)


def _softmax(x: Array) -> dict[str, Any]:
    def run() -> Array:
        y = x - x.max(-1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(-1, keepdims=True)
        return y

    return {"fresh": run}


def _log_softmax(x: Array) -> dict[str, Any]:
    def run() -> Array:
        y = x - x.max(-1, keepdims=True)
        y -= np.log(np.exp(y).sum(-1, keepdims=True))
        return y

    return {"fresh": run}


def _logsumexp(x: Array) -> dict[str, Any]:
    def run() -> Array:
        m = x.max(-1, keepdims=True)
        y = x - m
        np.exp(y, out=y)
        return np.log(y.sum(-1)) + m[..., 0]

    return {"fresh": run}


def _cross_entropy(x: Array, target: Array) -> dict[str, Any]:
    rows = np.arange(len(x))

    def run() -> Any:
        m = x.max(-1, keepdims=True)
        y = x - m
        picked = y[rows, target]
        np.exp(y, out=y)
        return np.mean(np.log(y.sum(-1)) - picked)

    return {"fresh": run}


def _layer_norm(
    x: Array, w: Array, b: Array, normalized_shape: Any, eps: float = 1e-5
) -> dict[str, Any]:
    def run() -> Array:
        y = x - x.mean(-1, keepdims=True)
        y /= np.sqrt(np.square(y).mean(-1, keepdims=True) + np.float32(eps))
        y *= w
        y += b
        return y

    return {"fresh": run}


def _linear(x: Array, w: Array, b: Array) -> dict[str, Any]:
    out = np.empty((x.shape[0], w.shape[0]), np.float32)

    def run() -> Array:
        np.matmul(x, w.T, out=out)
        return np.add(out, b, out=out)

    return {"fresh": lambda: x @ w.T + b, "out=": run}


def _matmul(a: Array, b: Array) -> dict[str, Any]:
    out = a @ b
    return {"fresh": lambda: a @ b, "out=": lambda: np.matmul(a, b, out=out)}


def _dropout(x: Array) -> dict[str, Any]:
    bits = np.random.Generator(np.random.SFC64(0))
    raw = np.random.SFC64(0)

    def generator() -> Array:
        return x * (bits.random(x.shape, np.float32) >= 0.5) * np.float32(2)

    def from_bytes() -> Array:  # one byte of randomness per element
        words = raw.random_raw((x.size + 7) // 8).view(np.uint8)[: x.size].reshape(x.shape)
        return x * (words >= 128) * np.float32(2)

    return {"Generator.random": generator, "random bytes": from_bytes}


def _max_pool2d(x: Array, kernel_size: int) -> dict[str, Any]:
    n, c, h, w = x.shape
    k = kernel_size
    tiles = x.reshape(n, c, h // k, k, w // k, k)

    def slices() -> Array:
        rows = np.maximum(x[:, :, ::2], x[:, :, 1::2])
        return np.maximum(rows[..., ::2], rows[..., 1::2])

    return {"reduction": lambda: tiles.max(axis=(3, 5)), "slices": slices}


def _binary(function: Any) -> Any:
    def make(x: Array, z: Array) -> dict[str, Any]:
        out = np.empty_like(x)
        return {"fresh": lambda: function(x, z), "out=": lambda: function(x, z, out=out)}

    return make


FORWARD = {
    **{n: _unary(n) for n in ("relu", "leaky_relu", "tanh", "sigmoid", "silu", "softplus")},
    "swish": _unary("silu"),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "cross_entropy": _cross_entropy,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "bmm": _matmul,
    "dropout": _dropout,
    "max_pool2d": _max_pool2d,
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "truediv": _binary(np.divide),
    "sum": lambda x: {"float32": lambda: x.sum()},
    "mean": lambda x: {"float32": lambda: x.mean()},
}


def _optimizer(case: dict[str, Any], arrays: dict[str, Any]) -> Any:
    p, g = arrays["p"].ravel().copy(), arrays["g"].ravel()  # one array for all: NumPy's best case
    m, v, t = np.zeros_like(p), np.zeros_like(p), np.empty_like(p)
    lr, one = np.float32(1e-5), np.float32(1)

    def sgd() -> None:
        np.multiply(m, np.float32(0.9), out=m)
        np.add(m, g, out=m)
        np.multiply(m, lr, out=t)
        np.subtract(p, t, out=p)

    def adam() -> None:
        np.multiply(m, np.float32(0.9), out=m)
        np.multiply(g, np.float32(0.1), out=t)
        np.add(m, t, out=m)
        np.multiply(v, np.float32(0.999), out=v)
        np.multiply(g, g, out=t)
        np.multiply(t, np.float32(0.001), out=t)
        np.add(v, t, out=v)
        np.sqrt(v, out=t)
        np.add(t, np.float32(1e-8), out=t)
        np.divide(m, t, out=t)
        np.multiply(t, lr * one, out=t)
        np.subtract(p, t, out=p)

    return adam if case["op"] == "adam" else sgd


if __name__ == "__main__":
    serve(variants, describe, products={"": np.matmul})
