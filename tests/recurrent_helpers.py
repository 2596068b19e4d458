"""What the tests of recurrent layers share: the kinds, results as arrays, comparisons."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal

RNG = np.random.default_rng(0)
KINDS = [
    pytest.param(nn.RNN, {}, id="rnn"),
    pytest.param(nn.RNN, {"nonlinearity": "relu"}, id="rnn-relu"),
    pytest.param(nn.LSTM, {}, id="lstm"),
    pytest.param(nn.LayerNormLSTM, {}, id="layer-norm-lstm"),
    pytest.param(nn.GRU, {}, id="gru"),
    pytest.param(nn.GRU, {"convention": "cho"}, id="gru-cho"),
    pytest.param(nn.GRU, {"convention": "lectures"}, id="gru-lectures"),
]
EACH = pytest.mark.parametrize(("kind", "options"), KINDS)
CELLS = {
    nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell,
    nn.LayerNormLSTM: nn.LayerNormLSTMCell,
}  # fmt: skip


def make(kind, options, *sizes, seed=1, **more):
    fn.manual_seed(seed)
    return kind(*sizes, **options, **more)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def states_of(result):
    """The last states, always as a tuple."""
    return result[1] if isinstance(result[1], tuple) else (result[1],)


def arrays(result):
    return [np.array(t.detach()) for t in (result[0], *states_of(result))]


def copy_weights(source, target, suffix="_l0", target_suffix="_l0"):
    for name in source.names:
        getattr(target, name + target_suffix).copy_(getattr(source, name + suffix).detach())


def with_gradients(model, x, **arguments):
    """Results, then the gradients of the input and of all weights."""
    leaf = fn.tensor(x, requires_grad=True)
    for p in model.parameters():
        p.grad = None
    result = model(leaf, **arguments)
    parts = (result[0], *states_of(result))
    total = sum(((p * fn.tensor(np.cos(np.arange(p.detach().numpy().size, dtype=np.float32)))
                  .reshape(*p.shape)).sum() for p in parts), start=0.0)  # fmt: skip
    total.backward()
    return [*arrays(result), np.array(leaf.grad), *(np.array(p.grad) for p in model.parameters())]


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert_bitwise_equal(a, b)
