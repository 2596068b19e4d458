"""Recurrent layers: their bounds and rows.

A bound is the oracle itself, walked through in an arithmetic that carries errors along
(``testing/error_arithmetic.py``): 16 u (|A| |B|) for each product, as in every GEMM, the rounding
of each operation, and what the cell makes of all that over the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import functional as F
from fastnn.testing.bounds import Array, Grads, Sample
from fastnn.testing.error_arithmetic import Uncertain
from fastnn.testing.op import Bad, Bench, Case, Op, Shapes, size, zeros
from fastnn.testing.reference import norm
from fastnn.testing.reference import recurrent as reference

__all__ = ["ROWS"]


def walked(cell: Callable[[dict[str, Any]], reference.Cell], count: int) -> Any:
    """The bound of an op with `count` states, by its cell."""

    def bound(s: Sample) -> tuple[Array, Grads]:
        x, *arrays, lengths = s.inputs
        assert x is not None
        w = reference.Weights.of([None if a is None else Uncertain(a) for a in arrays], count)
        given = reference.first_states(count, np.asarray(arrays[1]), x, tuple(arrays[4:]))
        states = tuple(map(Uncertain, given))
        params = {k: v for k, v in s.params.items() if k != "reverse"}
        steps = [Uncertain(v) for v in x]
        kind = cell(params)
        done = reference.walk(kind, steps, w, states, lengths, s.params.get("reverse", False))
        dy, dstates = reference.split_gradient(s.dy, x, w.hh.shape[1], count)
        last = tuple(map(Uncertain, dstates))
        grads = reference.walk_back(kind, steps, w, done, list(map(Uncertain, dy)), last)
        errors = [np.stack([g.error for g in grads[0]]), *(g.error for g in grads[1:])]
        y = reference.join([v.error for v in (*done.outputs, *done.states)])
        present = (x, *arrays)
        limits = (None if a is None else e for a, e in zip(present, errors, strict=True))
        return y, (*limits, None)

    return bound


def draw(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """Weights that leave the gates between their ends, and lengths of all kinds."""
    *floats, lengths = shapes
    assert floats[0] is not None
    drawn: list[Array | None] = [None if s is None else rng.standard_normal(s) for s in floats]
    for i in (1, 2):
        w = drawn[i]
        assert w is not None
        drawn[i] = w / max(1.0, w.shape[1] ** 0.5)
    if lengths is None:
        return *drawn, None
    steps, batch = floats[0][0], floats[0][1]
    ends = rng.integers(0, steps + 1, batch)
    ends[: batch // 2] = rng.integers(max(1, steps - 2), steps + 1, batch // 2)
    return *drawn, ends


def draw_norms(rng: np.random.Generator, shapes: Shapes) -> tuple[Array | None, ...]:
    """The same with small gains: errors then shrink from norm to norm, and bounds stay tight."""
    drawn = draw(rng, shapes)
    gains = range(7, 10)
    return tuple(x if x is None or i not in gains else x / 4 for i, x in enumerate(drawn))


def shapes_of(
    gates: int, states: int, sizes: tuple[int, int, int, int], bias: bool = True,
    initial: bool = True, lengths: bool = False, norms: bool = False,
) -> Shapes:  # fmt: skip
    """The arrays of a layer for (steps, batch, features, hidden)."""
    t, b, i, h = sizes
    biases = ((gates * h,) if bias else None,) * 2
    first = ((b, h) if initial else None,) * states
    ends = (b,) if lengths else None
    of_norms = ((gates * h,), (gates * h,), (h,), (h,) if bias else None) if norms else ()
    return ((t, b, i), (gates * h, i), (gates * h, h), *biases, *first, *of_norms, ends)


def all_shapes(gates: int, states: int, norms: bool = False) -> tuple[Shapes, ...]:
    """One step and several, odd sizes, empty ones; each with what may be absent."""

    def make(*sizes: int, **options: bool) -> Shapes:
        assert len(sizes) == 4
        return shapes_of(gates, states, sizes, norms=norms, **options)

    return (
        make(3, 2, 4, 5),
        make(1, 3, 2, 4),
        make(1, 2, 3, 1, initial=False),
        make(4, 3, 5, 7, initial=False, bias=False),
        make(5, 6, 3, 4, lengths=True),
        make(4, 5, 2, 17, lengths=True, initial=False),
        make(2, 0, 3, 4),
        make(2, 3, 0, 4),
        *(() if norms else (make(2, 3, 4, 0),)),
        make(3, 13, 20, 33),
        make(2, 7, 70, 65, bias=False),
        make(5, 100, 3, 4, lengths=True),  # several chunks of steps, the last a short one
        make(2, 300, 2, 3, initial=False),  # a step is a chunk
    )


def cost(gates: int) -> Callable[[Shapes], tuple[int, int]]:
    """Two products of every step; the cell's own work is small next to them."""

    def of(s: Shapes) -> tuple[int, int]:
        (t, b, i), hidden = s[0], s[2][1]  # type: ignore[misc,index]
        moved = sum(map(size, s)) + t * b * hidden * (gates + 2)
        return moved, 2 * t * b * gates * hidden * (i + hidden)

    return of


def bench(gates: int, states: int, norms: bool = False) -> Bench:
    """C17, and one of few rows; no array is left out before one that is there."""
    sizes = ((50, 64, 256, 256), (30, 8, 64, 128))
    shapes = tuple(shapes_of(gates, states, s, initial=norms, norms=norms) for s in sizes)
    return Bench(shapes, cost(gates), ({}, {}))


def bad_calls(op: Any, name: str, gates: int) -> tuple[Bad, ...]:
    """What the ops refuse alike."""
    g = gates
    return (
        Bad(
            lambda: op(zeros(3, 2), zeros(g * 5, 2), zeros(g * 5, 5)),
            ValueError,
            f"{name}: expected input of shape (steps, batch, features), got (3, 2)",
        ),
        Bad(
            lambda: op(zeros(0, 2, 4), zeros(g * 5, 4), zeros(g * 5, 5)),
            ValueError,
            f"{name}: expected at least one step, got input (0, 2, 4)",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 3), zeros(g * 5, 5)),
            ValueError,
            f"{name}: expected weight_ih of shape ({5 * g}, 4) to fit input (3, 2, 4) and "
            f"weight_hh ({5 * g}, 5), got ({5 * g}, 3)",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 4), zeros(g * 5, 6)),
            ValueError,
            f"{name}: expected weight_hh of shape ({g} * hidden, hidden), got ({5 * g}, 6)",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 4), zeros(g * 5, 5), zeros(5 * g + 1)),
            ValueError,
            f"{name}: expected bias_ih of shape ({5 * g},) to fit weight_hh ({5 * g}, 5), "
            f"got ({5 * g + 1},)",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 4), zeros(g * 5, 5), h_0=zeros(5, 2)),
            ValueError,
            f"{name}: expected h_0 of shape (2, 5) (batch, hidden), got (5, 2)",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 4), zeros(g * 5, 5), lengths=[1, 2, 3]),
            ValueError,
            f"{name}: expected lengths of shape (2,), one for each row of the batch of input "
            "(3, 2, 4), got (3,)",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 4), zeros(g * 5, 5), lengths=[3, -1]),
            ValueError,
            f"{name}: expected 0 <= lengths <= 3, the steps of input, got -1 at lengths[1]",
        ),
        Bad(
            lambda: op(zeros(3, 2, 4), zeros(g * 5, 4), zeros(g * 5, 5), lengths=zeros(2)),
            TypeError,
            f"{name}: expected lengths of int64, got float32",
        ),
        Bad(
            lambda: op(np.zeros((3, 2, 4), np.int64), zeros(g * 5, 4), zeros(g * 5, 5)),
            TypeError,
            f"{name}: expected input of dtype float32, got int64",
        ),
    )


def large(gates: int, states: int, **options: bool) -> Case:
    return shapes_of(gates, states, (6, 70, 60, 90), lengths=True, **options), {}


_ARRAYS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "h_0")
_LSTM = Op(
    name="fastnn.functional.lstm",
    family="recurrent",
    arrays=(*_ARRAYS, "c_0", "lengths"),
    reference=(reference.lstm, reference.lstm_vjp),
    covers=("lstm_fwd", "lstm_bwd", "check_lengths", "nn.LSTM", "nn.LSTMCell"),
    params=({}, {"reverse": True}),
    shapes=all_shapes(4, 2),
    tail=None,
    make=draw,
    bound=walked(lambda params: reference.lstm_cell(), 2),
    bench=bench(4, 2),
    dtypes=("float32",),
    bad=(
        *bad_calls(F.lstm, "lstm", 4),
        Bad(
            lambda: F.lstm(zeros(3, 2, 4), zeros(8, 4), zeros(8, 2), c_0=zeros(2, 3)),
            ValueError,
            "lstm: expected c_0 of shape (2, 2) (batch, hidden), got (2, 3)",
        ),
        Bad(
            lambda: fastnn.nn.LSTM(3, 4, num_layers=0),
            ValueError,
            "LSTM: expected sizes and num_layers > 0, got input_size=3, hidden_size=4, "
            "num_layers=0",
        ),
        Bad(
            lambda: fastnn.nn.LSTM(3, 4, dropout=1.5),
            ValueError,
            "LSTM: expected 0 <= dropout <= 1, got 1.5",
        ),
        Bad(
            lambda: fastnn.nn.LSTM(3, 4)(zeros(5)),
            ValueError,
            "LSTM: expected input of shape (steps, batch, 3) or (steps, 3), got (5,)",
        ),
        Bad(
            lambda: fastnn.nn.LSTM(3, 4, batch_first=True)(zeros(2, 5, 4)),
            ValueError,
            "LSTM: expected input of shape (batch, steps, 3) or (steps, 3), got (2, 5, 4)",
        ),
        Bad(
            lambda: fastnn.nn.LSTM(3, 4, bidirectional=True)(
                zeros(5, 2, 3), (zeros(1, 2, 4), zeros(2, 2, 4))
            ),
            ValueError,
            "LSTM: expected h_0 of shape (2, 2, 4), layers * directions first, got (1, 2, 4)",
        ),
        Bad(
            lambda: fastnn.nn.LSTM(3, 4)(zeros(5, 2, 3), zeros(1, 2, 4)),
            TypeError,
            "LSTM: expected hx to be a tuple (h_0, c_0), got ndarray",
        ),
        Bad(
            lambda: fastnn.nn.LSTMCell(3, 4)(zeros(2, 4)),
            ValueError,
            "LSTMCell: expected input of shape (batch, 3) or (3,), got (2, 4)",
        ),
    ),
    large=large(4, 2),
)

_LAYER_NORM_LSTM = Op(
    name="fastnn.functional.layer_norm_lstm",
    family="recurrent",
    arrays=(*_ARRAYS, "c_0", "gain_ih", "gain_hh", "gain_c", "bias_c", "lengths"),
    reference=(reference.layer_norm_lstm, reference.layer_norm_lstm_vjp),
    covers=(
        "lstm_output_fwd", "lstm_output_bwd", "lstm_cell_bwd", "nn.LayerNormLSTM",
        "nn.LayerNormLSTMCell",
    ),
    # Of a row whose variance is small a norm magnifies errors: eps is large, but for few steps.
    params=({"eps": 0.5}, {"eps": 0.5, "reverse": True}),
    shapes=(
        *all_shapes(4, 2, norms=True),
        (*shapes_of(4, 2, (1, 4, 5, 6))[:-1], None, None, None, None, None),
    ),
    pairs=(
        (shapes_of(4, 2, (3, 2, 4, 5), norms=True), {}),
        (shapes_of(4, 2, (2, 5, 3, 4), norms=True, bias=False, lengths=True), {"reverse": True}),
    ),
    tail=None,
    make=draw_norms,
    bound=walked(lambda p: reference.layer_norm_lstm_cell(p.get("eps", norm.EPS)), 2),
    bench=bench(4, 2, norms=True),
    dtypes=("float32",),
    bad=(
        *bad_calls(F.layer_norm_lstm, "layer_norm_lstm", 4),
        Bad(
            lambda: F.layer_norm_lstm(zeros(3, 2, 4), zeros(8, 4), zeros(8, 2), c_0=zeros(2, 3)),
            ValueError,
            "layer_norm_lstm: expected c_0 of shape (2, 2) (batch, hidden), got (2, 3)",
        ),
        Bad(
            lambda: F.layer_norm_lstm(zeros(3, 2, 4), zeros(8, 4), zeros(8, 2), gain_hh=zeros(2)),
            ValueError,
            "layer_norm_lstm: expected gain_hh of shape (8,) to fit weight_hh (8, 2), got (2,)",
        ),
        Bad(
            lambda: F.layer_norm_lstm(zeros(3, 2, 4), zeros(8, 4), zeros(8, 2), bias_c=zeros(8)),
            ValueError,
            "layer_norm_lstm: expected bias_c of shape (2,) to fit weight_hh (8, 2), got (8,)",
        ),
        Bad(
            lambda: F.layer_norm_lstm(zeros(3, 2, 4), zeros(0, 4), zeros(0, 0)),
            ValueError,
            "layer_norm_lstm: expected at least one unit to normalise, got weight_hh (0, 0)",
        ),
        Bad(
            lambda: F.layer_norm_lstm(zeros(3, 2, 4), zeros(8, 4), zeros(8, 2), eps=-1.0),
            ValueError,
            "layer_norm_lstm: expected eps >= 0, got -1",
        ),
        Bad(
            lambda: fastnn.nn.LayerNormLSTM(3, 4, eps=-1.0),
            ValueError,
            "LayerNormLSTM: expected eps >= 0, got -1.0",
        ),
        Bad(
            lambda: fastnn.nn.LayerNormLSTM(3, 0),
            ValueError,
            "LayerNormLSTM: expected sizes and num_layers > 0, got input_size=3, hidden_size=0, "
            "num_layers=1",
        ),
        Bad(
            lambda: fastnn.nn.LayerNormLSTMCell(3, 4, eps=float("nan")),
            ValueError,
            "LayerNormLSTMCell: expected eps >= 0, got nan",
        ),
        Bad(
            lambda: fastnn.nn.LayerNormLSTMCell(3, 4)(zeros(2, 3), zeros(2, 4)),
            TypeError,
            "LayerNormLSTMCell: expected hx to be a tuple (h_0, c_0), got ndarray",
        ),
    ),
    large=large(4, 2, norms=True),
)  # fmt: skip

_GRU = Op(
    name="fastnn.functional.gru",
    family="recurrent",
    arrays=(*_ARRAYS, "lengths"),
    reference=(reference.gru, reference.gru_vjp),
    covers=("gru_fwd", "gru_bwd", "gru_reset", "gru_reset_bwd", "nn.GRU", "nn.GRUCell"),
    params=(
        {},
        {"reverse": True},
        {"convention": "cho"},
        {"convention": "lectures", "reverse": True},
    ),
    shapes=all_shapes(3, 1),
    tail=None,
    make=draw,
    bound=walked(lambda p: reference.gru_cell(p.get("convention", "torch")), 1),
    bench=bench(3, 1),
    dtypes=("float32",),
    bad=(
        *bad_calls(F.gru, "gru", 3),
        Bad(
            lambda: F.gru(zeros(3, 2, 4), zeros(6, 4), zeros(6, 2), convention="keras"),
            ValueError,
            "gru: expected convention to be one of 'torch', 'cho', 'lectures', got 'keras'",
        ),
        Bad(
            lambda: fastnn.nn.GRU(3, 4, convention="keras"),
            ValueError,
            "GRU: expected convention to be one of 'torch', 'cho', 'lectures', got 'keras'",
        ),
    ),
    large=large(3, 1),
)

_RNN = Op(
    name="fastnn.functional.rnn",
    family="recurrent",
    arrays=(*_ARRAYS, "lengths"),
    reference=(reference.rnn, reference.rnn_vjp),
    covers=("rnn_fwd", "rnn_bwd", "nn.RNN", "nn.RNNCell"),
    params=({}, {"reverse": True}, {"nonlinearity": "relu"}),
    shapes=all_shapes(1, 1),
    tail=None,
    make=draw,
    bound=walked(lambda p: reference.rnn_cell(p.get("nonlinearity", "tanh")), 1),
    bench=bench(1, 1),
    dtypes=("float32",),
    bad=(
        *bad_calls(F.rnn, "rnn", 1),
        Bad(
            lambda: F.rnn(zeros(3, 2, 4), zeros(2, 4), zeros(2, 2), nonlinearity="gelu"),
            ValueError,
            "rnn: expected nonlinearity to be one of 'tanh', 'relu', got 'gelu'",
        ),
        Bad(
            lambda: fastnn.nn.RNN(3, 4, nonlinearity="gelu"),
            ValueError,
            "RNN: expected nonlinearity to be one of 'tanh', 'relu', got 'gelu'",
        ),
    ),
    large=large(1, 1),
)

ROWS: tuple[Op, ...] = (_LSTM, _LAYER_NORM_LSTM, _GRU, _RNN)
