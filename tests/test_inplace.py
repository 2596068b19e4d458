"""Activations in place: bits, versions, and what is refused."""

import re

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn
from fastnn.tape import apply
from fastnn.testing.compare import assert_bitwise_equal

OUTPUT = {
    "relu": (F.relu, ()),
    "relu6": (F.relu6, ()),
    "leaky_relu": (F.leaky_relu, (0.2,)),
    "hardtanh": (F.hardtanh, (-1.1, 6.0)),
}
INPUT = {
    "leaky_relu-0": (F.leaky_relu, (0.0,)),  # 0 inf is NaN
    "leaky_relu-negative": (F.leaky_relu, (-0.2,)),
    "elu": (F.elu, (0.5,)),
    "selu": (F.selu, ()),
    "silu": (F.silu, ()),
    "hardsigmoid": (F.hardsigmoid, ()),
    "hardswish": (F.hardswish, ()),
}
ALL = {**OUTPUT, **INPUT}


def numbers(n=1000):
    x = 4 * np.random.default_rng(0).standard_normal(n).astype(np.float32)
    x[:7] = 0.0, -0.0, np.inf, -np.inf, np.nan, 6.0, 1e-40
    return x


def gradient(f, args, inplace, dtype):
    x = fn.tensor(numbers(), dtype, requires_grad=True)
    h = x * 2.0
    y = f(h, *args, inplace=inplace)
    y.backward(fn.tensor(np.cos(np.arange(1000, dtype=np.float32)), dtype))
    return np.array(y.detach()), np.array(x.grad), y is h


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_results_and_gradients_keep_their_bits(name, dtype):
    f, args = ALL[name]
    y, grad, _ = gradient(f, args, False, dtype)
    y_in_place, grad_in_place, same = gradient(f, args, True, dtype)
    # -1.1 is no bfloat16: an output there is not at the limit.
    assert same == (name in OUTPUT and (name, dtype) != ("hardtanh", "bfloat16"))
    assert_bitwise_equal(y_in_place, y)
    assert_bitwise_equal(grad_in_place, grad)


@pytest.mark.parametrize("name", ALL)
def test_without_a_gradient_all_write_in_place(name):
    f, args = ALL[name]
    expected = np.array(f(numbers(), *args))
    x = fn.tensor(numbers())
    memory = x.numpy()
    assert f(x, *args, inplace=True) is x
    assert_bitwise_equal(memory, expected)
    leaf = fn.tensor(numbers(), requires_grad=True)
    with fn.no_grad():
        assert f(leaf, *args, inplace=True) is leaf
    assert_bitwise_equal(np.array(leaf.detach()), expected)


def test_arrays_of_the_caller_are_not_written():
    x = numbers()
    before = x.copy()
    y = F.relu(x, inplace=True)
    assert_bitwise_equal(x, before)
    assert_bitwise_equal(np.array(y), np.array(F.relu(x)))
    x.flags.writeable = False
    message = "relu: expected input in memory that may be written, got a read-only array"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        F.relu(fn.from_numpy(x), inplace=True)


def test_a_leaf_is_refused_and_left_alone():
    x = fn.tensor(numbers(), requires_grad=True)
    message = (
        "leaky_relu: expected the result of an op to write in place, got a leaf that requires a "
        "gradient; call it without inplace"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        F.leaky_relu(x, 0.5, inplace=True)
    assert_bitwise_equal(np.array(x.detach()), numbers())


CHANGED = {
    # What backward needs, and the op that needs it.
    "an input": ("gelu", lambda x: (h := x * 2.0, F.gelu(h))),
    "an output": ("activation", lambda x: (h := F.relu(x * 2.0), h * 3.0)),
    "a factor": ("binary", lambda x: (h := x * 2.0, h * h)),
    "a reshape before": ("reshape", lambda x: (h := x * 2.0, h.reshape(-1))),
    "a reshape after": ("reshape", lambda x: (h := (x * 2.0).reshape(-1), h)),
}


@pytest.mark.parametrize("what", ["an input", "a factor", "a reshape before", "a reshape after"])
def test_a_tensor_that_backward_needs_may_not_change(what):
    name, make = CHANGED[what]
    x = fn.tensor(numbers(), requires_grad=True)
    h, y = make(x)
    changed = F.relu(h, inplace=True)
    name = "activation" if name == "gelu" else name
    message = (
        f"backward: a Tensor that {name} needs was changed in place after the forward pass; "
        "clone() it before the change"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        (y + changed).sum().backward()


def test_an_output_that_was_saved_may_not_change_either():
    x = fn.tensor(numbers(), requires_grad=True)
    h = F.relu(x)
    F.leaky_relu(h, 0.5, inplace=True)
    with pytest.raises(RuntimeError, match="a Tensor that activation needs was changed in place"):
        h.sum().backward()


# Uses of h = 2 x before it is changed whose backward needs none of its values, and d(use)/dx.
EARLIER = {
    "a sum": (lambda h, x: h + 1.0, 2.0),
    "a sum of two": (lambda h, x: h + x, 3.0),
    "a difference": (lambda h, x: x - h, -1.0),
    "a multiple": (lambda h, x: h * 3.0, 6.0),
    "all elements": (lambda h, x: h.sum(), 2.0),
}


@pytest.mark.parametrize("use", EARLIER)
@pytest.mark.parametrize("both", [False, True])
def test_an_earlier_use_keeps_its_gradient(use, both):
    f, slope = EARLIER[use]
    x = fn.tensor([-1.0, 2.0], requires_grad=True)
    h = x * 2.0
    z = f(h, x).sum()
    changed = F.relu(h, inplace=True)
    (z + changed.sum() if both else z).backward()
    assert x.grad.numpy().tolist() == [slope, slope + 2.0 * both]


def test_parameters_of_a_penalty_may_not_change():
    parameters = [fn.tensor([1.0, 2.0], requires_grad=True) for _ in range(70)]
    loss = F.l2_penalty(parameters, 0.1)
    parameters[-1].detach().copy_(np.zeros(2, np.float32))
    message = (
        "backward: a Tensor that penalty needs was changed in place after the forward pass; "
        "clone() it before the change"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        loss.backward()


def test_a_vjp_may_close_over_itself():
    def rule(x):
        def vjp(dy, needs):
            assert callable(vjp)
            return (dy * 3.0,)

        return x * 3.0, vjp

    x = fn.tensor([1.0], requires_grad=True)
    apply(rule, x).backward()
    assert x.grad.item() == 3.0


def test_no_cycle_keeps_memory():
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        x = fn.tensor(numbers(), requires_grad=True)
        y = F.relu(x * 2.0, inplace=True)
        node = weakref.ref(y)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_modules_write_in_place_where_they_may():
    layer = nn.Linear(4, 4)
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    for module in (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU):
        expected = module()(layer(x))
        h = layer(x)
        y = module(inplace=True)(h)
        assert (y is h) == (module in (nn.ReLU, nn.ReLU6, nn.LeakyReLU))
        assert_bitwise_equal(np.array(y.detach()), np.array(expected.detach()))
    model = nn.Sequential(layer, nn.LayerNorm(4), nn.ReLU(inplace=True))
    model(x).sum().backward()


def test_a_recorded_step_writes_in_place_again():
    step = fn.capture(lambda x: F.relu(x * 2.0, inplace=True) + 1.0)
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(50).astype(np.float32)
        assert_bitwise_equal(np.array(step(x)), np.maximum(x * 2, 0) + np.float32(1))
