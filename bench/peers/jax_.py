"""JAX with optax: everything jitted; training steps also 50 at a time by lax.scan."""

from __future__ import annotations

import itertools
import os
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from worker import serve

_wait = jax.block_until_ready


def describe() -> dict[str, Any]:
    return {"version": jax.__version__, "threads": os.environ.get("BENCH_THREADS")}


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    kind = case["kind"]
    x = [jnp.asarray(arrays[k]) for k in arrays if k[0] == "x"]
    if kind == "call":
        if case["params"]["mode"] == "tape":
            return {}  # JAX has no tape
        relu = jax.jit(jax.nn.relu)
        return {"jit": lambda: _wait(relu(x[0]))}
    if kind == "gemm":
        ta, tb = (letter == "T" for letter in case["params"]["layout"])
        product = jax.jit(lambda a, b: (a.T if ta else a) @ (b.T if tb else b))
        matrices = [m.astype(case["dtype"]) for m in x]
        return {"jit": lambda: _wait(product(*matrices))}
    if kind in ("fwd", "fwd+bwd"):
        return _op(case, x, arrays)
    if kind == "augment":
        return {}
    if case["op"] == "LeNet-5 step":
        return {}
    return {"step": _steps, "optimizer": _optimizer, "fit": _fit}[kind](case, arrays)


def _cross_entropy(x: Any, y: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()


def _normalised(x: Any, axes: tuple[int, ...]) -> Any:
    centred = x - x.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + 1e-5)


def _layer_norm(x: Any, w: Any, b: Any, normalized_shape: Any) -> Any:  # of the last axis
    return _normalised(x, (-1,)) * w + b


def _rms_norm(x: Any, w: Any, normalized_shape: Any, eps: float = 1e-5) -> Any:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps) * w


def _per_channel(xhat: Any, w: Any, b: Any) -> Any:
    shape = (-1, *[1] * (xhat.ndim - 2))
    return xhat * w.reshape(shape) + b.reshape(shape)


def _batch_norm(x: Any, w: Any, b: Any, training: bool) -> Any:
    assert training
    return _per_channel(_normalised(x, (0, *range(2, x.ndim))), w, b)


def _group_norm(x: Any, w: Any, b: Any, num_groups: int) -> Any:
    xhat = _normalised(x.reshape(x.shape[0], num_groups, -1), (-1,)).reshape(x.shape)
    return _per_channel(xhat, w, b)


def _instance_norm(x: Any, w: Any, b: Any) -> Any:
    return _per_channel(_normalised(x, tuple(range(2, x.ndim))), w, b)


def _max_pool2d(x: Any, kernel_size: int) -> Any:
    window = (1, 1, kernel_size, kernel_size)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def _avg_pool2d(x: Any, kernel_size: int) -> Any:
    window = (1, 1, kernel_size, kernel_size)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / kernel_size**2


def _conv2d(x: Any, w: Any, b: Any, padding: int, groups: int = 1) -> Any:
    around = [(padding, padding)] * 2
    y = jax.lax.conv_general_dilated(x, w, (1, 1), around, feature_group_count=groups)
    return y + b[:, None, None]


def _scanned(step: Any, states: int) -> Any:
    """A recurrent layer: one product for all inputs, then lax.scan; the results as one vector."""

    def run(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        zeros = jnp.zeros((x.shape[1], w_hh.shape[1]))

        def body(carry: Any, z: Any) -> Any:
            carry = step(z, carry, carry[0] @ w_hh.T + b_hh)
            return carry, carry[0]

        last, y = jax.lax.scan(body, (zeros,) * states, x @ w_ih.T + b_ih)
        return jnp.concatenate([y.ravel(), *(s.ravel() for s in last)])

    return run


def _lstm_step(z: Any, carry: Any, hidden: Any) -> Any:
    i, f, g, o = jnp.split(z + hidden, 4, axis=-1)
    c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _layer_norm_lstm(
    x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h_0: Any, c_0: Any, gain_ih: Any,
    gain_hh: Any, gain_c: Any, b_c: Any,
) -> Any:  # fmt: skip
    def body(carry: Any, z: Any) -> Any:
        h, c = carry
        z = z + _normalised(h @ w_hh.T, (-1,)) * gain_hh + b_hh
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(_normalised(c, (-1,)) * gain_c + b_c)
        return (h, c), h

    z = _normalised(x @ w_ih.T, (-1,)) * gain_ih + b_ih
    last, y = jax.lax.scan(body, (h_0, c_0), z)
    return jnp.concatenate([y.ravel(), *(s.ravel() for s in last)])


def _gru_step(z: Any, carry: Any, hidden: Any) -> Any:
    (xr, xz, xn), (hr, hz, hn) = jnp.split(z, 3, axis=-1), jnp.split(hidden, 3, axis=-1)
    keep = jax.nn.sigmoid(xz + hz)
    n = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
    return ((1 - keep) * n + keep * carry[0],)


_OPS: dict[str, Any] = {
    "lstm": _scanned(_lstm_step, 2),
    "layer_norm_lstm": _layer_norm_lstm,
    "gru": _scanned(_gru_step, 1),
    "rnn": _scanned(lambda z, carry, hidden: (jnp.tanh(z + hidden),), 1),
    "conv2d": _conv2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": lambda x, output_size: x.mean((-2, -1), keepdims=True),
    "adaptive_max_pool2d": lambda x, output_size: x.max((-2, -1), keepdims=True),
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "hardsigmoid": jax.nn.hard_sigmoid,
    "hardswish": jax.nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "linear": lambda x, w, b: x @ w.T + b,
    "matmul": jnp.matmul,
    "bmm": jnp.matmul,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": partial(jax.nn.logsumexp, axis=-1),
    "cross_entropy": _cross_entropy,
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "truediv": jnp.divide,
    "sum": jnp.sum,
    "mean": jnp.mean,
}


def _op(case: dict[str, Any], x: list[Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if case["op"] == "dropout":
        return _dropout(case, x[0], arrays)
    if case["op"] not in _OPS:
        return {}
    function = partial(_OPS[case["op"]], **case["params"])
    if case["kind"] == "fwd":
        forward = jax.jit(function)
        return {"jit": lambda: _wait(forward(*x))}
    dy = jnp.asarray(arrays["dy"])
    labels = x[1:] if case["op"] == "cross_entropy" else []
    leaves = x[: len(x) - len(labels)]

    @jax.jit
    def both(leaves: Any, labels: Any, dy: Any) -> Any:
        y, vjp = jax.vjp(lambda *a: function(*a, *labels), *leaves)
        return y, vjp(dy)

    return {"jit": lambda: _wait(both(leaves, labels, dy))}


def _dropout(case: dict[str, Any], x: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    def make(implementation: str) -> Any:
        keys = [jax.random.key(0, impl=implementation)]
        dy = jnp.asarray(arrays.get("dy", 0.0))

        @jax.jit
        def run(key: Any, x: Any, dy: Any) -> Any:
            key, use = jax.random.split(key)
            keep = jax.random.bernoulli(use, 0.5, x.shape)
            y = jnp.where(keep, x * 2, 0)
            return key, y, jnp.where(keep, dy * 2, 0) if case["kind"] == "fwd+bwd" else None

        def call() -> Any:
            keys[0], *rest = _wait(run(keys[0], x, dy))
            return rest

        return call

    return {name: make(name) for name in ("threefry2x32", "rbg", "unsafe_rbg")}


# ---- networks ------------------------------------------------------------------------------------


def _network(sizes: list[int], norms: bool = False) -> list[Any]:
    rng = np.random.default_rng(0)
    layers = []
    for i, o in itertools.pairwise(sizes):
        w = rng.uniform(-1, 1, (i, o)) / i**0.5
        norm = (jnp.ones(o), jnp.zeros(o)) if norms else ()
        layers.append((jnp.asarray(w, jnp.float32), jnp.zeros(o, jnp.float32), *norm))
    return layers


def _forward(layers: Any, x: Any, dropout: float = 0.0, key: Any = None) -> Any:
    for w, b, *norm in layers[:-1]:
        x = x @ w + b
        if norm:  # without running statistics, which the others keep
            x = _normalised(x, (0,)) * norm[0] + norm[1]
        x = jax.nn.relu(x)
        if dropout:
            key, use = jax.random.split(key)
            keep = jax.random.bernoulli(use, 1 - dropout, x.shape)
            x = jnp.where(keep, x / (1 - dropout), 0)
    w, b, *_ = layers[-1]
    return x @ w + b


def _stepper(adam: Any, dropout: float = 0.0) -> Any:
    def step(carry: Any, batch: Any) -> Any:
        layers, state, key = carry
        x, y = batch
        key, use = jax.random.split(key) if dropout else (key, key)

        def loss_of(layers: Any) -> Any:
            return _cross_entropy(_forward(layers, x, dropout, use), y)

        loss, grads = jax.value_and_grad(loss_of)(layers)
        updates, state = adam.update(grads, state)
        return (optax.apply_updates(layers, updates), state, key), loss

    return step


def _start(adam: Any, layers: list[Any]) -> Any:
    """What a step carries; keys by the fastest of JAX's generators."""
    return layers, adam.init(layers), jax.random.key(0, impl="unsafe_rbg")


def _steps(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if not case["op"].startswith("train step"):  # MLPs only
        return {}
    batch = case["params"]["batch"]
    steps = len(arrays["y"]) // batch
    xs = jnp.asarray(arrays["x"].reshape(steps, batch, -1))
    ys = jnp.asarray(arrays["y"].reshape(steps, batch))
    adam = optax.adam(1e-5)
    dropout = case["params"].get("dropout", 0.0)
    step = _stepper(adam, dropout)

    def start() -> list[Any]:
        return [_start(adam, _network(case["shape"], dropout > 0))]

    one = jax.jit(step, donate_argnums=0)
    scan = jax.jit(lambda carry, xs, ys: jax.lax.scan(step, carry, (xs, ys)), donate_argnums=0)
    single, many, position = start(), start(), [0]
    pairs = [(_wait(x), _wait(y)) for x, y in zip(xs, ys, strict=True)]

    def run_one() -> None:
        i = position[0] = (position[0] + 1) % steps
        single[0], _ = _wait(one(single[0], pairs[i]))

    def run_scan() -> None:
        many[0], _ = _wait(scan(many[0], xs, ys))

    return {f"lax.scan, {steps} steps a call": (run_scan, steps), "jit, one step a call": run_one}


def _optimizer(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    makers: dict[str, Any] = {
        "adam": optax.adam,
        "sgd": optax.sgd,
        "rmsprop": partial(optax.rmsprop, decay=0.99),
        "adagrad": optax.adagrad,
    }
    rule = makers[case["op"]](1e-5, **case["params"])
    grads = [jnp.asarray(g) for g in arrays["g"]]
    params = [jnp.asarray(p) for p in arrays["p"]]
    carry = [(params, rule.init(params))]

    def step(carry: Any, grads: Any) -> Any:
        params, state = carry
        updates, state = rule.update(grads, state)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=0)

    def run() -> None:
        carry[0] = _wait(jitted(carry[0], grads))

    return {"jit": run}


def _fit(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Warm: the compiled epoch exists already. Fresh: what one fit in a new process costs."""
    epochs, batch = case["params"]["epochs"], case["params"]["batch"]
    x, y = jnp.asarray(arrays["x"]), jnp.asarray(arrays["y"])
    steps, rest = divmod(len(x), batch)
    adam = optax.adam(1e-3)
    step = _stepper(adam)

    def make_epoch() -> Any:
        @partial(jax.jit, donate_argnums=0)
        def epoch(carry: Any, x: Any, y: Any, order: Any) -> Any:
            whole = order[: steps * batch].reshape(steps, batch)
            carry, _ = jax.lax.scan(lambda c, rows: step(c, (x[rows], y[rows])), carry, whole)
            if rest:
                rows = order[steps * batch :]
                carry, _ = step(carry, (x[rows], y[rows]))
            return carry

        return epoch

    def fit(epoch: Any) -> Any:
        carry = _start(adam, _network(case["shape"][0]))
        rng = np.random.default_rng(0)
        for _ in range(epochs):
            carry = epoch(carry, x, y, rng.permutation(len(x)))
        return _wait(carry)[0]

    warm = make_epoch()
    start = time.perf_counter()
    _fit.layers = fit(warm)  # type: ignore[attr-defined]
    print(f"jax: first fit with compilation {time.perf_counter() - start:.3f} s", file=sys.stderr)

    # A new function is compiled anew.
    return {
        "scan per epoch, warm": lambda: fit(warm),
        "with compilation": lambda: fit(make_epoch()),
    }


def check(case: dict[str, Any], arrays: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    layers = _fit.layers  # type: ignore[attr-defined]
    wrong = np.asarray(_forward(layers, arrays["x_test"])).argmax(1) != arrays["y_test"]
    return {"error": float(wrong.mean())}


if __name__ == "__main__":
    serve(variants, describe, products={"": lambda a, b: jax.jit(jnp.matmul)(a, b)}, check=check)
