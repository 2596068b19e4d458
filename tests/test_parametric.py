"""Activations with a trained parameter, maxout and hardtanh: the cases that the lectures name."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import parametric as reference

RNG = np.random.default_rng(0)
X = RNG.standard_normal((37, 6)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1,), (6,)])
@pytest.mark.parametrize("beta", [0.0, 0.7, 3.0])
def test_swish_with_a_trained_beta(shape, beta):
    x = fn.tensor(4 * X, requires_grad=True)
    b = fn.tensor(np.full(shape, beta, np.float32), requires_grad=True)
    y = F.swish(x, b)
    dy = RNG.choice([-1.0, 1.0], X.shape)
    y.backward(fn.tensor(dy.astype(np.float32)))
    inputs = np.array(x.detach(), np.float64), np.array(b.detach(), np.float64)
    dx, db = reference.swish_vjp(dy, *inputs)
    assert_bitwise_equal(np.array(y.detach()), np.array(F.swish(x.detach(), beta)))
    assert_within(np.array(x.grad), dx, 8 * U * np.maximum(1, np.abs(dx)))
    size = np.abs(reference.swish_slope(*inputs))
    # e^-|z| is off by 4 u and the rounding of z, and six operations follow.
    error = (10 + 2 * np.abs(inputs[0] * beta)) * U * size
    assert_within(np.array(b.grad), db, reference.gather(error, inputs[1]))


def test_swish_of_huge_inputs_has_no_gradient_of_beta():
    beta = fn.tensor([1.0], requires_grad=True)
    F.swish(np.float32([1e30, -1e30, np.inf, -np.inf, 200.0]), beta).sum().backward()
    assert beta.grad.item() == 0.0


def test_prelu_above_1_is_no_maximum():
    """max(a x, x) would be the identity here."""
    assert F.prelu([-1.0, 1.0], [2.0]).numpy().tolist() == [-2.0, 1.0]


def test_prelu_is_trained():
    layer = nn.PReLU(6)
    layer(X).sum().backward()
    expected = np.minimum(X, 0).sum(axis=0, dtype=np.float64)
    assert_within(np.array(layer.weight.grad), expected, 2 * U * np.abs(expected))
    assert list(layer.state_dict()) == ["weight"]


def test_maxout_of_a_line_and_0_is_relu():
    layer = nn.Maxout(6, 6)
    eye = np.eye(6, dtype=np.float32)
    state = {"linear.weight": np.concatenate([0 * eye, eye]), "linear.bias": np.zeros(12, "f")}
    layer.load_state_dict(state)
    assert_bitwise_equal(np.array(layer(X).detach()), np.maximum(X, 0))
    state["linear.weight"] = np.concatenate([np.float32(0.01) * eye, eye])
    layer.load_state_dict(state)
    assert_bitwise_equal(np.array(layer(X).detach()), np.array(F.leaky_relu(X)))


def test_the_gradient_of_maxout_goes_to_the_first_largest_piece():
    x = fn.tensor([[1.0, 5.0, 1.0, 2.0]], requires_grad=True)
    F.maxout(x).sum().backward()
    assert x.grad.numpy().tolist() == [[1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", ["ReLU", "ReLU6", "SELU", "SiLU", "Hardsigmoid", "Hardtanh"])
def test_inplace_is_a_wish(name):
    layer = getattr(nn, name)
    assert_bitwise_equal(np.array(layer(inplace=True)(X)), np.array(layer()(X)))


def test_hardtanh_has_no_gradient_at_its_limits_and_relu6_is_one():
    x = fn.tensor([-1.5, -1.0, 0.0, 1.0, 1.5], requires_grad=True)
    fn.F.hardtanh(x).sum().backward()
    assert np.array(x.grad).tolist() == [0, 0, 1, 0, 0]
    values = np.float32([-np.inf, -1, -0.0, 2**-149, 3, 6, 7, np.inf, np.nan])
    results = []
    for f in (lambda v: fn.F.hardtanh(v, 0, 6), fn.F.relu6):
        v = fn.tensor(values, requires_grad=True)
        y = f(v)
        y.sum().backward()
        results.append((np.array(y.detach()), np.array(v.grad)))
    for got, expected in zip(*results, strict=True):
        assert_bitwise_equal(got, expected)
