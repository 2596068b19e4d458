"""Recurrent layers, step by step: the cells as printed, and backpropagation through time.

A cell is a function of one step and its vjp; the walk over the steps knows no cell. Where a row's
length is over, m = 0: h = m h_new + (1 - m) h', and the output is m h. Everything is made of
operators and NumPy's functions, so that it runs in other arithmetics too: ops/recurrent.py derives
the bounds from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.testing.reference import norm

Array = np.ndarray[Any, np.dtype[np.float64]]
Arrays = tuple[Any, ...]


def sigmoid(z: Any) -> Any:
    """1 / (1 + e^-z)."""
    return 1 / (1 + np.exp(-z))


@dataclass(frozen=True)
class Weights:
    """W_ih, W_hh and the biases (0 where there are none); of norms, what else they have."""

    ih: Any
    hh: Any
    b_ih: Any
    b_hh: Any
    norms: Arrays = ()

    @staticmethod
    def of(arrays: Any, states: int) -> Weights:
        """Out of (w_ih, w_hh, b_ih, b_hh, first states ..., what norms have besides)."""
        ih, hh, b_ih, b_hh, *rest = arrays
        return Weights(ih, hh, b_ih, b_hh, tuple(rest[states:]))

    def rows(self, begin: int, end: int) -> Weights:
        """Those of gates begin to end."""
        n = self.hh.shape[1]
        some = slice(begin * n, end * n)
        b_ih, b_hh = (b if b is None else b[some] for b in (self.b_ih, self.b_hh))
        return Weights(self.ih[some], self.hh[some], b_ih, b_hh)

    def input_sum(self, x: Any) -> Any:
        """W_ih x + b_ih."""
        z = x @ self.ih.T
        return z if self.b_ih is None else z + self.b_ih

    def hidden_sum(self, h: Any) -> Any:
        """W_hh h + b_hh."""
        z = h @ self.hh.T
        return z if self.b_hh is None else z + self.b_hh

    def input_vjp(self, dz: Any, x: Any) -> Arrays:
        """dx, dW_ih, db_ih."""
        return dz @ self.ih, dz.T @ x, dz.sum(axis=0)

    def hidden_vjp(self, dz: Any, h: Any) -> Arrays:
        """dh, dW_hh, db_hh."""
        return dz @ self.hh, dz.T @ h, dz.sum(axis=0)


def _columns(z: Any, gates: int) -> Arrays:
    n = z.shape[1] // gates
    return tuple(z[:, i * n : (i + 1) * n] for i in range(gates))


@dataclass(frozen=True)
class Cell:
    """step(x, states, weights) -> (states, saved), and its vjp: (dstates, states, weights, saved)
    -> (dx, dstates before, dW_ih, db_ih, dW_hh, db_hh, and those of norms)."""

    step: Callable[..., tuple[Arrays, Any]]
    vjp: Callable[..., Any]


# ---- cells -----------------------------------------------------------------------------------


def rnn_cell(nonlinearity: str) -> Cell:
    """h = act(W_ih x + b_ih + W_hh h' + b_hh)."""

    def step(x: Any, states: Arrays, w: Weights) -> tuple[Arrays, Any]:
        z = w.input_sum(x) + w.hidden_sum(states[0])
        h = np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0)
        return (h,), (z, h)

    def vjp(dstates: Arrays, x: Any, states: Arrays, w: Weights, saved: Any) -> Any:
        z, h = saved
        dz = dstates[0] * ((1 - h * h) if nonlinearity == "tanh" else (z > 0) * 1.0)
        dx, dw_ih, db_ih = w.input_vjp(dz, x)
        dh, dw_hh, db_hh = w.hidden_vjp(dz, states[0])
        return dx, (dh,), dw_ih, db_ih, dw_hh, db_hh

    return Cell(step, vjp)


def lstm_cell() -> Cell:
    """c = f c' + i g, h = o tanh(c): Hochreiter and Schmidhuber 1997, Gers et al. 2000."""

    def step(x: Any, states: Arrays, w: Weights) -> tuple[Arrays, Any]:
        h_prev, c_prev = states
        i, f, g, o = _columns(w.input_sum(x) + w.hidden_sum(h_prev), 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c_prev + i * g
        return (o * np.tanh(c), c), (i, f, g, o, c)

    def vjp(dstates: Arrays, x: Any, states: Arrays, w: Weights, saved: Any) -> Any:
        (dh, dc), (h_prev, c_prev), (i, f, g, o, c) = dstates, states, saved
        t = np.tanh(c)
        dc = dc + dh * o * (1 - t * t)
        parts = (
            dc * g * (i * (1 - i)),
            dc * c_prev * (f * (1 - f)),
            dc * i * (1 - g * g),
            dh * t * (o * (1 - o)),
        )
        grads: list[Any] = [0.0, 0.0, [], [], [], []]
        for gate, dz in enumerate(parts):
            own = w.rows(gate, gate + 1)
            dx, dw_ih, db_ih = own.input_vjp(dz, x)
            dh_prev, dw_hh, db_hh = own.hidden_vjp(dz, h_prev)
            grads[0], grads[1] = grads[0] + dx, grads[1] + dh_prev
            for k, part in enumerate((dw_ih, db_ih, dw_hh, db_hh)):
                grads[2 + k].append(part)
        return grads[0], (grads[1], dc * f), *map(_stack, grads[2:])

    return Cell(step, vjp)


def _norm(z: Any, gain: Any, bias: Any, eps: float) -> tuple[Any, Arrays]:
    """The layer norm of rows, and its statistics."""
    xhat, rstd = norm.statistics(z, (1,), eps)
    y = xhat if gain is None else xhat * gain
    return y if bias is None else y + bias, (xhat, rstd)


def _norm_vjp(dy: Any, statistics: Arrays, gain: Any) -> Arrays:
    """dz, dgain, dbias."""
    xhat, rstd = statistics
    dz = norm.dx_of(dy if gain is None else dy * gain, xhat, rstd, (1,))
    return dz, (dy * xhat).sum(axis=0), dy.sum(axis=0)


def layer_norm_lstm_cell(eps: float) -> Cell:
    """c = f c' + i g, h = o tanh(LN(c)), gates of LN(W_ih x) + LN(W_hh h'): Ba et al. 2016."""

    def step(x: Any, states: Arrays, w: Weights) -> tuple[Arrays, Any]:
        h_prev, c_prev = states
        gain_ih, gain_hh, gain_c, bias_c = w.norms
        z_x, of_x = _norm(x @ w.ih.T, gain_ih, w.b_ih, eps)
        z_h, of_h = _norm(h_prev @ w.hh.T, gain_hh, w.b_hh, eps)
        i, f, g, o = _columns(z_x + z_h, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c_prev + i * g
        n, of_c = _norm(c, gain_c, bias_c, eps)
        return (o * np.tanh(n), c), (i, f, g, o, n, of_x, of_h, of_c)

    def vjp(dstates: Arrays, x: Any, states: Arrays, w: Weights, saved: Any) -> Any:
        (dh, dc), (h_prev, c_prev) = dstates, states
        i, f, g, o, n, of_x, of_h, of_c = saved
        gain_ih, gain_hh, gain_c, _ = w.norms
        t = np.tanh(n)
        dc_h, dgain_c, dbias_c = _norm_vjp(dh * o * (1 - t * t), of_c, gain_c)
        dc = dc + dc_h
        parts = [
            dc * g * (i * (1 - i)),
            dc * c_prev * (f * (1 - f)),
            dc * i * (1 - g * g),
            dh * t * (o * (1 - o)),
        ]
        dz = _stack([p.T for p in parts]).T
        da, dgain_ih, db_ih = _norm_vjp(dz, of_x, gain_ih)
        dx, dw_ih, _ = w.input_vjp(da, x)
        da, dgain_hh, db_hh = _norm_vjp(dz, of_h, gain_hh)
        dh_prev, dw_hh, _ = w.hidden_vjp(da, h_prev)
        norms = dgain_ih, dgain_hh, dgain_c, dbias_c
        return dx, (dh_prev, dc * f), dw_ih, db_ih, dw_hh, db_hh, *norms

    return Cell(step, vjp)


def _stack(parts: list[Any]) -> Any:
    """Blocks of rows, one after the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return parts[0].stack(parts)


# Whether the reset gate is applied after the product with the state, and whether z keeps it.
CONVENTIONS = {"torch": (True, True), "cho": (False, True), "lectures": (False, False)}


def gru_cell(convention: str) -> Cell:
    """Cho et al. 2014, in the three ways in which it is printed."""
    after, keeps = CONVENTIONS[convention]

    def step(x: Any, states: Arrays, w: Weights) -> tuple[Arrays, Any]:
        (h_prev,) = states
        r, z = _columns(w.rows(0, 2).input_sum(x) + w.rows(0, 2).hidden_sum(h_prev), 2)
        r, z = sigmoid(r), sigmoid(z)
        own = w.rows(2, 3)
        hidden = own.hidden_sum(h_prev) if after else own.hidden_sum(r * h_prev)
        n = np.tanh(own.input_sum(x) + (r * hidden if after else hidden))
        h = (1 - z) * n + z * h_prev if keeps else (1 - z) * h_prev + z * n
        return (h,), (r, z, n, hidden)

    def vjp(dstates: Arrays, x: Any, states: Arrays, w: Weights, saved: Any) -> Any:
        (dh,), (h_prev,), (r, z, n, hidden) = dstates, states, saved
        new, old = (1 - z, z) if keeps else (z, 1 - z)
        dz = dh * ((h_prev - n) if keeps else (n - h_prev)) * (z * (1 - z))
        dn = dh * new * (1 - n * n)
        own = w.rows(2, 3)
        dx, dw_ih, db_ih = own.input_vjp(dn, x)
        if after:
            dh_prev, dw_hh, db_hh = own.hidden_vjp(dn * r, h_prev)
            dr = dn * hidden * (r * (1 - r))
        else:
            dreset, dw_hh, db_hh = own.hidden_vjp(dn, r * h_prev)
            dh_prev, dr = dreset * r, dreset * h_prev * (r * (1 - r))
        dh_prev = dh_prev + dh * old
        parts = []
        for gate, d in enumerate((dr, dz)):
            gate_w = w.rows(gate, gate + 1)
            more = gate_w.input_vjp(d, x), gate_w.hidden_vjp(d, h_prev)
            dx, dh_prev = dx + more[0][0], dh_prev + more[1][0]
            parts.append((*more[0][1:], *more[1][1:]))
        parts.append((dw_ih, db_ih, dw_hh, db_hh))
        return dx, (dh_prev,), *(_stack(list(p)) for p in zip(*parts, strict=True))

    return Cell(step, vjp)


# ---- the walk over the steps -----------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """What a sequence gives: the output of each step, the last states, and the trace."""

    outputs: list[Any]
    states: Arrays
    trace: list[tuple[int, Any, Arrays, Any]]


def _inside(lengths: Any, t: int, batch: int) -> Any:
    return np.ones((batch, 1)) if lengths is None else (t < lengths)[:, None] * 1.0


def walk(cell: Cell, x: Any, w: Weights, states: Arrays, lengths: Any, reverse: bool) -> Walk:
    """Forward over all steps, or from the last to the first."""
    steps, batch = len(x), x[0].shape[0]
    outputs: list[Any] = [None] * steps
    trace = []
    for t in range(steps)[:: -1 if reverse else 1]:
        m = _inside(lengths, t, batch)
        new, saved = cell.step(x[t], states, w)
        trace.append((t, m, states, saved))
        states = tuple(m * a + (1 - m) * b for a, b in zip(new, states, strict=True))
        outputs[t] = m * states[0]
    return Walk(outputs, states, trace)


def walk_back(cell: Cell, x: Any, w: Weights, done: Walk, dy: Any, dstates: Arrays) -> list[Any]:
    """Gradients of x (a list over the steps), the weights, the first states, and of norms."""
    dx: list[Any] = [None] * len(x)
    total: list[Any] = []
    for t, m, states, saved in reversed(done.trace):
        dnew = tuple(m * d for d in dstates)
        dnew = (dnew[0] + m * dy[t], *dnew[1:])
        dx[t], before, *step = cell.vjp(dnew, x[t], states, w, saved)
        dstates = tuple(b + (1 - m) * d for b, d in zip(before, dstates, strict=True))
        total = step if not total else [a + b for a, b in zip(total, step, strict=True)]
    dw_ih, db_ih, dw_hh, db_hh, *norms = total
    return [dx, dw_ih, dw_hh, db_ih, db_hh, *dstates, *norms]


def join(parts: list[Array]) -> Array:
    """Several results as one vector, as the op table compares them."""
    return np.concatenate([np.reshape(p, -1) for p in parts])


def first_states(count: int, w_hh: Array, x: Array, given: Arrays) -> Arrays:
    """The given ones, zeros for None."""
    shape = x.shape[1], w_hh.shape[1]
    return tuple(np.zeros(shape) if s is None else s for s in given[:count])


def forward(cell: Cell, count: int, x: Array, arrays: Arrays, reverse: bool) -> Array:
    """Outputs and last states of (x, w_ih, w_hh, b_ih, b_hh, states ..., norms ..., lengths)."""
    *weights, lengths = arrays
    w = Weights.of(weights, count)
    states = first_states(count, w.hh, x, tuple(weights[4:]))
    done = walk(cell, x, w, states, lengths, reverse)
    return join([*done.outputs, *done.states])


def split_gradient(dy: Array, x: Array, width: int, count: int) -> tuple[Array, Arrays]:
    """The gradients of the outputs and of the last states, out of that of their join."""
    batch = x.shape[1]
    size = x.shape[0] * batch * width
    states = dy[size:].reshape(count, batch, width)
    return dy[:size].reshape(x.shape[0], batch, width), tuple(states)


def backward(
    cell: Cell, count: int, dy: Array, x: Array, arrays: Arrays, reverse: bool
) -> tuple[Array | None, ...]:
    """A gradient for each array, None for those that are None and for the lengths."""
    *weights, lengths = arrays
    w = Weights.of(weights, count)
    states = first_states(count, w.hh, x, tuple(weights[4:]))
    done = walk(cell, x, w, states, lengths, reverse)
    grads = walk_back(cell, x, w, done, *split_gradient(dy, x, w.hh.shape[1], count))
    given = (x, *weights)
    grads[0] = np.stack(grads[0])
    return *(None if a is None else g for a, g in zip(given, grads, strict=True)), None


# ---- the ops -----------------------------------------------------------------------------------


def rnn(x: Array, *arrays: Any, reverse: bool = False, nonlinearity: str = "tanh") -> Array:
    """(output, h_n) as one vector."""
    return forward(rnn_cell(nonlinearity), 1, x, arrays, reverse)


def rnn_vjp(
    dy: Array, x: Array, *arrays: Any, reverse: bool = False, nonlinearity: str = "tanh"
) -> tuple[Array | None, ...]:
    """Backpropagation through time."""
    return backward(rnn_cell(nonlinearity), 1, dy, x, arrays, reverse)


def lstm(x: Array, *arrays: Any, reverse: bool = False) -> Array:
    """(output, h_n, c_n) as one vector."""
    return forward(lstm_cell(), 2, x, arrays, reverse)


def lstm_vjp(dy: Array, x: Array, *arrays: Any, reverse: bool = False) -> tuple[Array | None, ...]:
    """Backpropagation through time."""
    return backward(lstm_cell(), 2, dy, x, arrays, reverse)


def layer_norm_lstm(x: Array, *arrays: Any, reverse: bool = False, eps: float = norm.EPS) -> Array:
    """(output, h_n, c_n) as one vector."""
    return forward(layer_norm_lstm_cell(eps), 2, x, arrays, reverse)


def layer_norm_lstm_vjp(
    dy: Array, x: Array, *arrays: Any, reverse: bool = False, eps: float = norm.EPS
) -> tuple[Array | None, ...]:
    """Backpropagation through time."""
    return backward(layer_norm_lstm_cell(eps), 2, dy, x, arrays, reverse)


def gru(x: Array, *arrays: Any, reverse: bool = False, convention: str = "torch") -> Array:
    """(output, h_n) as one vector."""
    return forward(gru_cell(convention), 1, x, arrays, reverse)


def gru_vjp(
    dy: Array, x: Array, *arrays: Any, reverse: bool = False, convention: str = "torch"
) -> tuple[Array | None, ...]:
    """Backpropagation through time."""
    return backward(gru_cell(convention), 1, dy, x, arrays, reverse)
