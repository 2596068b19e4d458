"""X30: how far back a recurrent network learns: the gradient by its distance in time.

The loss looks at the last output of 100 steps; the gradient at the input k steps before shrinks by
a factor per step. A plain RNN's factor is at most the largest singular value of its weights, an
LSTM's about its forget gate: with a bias of 4 that is 0.98.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn as fn
from fastnn import nn
from fastnn.experiments.common import COLORS, axes_of
from fastnn.experiments.result import Result, at_least, at_most
from fastnn.inspect import singular_values
from fastnn.nn import init

HIDDEN, STEPS = 32, 100


def run(seed: int, quick: bool) -> Result:
    """Norms of the gradient at each input, over a batch of 64."""
    rnn, lstm, gru = nn.RNN(16, HIDDEN), nn.LSTM(16, HIDDEN), nn.GRU(16, HIDDEN)
    forgetful = nn.LSTM(16, HIDDEN)
    _bias(lstm, 1, 4.0)  # the forget gate
    _bias(gru, 1, 4.0)  # its update gate: the part of the state that stays
    layers = {"RNN": rnn, "LSTM, forget bias 0": forgetful, "LSTM, forget bias 4": lstm,
              "GRU, update bias 4": gru}  # fmt: skip
    x = init.normal_(fn.zeros(STEPS, 64, 16))
    seen = init.normal_(fn.zeros(64, HIDDEN))
    norms = {name: _norms(layer, x, seen) for name, layer in layers.items()}
    ratio = {name: values[50] / values[0] for name, values in norms.items()}
    sigma = float(singular_values(rnn).values["weight_hh_l0"][0])
    why = "LAY-10; a factor per step, by the gate"
    numbers = [
        at_most("RNN: |g(1)| / (|g(0)| s_max)", norms["RNN"][1] / norms["RNN"][0] / sigma, 1.5,
                "Pascanu 2013: at most s_max per step, and W_ih's spread"),
        at_most("RNN: 50 steps back / none", ratio["RNN"], 1e-6, "X30"),
        at_most("LSTM, bias 0: 50 steps back / none", ratio["LSTM, forget bias 0"], 1e-6,
                "0.5^50 = 9e-16, and what the state feeds back"),
        at_least("LSTM, bias 4: 50 steps back / none", ratio["LSTM, forget bias 4"], 0.05, why),
        at_least("GRU, bias 4: 50 steps back / none", ratio["GRU, update bias 4"], 0.05, why),
    ]  # fmt: skip
    return Result(numbers, lambda f: _draw(f, norms), (6.5, 4))


def _bias(layer: Any, gate: int, value: float) -> None:
    """Set one gate's bias."""
    bias = np.array(layer.bias_ih_l0.detach())
    bias[gate * HIDDEN : (gate + 1) * HIDDEN] = value
    layer.bias_ih_l0.detach().copy_(bias)


def _norms(layer: nn.Module, x: fn.Tensor, seen: fn.Tensor) -> Any:
    """The gradient's norm at the input, 0, 1, ... steps before the last."""
    x = x.clone()
    x.requires_grad = True
    output = layer(x)[0]
    gradient = np.zeros(output.shape, np.float32)
    gradient[-1] = np.asarray(seen)
    output.backward(gradient)
    assert x.grad is not None
    return np.linalg.norm(np.asarray(x.grad, np.float64).reshape(STEPS, -1), axis=1)[::-1]


def _draw(figure: Any, norms: dict[str, Any]) -> None:
    (axes,) = axes_of(figure, 1, ["The gradient of the last output"])
    for color, (name, values) in zip(COLORS, norms.items(), strict=False):
        axes.semilogy(values / values[0], color=color, label=name)
    axes.set_ylim(bottom=1e-24)
    axes.set_xlabel("steps back")
    axes.set_ylabel("norm at the input / at the last")
    axes.legend(frameon=False)
