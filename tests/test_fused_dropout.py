"""Dropout fused after a linear layer or a norm, and its activation: the bits of the chain, one op,
one draw. And the residual of a linear layer."""

import re

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.functional import (
    add,
    batch_norm,
    dropout,
    group_norm,
    instance_norm,
    layer_norm,
    linear,
    rms_norm,
)
from fastnn.testing.compare import assert_bitwise_equal

NORMS = {
    "layer_norm": (lambda x, **k: layer_norm(x, x.shape[1:], **k), ((9, 1), (9, 37), (3, 600))),
    "rms_norm": (lambda x, **k: rms_norm(x, x.shape[1:], **k), ((9, 3), (5, 130))),
    "batch_norm": (lambda x, **k: batch_norm(x, training=True, **k), ((9, 300), (3, 4, 33))),
    "group_norm": (lambda x, **k: group_norm(x, 2, **k), ((3, 4, 7), (2, 6))),
    "instance_norm": (lambda x, **k: instance_norm(x, **k), ((3, 4, 600),)),
    # Few rows, packed on their way, across, and panels: all that ends a product.
    "linear": (
        lambda x, weight=None, **k: linear(x, weights(x) if weight is None else weight, **k),
        ((3, 37), (21, 9), (29, 130), (200, 450)),
    ),
}
ALONG_K = {"few outputs": (lambda x, **k: linear(x, weights(x)[:7], **k), ((37, 130), (3, 600)))}
CASES = [(name, shape) for name, (_, shapes) in (NORMS | ALONG_K).items() for shape in shapes]


def numbers(shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def weights(x):
    return np.random.default_rng(1).standard_normal((200, x.shape[-1])).astype(np.float32)


def result(f, shape):
    fn.manual_seed(3)
    x = fn.tensor(numbers(shape), requires_grad=True)
    y = f(x)
    y.backward(numbers(y.shape)[::-1])
    return np.array(y.detach()), np.array(x.grad)


@pytest.mark.parametrize("p", [1e-9, 0.3, 1.0])
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_bits_are_those_of_the_chain(name, shape, activation, p):
    norm = (NORMS | ALONG_K)[name][0]
    fused = result(lambda x: norm(x, activation=activation, dropout_p=p), shape)
    chain = result(lambda x: dropout(norm(x, activation=activation), p), shape)
    for a, b in zip(fused, chain, strict=True):
        assert_bitwise_equal(a, b)


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("outputs", [200, 7])
def test_a_residual_is_what_add_adds(activation, outputs):
    w, b = weights(numbers((29, 130)))[:outputs], numbers(outputs)

    def grads(f):
        x, r = (fn.tensor(numbers(s), requires_grad=True) for s in ((29, 130), (29, outputs)))
        fn.manual_seed(3)
        y = f(x, r)
        y.backward(numbers((29, outputs))[::-1])
        return y, x.grad, r.grad

    fused = grads(lambda x, r: linear(x, w, b, activation=activation, residual=r, dropout_p=0.25))
    chain = grads(lambda x, r: dropout(add(linear(x, w, b), r, activation=activation), 0.25))
    for got, expected in zip(fused, chain, strict=True):
        assert_bitwise_equal(np.array(got.detach()), np.array(expected.detach()))


@pytest.mark.parametrize("name", NORMS)
def test_a_wrong_p_says_so_and_draws_nothing(name):
    norm, shapes = NORMS[name]
    x = numbers(shapes[0])
    before = fn.random.get_state()
    message = f"{name}: expected 0 <= dropout_p <= 1, got 1.5"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        norm(x, dropout_p=1.5)
    with pytest.raises(ValueError, match="expected weight of shape"):
        norm(x, weight=np.ones(77, np.float32), dropout_p=0.5)
    assert fn.random.get_state() == before


# ---- Sequential ----------------------------------------------------------------------------------

LAYERS = {
    "LayerNorm": lambda: nn.LayerNorm(6),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "BatchNorm1d": lambda: nn.BatchNorm1d(6),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "Linear": lambda: nn.Linear(6, 6),
}


def count_nodes(y):
    node, n = y._node, 0
    while node is not None:
        n += 1
        node = next(x._node for x in node[0].inputs if isinstance(x, fn.Tensor))
    return n


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("activation", [None, nn.GELU])
def test_a_sequential_fuses_layer_activation_and_dropout(layer, activation):
    layers = [LAYERS[layer](), *([activation()] if activation else []), nn.Dropout(0.4)]
    model = nn.Sequential(*layers)

    def one_by_one(x):
        for part in layers:
            x = part(x)
        return x

    for a, b in zip(result(model, (5, 6)), result(one_by_one, (5, 6)), strict=True):
        assert_bitwise_equal(a, b)
    assert count_nodes(model(numbers((5, 6)))) == 1
    model.eval()
    state = fn.random.get_state()
    assert_bitwise_equal(
        np.array(model(numbers((5, 6))).detach()), np.array(one_by_one(numbers((5, 6))).detach())
    )
    assert fn.random.get_state() == state


def test_what_is_not_the_same_is_not_fused():
    x = numbers((5, 6))
    hooked = nn.Dropout(0.5)
    seen = []
    hooked.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    assert count_nodes(nn.Sequential(nn.LayerNorm(6), hooked)(x)) == 2
    assert seen == [(5, 6)]
    vanilla = nn.Sequential(nn.LayerNorm(6), nn.Dropout(0.5, mode="vanilla")).eval()
    plain = nn.LayerNorm(6)(x).detach().numpy()
    assert_bitwise_equal(vanilla(x).detach().numpy(), plain * np.float32(0.5))
    # The order matters: dropout before an activation is not the one after it.
    assert count_nodes(nn.Sequential(nn.LayerNorm(6), nn.Dropout(0.5), nn.GELU())(x)) == 2


def test_a_trained_swish_is_not_lost():
    swish = nn.Swish(2.0, trainable=True)
    linear = nn.Linear(3, 3)
    x = numbers((4, 3))
    expected = np.array(swish(linear(x)).detach())
    assert_bitwise_equal(np.array(nn.Sequential(linear, swish)(x).detach()), expected)


@pytest.mark.parametrize("layer", [lambda: nn.LayerNorm(64), lambda: nn.Linear(64, 64)])
def test_a_recorded_step_draws_anew_and_sees_the_mode_of_a_fused_layer(layer):
    drop = nn.Dropout(0.5)
    model = nn.Sequential(layer(), nn.ReLU(), drop)
    step = fn.capture(lambda x: model(x))
    x = fn.tensor(numbers((8, 64)))
    fn.manual_seed(1)
    recorded = [np.array(step(x).detach()) for _ in range(3)]
    fn.manual_seed(1)
    for y in recorded:
        assert_bitwise_equal(y, np.array(model(x).detach()))
    drop.eval()
    assert_bitwise_equal(np.array(step(x).detach()), np.array(model(x).detach()))
