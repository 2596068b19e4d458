"""Initialisers: distributions, fans, gains, and what becomes of signals in deep networks."""

import math

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.nn import init
from fastnn.testing.compare import assert_bitwise_equal

CONV, GROUPED, LSTM = (16, 3, 5, 5), (16, 1, 5, 5), (4 * 32, 20)


def test_constants():
    x = fn.zeros(2, 3)
    assert init.ones_(x) is x
    assert (x.numpy() == 1).all()
    assert (init.zeros_(x).numpy() == 0).all()
    assert (init.constant_(x, 0.25).numpy() == 0.25).all()


@pytest.mark.parametrize(("shape", "gates", "fans"), [
    ((7, 5), 1, (5, 7)),
    (CONV, 1, (75, 400)),
    (GROUPED, 1, (25, 400)),
    (LSTM, 4, (20, 32)),
    ((8, 4, 3), 1, (12, 24)),
])  # fmt: skip
def test_fans(shape, gates, fans):
    assert init.calculate_fan_in_and_fan_out(fn.zeros(*shape), gates) == fans


def test_gains():
    """torch's table."""
    gains = {name: init.calculate_gain(name) for name in ("linear", "conv2d", "sigmoid")}
    assert gains == {"linear": 1, "conv2d": 1, "sigmoid": 1}
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("selu") == 3 / 4
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / (1 + 0.2**2))


# What is drawn, the shape, the standard deviation.
DRAWS = {
    "xavier": (init.xavier_normal_, CONV, math.sqrt(2 / 475)),
    "xavier, gain": (lambda t: init.xavier_normal_(t, 5 / 3), CONV, 5 / 3 * math.sqrt(2 / 475)),
    "xavier, in": (lambda t: init.xavier_normal_(t, mode="fan_in"), CONV, 75**-0.5),
    "xavier, out": (lambda t: init.xavier_uniform_(t, mode="fan_out"), CONV, 400**-0.5),
    "xavier, gates": (lambda t: init.xavier_uniform_(t, gates=4), LSTM, math.sqrt(2 / 52)),
    "He": (init.kaiming_normal_, CONV, math.sqrt(2 / 75)),
    "He, out": (lambda t: init.kaiming_normal_(t, mode="fan_out"), CONV, math.sqrt(2 / 400)),
    "He, PReLU": (lambda t: init.kaiming_normal_(t, 0.25), CONV, math.sqrt(2 / 1.0625 / 75)),
    "He, tanh": (lambda t: init.kaiming_uniform_(t, 9, nonlinearity="tanh"), CONV, 5 / 3 / 75**0.5),
    "He, uniform": (init.kaiming_uniform_, CONV, math.sqrt(2 / 75)),
    "LeCun": (init.lecun_normal_, CONV, 75**-0.5),
    "LeCun, uniform": (init.lecun_uniform_, CONV, 75**-0.5),
    "small": (lambda t: init.normal_(t, std=0.01), CONV, 0.01),
    "bfloat16": (lambda t: init.kaiming_normal_(t.to("bfloat16")), CONV, math.sqrt(2 / 75)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_standard_deviations(name):
    """Mean and variance within 6 standard deviations, those of a Gaussian or less."""
    draw, shape, std = DRAWS[name]
    x = draw(fn.zeros(*shape)).numpy()
    assert abs(x.mean()) < 6 * std / math.sqrt(x.size)
    assert abs(x.var() / std**2 - 1) < 6 * math.sqrt(2 / x.size)
    if "uniform" in name:
        assert np.abs(x).max() <= np.float32(std * math.sqrt(3))


@pytest.mark.parametrize("draw", [init.xavier_normal_, init.orthogonal_, init.kaiming_uniform_])
def test_a_seed_fixes_what_is_drawn_and_memory_stays(draw):
    results = []
    for seed in (3, 3, 4):
        fn.manual_seed(seed)
        w = nn.parameter(np.zeros((6, 5)))
        address = fn._core.data_pointer(w)
        assert draw(w) is w
        assert w.requires_grad
        assert fn._core.data_pointer(w) == address
        results.append(np.array(w.detach()))
    assert_bitwise_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


@pytest.mark.parametrize("draw", [init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_])
def test_nothing_to_draw(draw):
    assert draw(fn.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize(("shape", "gates"), [
    ((8, 8), 1), ((5, 9), 1), ((9, 5), 1), ((6, 2, 2, 2), 1), ((4 * 8, 8), 4), ((4 * 3, 8), 4),
])  # fmt: skip
def test_orthogonal(shape, gates):
    w = init.orthogonal_(fn.zeros(*shape), 2.0, gates=gates).numpy().reshape(gates, -1)
    for block in w.reshape(gates, shape[0] // gates, -1):
        rows, columns = block.shape
        gram = block @ block.T if rows <= columns else block.T @ block
        np.testing.assert_allclose(gram, 4 * np.eye(min(rows, columns)), atol=1e-5)


def test_orthogonal_matrices_are_uniform():
    """Without the signs of R the first entry would be negative always."""
    first = [init.orthogonal_(fn.zeros(2, 2)).numpy()[0, 0] for _ in range(60)]
    assert 10 < sum(v > 0 for v in first) < 50


# ---- models --------------------


def test_auto_follows_the_activations():
    fn.manual_seed(1)
    wide = 400
    model = nn.Sequential(
        nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.ReLU(), nn.Dropout(),
        nn.Sequential(nn.Linear(wide, wide), nn.Tanh()), nn.LayerNorm((20, 20)),
        nn.Linear(wide, wide), nn.PReLU(init=0.5), nn.Linear(wide, 2 * wide, bias=False), nn.SELU(),
        nn.Embedding(9, 9), nn.Linear(2 * wide, wide),
    )  # fmt: skip
    embedding, norm = (np.array(model[i].weight.detach()) for i in (10, 5))
    assert init.auto_(model, 0.01) is model
    layers = [model[0], model[4][0], model[6], model[8], model[11]]
    variances = [float(np.array(m.weight.detach()).var()) for m in layers]
    expected = [2 / wide, 1 / wide, 2 / 1.25 / wide, 1 / wide, 2 / (3 * wide)]
    np.testing.assert_allclose(variances, expected, rtol=6 * math.sqrt(2) / wide)
    assert (np.array(model[0].bias.detach()) == np.float32(0.01)).all()
    assert_bitwise_equal(np.array(model[10].weight.detach()), embedding)
    assert_bitwise_equal(np.array(model[5].weight.detach()), norm)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU])
@pytest.mark.parametrize("orthogonal", [True, False])
def test_lsuv_gives_each_layer_variance_one(activation, orthogonal):
    layers = [m for _ in range(8) for m in (nn.Linear(40, 40), nn.Dropout(), activation())]
    model = nn.Sequential(nn.Linear(12, 40), activation(), *layers)
    x = 30 * np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    before = fn.random.get_state()["dropout"]
    init.lsuv_(model, x, orthogonal=orthogonal)
    variances = []
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda m, args, y: variances.append(y.numpy().var()))
    model.predict(x)
    np.testing.assert_allclose(variances, 1, atol=0.1)
    assert len(variances) == 9
    assert all(not layer._forward_hooks[1:] for layer in model)
    assert model.training
    assert fn.random.get_state()["dropout"] == before


def test_lsuv_follows_the_calls_not_the_attributes():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first, self.unused = (nn.Linear(20, 20) for _ in range(3))

        def forward(self, x):
            return self.last(fn.F.relu(self.first(x)))

    x = 5 * np.random.default_rng(0).normal(size=(200, 20)).astype(np.float32)
    assert abs(init.lsuv_(Reversed(), x).predict(x).var() - 1) < 0.1


# ---- errors --------------------


@pytest.mark.parametrize(("call", "message"), [
    (lambda: init.uniform_(fn.zeros(2), 1.0, 0.0), "uniform_: expected a <= b, got a=1.0, b=0.0"),
    (lambda: init.normal_(fn.zeros(2), std=-1.0), "normal_: expected std >= 0, got -1.0"),
    (lambda: init.calculate_gain("swish"),
     "calculate_gain: expected one of 'linear', 'conv1d', 'conv2d', 'conv3d', 'conv_transpose1d', "
     "'conv_transpose2d', 'conv_transpose3d', 'sigmoid', 'tanh', 'relu', 'leaky_relu', 'selu', got "
     "'swish'"),
    (lambda: init.xavier_normal_(fn.zeros(2, 2), mode="in"),
     "xavier_normal_: expected mode to be one of 'average', 'fan_in', 'fan_out', got 'in'"),
    (lambda: init.kaiming_uniform_(fn.zeros(2, 2), mode="average"),
     "kaiming_uniform_: expected mode to be one of 'fan_in', 'fan_out', got 'average'"),
    (lambda: init.orthogonal_(fn.zeros(2)),
     "init: expected a tensor with at least 2 axes, got shape (2,)"),
    (lambda: init.orthogonal_(fn.zeros(7, 2), gates=4),
     "init: expected gates that divide the first axis, got 4 for shape (7, 2)"),
    (lambda: init.lsuv_(nn.Linear(2, 2), np.ones((3, 2)), tol=0.0),
     "lsuv_: expected tol > 0, got 0.0"),
    (lambda: init.lsuv_(nn.Linear(2, 2), np.ones((3, 2)), max_iterations=0),
     "lsuv_: expected max_iterations >= 1, got 0"),
    (lambda: init.lsuv_(nn.Sequential(nn.Linear(2, 2)), np.zeros((3, 2))),
     "lsuv_: expected outputs that vary and are finite, got variance 0 in layer '0'"),
])  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message
