"""gradcheck accepts every op of the table and catches gradients that are wrong."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.tensor import apply
from fastnn.testing.ops import OPS

# Without the ops that are not smooth: see the docstring of gradcheck.
SMOOTH = [op for op in OPS if op.short not in ("relu", "leaky_relu") and "max_pool" not in op.short]


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.short)
def test_every_op_passes(op):
    shapes, params = op.cases[0]
    if shapes[0] == () and all(s in ((), None) for s in shapes):  # elementwise: any shape will do
        shapes = tuple(None if s is None else (5, 7) for s in shapes)
    s = op.sample(shapes, params, "float32")
    inputs = [
        fn.tensor(x) if grad is None else fn.tensor(x / 2, requires_grad=True)
        for x, grad in zip(s.inputs, s.grads, strict=True)
        if x is not None
    ]
    if op.short == "truediv":
        inputs[1] = fn.tensor(s.inputs[1], requires_grad=True)

    def f(*arrays):
        fn.manual_seed(0)
        given = iter(arrays)
        return op.call(*(None if x is None else next(given) for x in s.inputs), **params)

    assert fn.gradcheck(f, inputs) is True


def wrong(factor=1.0, element=None):
    """tanh with a gradient that is off: by a factor, or in one element."""

    def rule(x):
        y = F.tanh(x.detach())

        def vjp(dy, needs):
            dx = np.array(dy) * (1 - np.array(y) ** 2) * np.float32(factor)
            if element is not None:
                dx.reshape(-1)[element] *= 2
            return (fn.tensor(dx.astype(np.float32)),)

        return y, vjp

    return lambda x, *others: apply(rule, x)


X = np.linspace(-1, 1, 12).reshape(3, 4)


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.1, -1.0, 2.0])
def test_a_wrong_factor_is_caught(factor):
    with pytest.raises(AssertionError, match=r"^gradcheck: input 0, element \(0, 0\): expected a"):
        fn.gradcheck(wrong(factor), fn.tensor(X, requires_grad=True))


def test_a_wrong_element_is_named():
    with pytest.raises(AssertionError, match=r"^gradcheck: input 0, element \(1, 2\): expected a"):
        fn.gradcheck(wrong(element=6), fn.tensor(X, requires_grad=True))


def test_a_wrong_element_of_many_is_caught_along_a_direction():
    x = np.random.default_rng(0).standard_normal(40)
    with pytest.raises(AssertionError, match="along a random direction"):
        fn.gradcheck(wrong(1.2), fn.tensor(x, requires_grad=True), max_elements=0)


def test_the_input_is_named():
    x, z = (fn.tensor(X, requires_grad=True) for _ in range(2))

    def rule(a, b):
        return a.detach() * b.detach(), lambda dy, needs: (dy * b.detach(), dy * b.detach())

    z.copy_(2 * X.astype(np.float32))
    with pytest.raises(AssertionError, match=r"^gradcheck: input 1, element \(0, 0\)"):
        fn.gradcheck(lambda a, b: apply(rule, a, b), [x, z])


def test_tuples_and_inputs_without_gradient():
    x, c = fn.tensor(X, requires_grad=True), fn.tensor(X)
    assert fn.gradcheck(lambda a, b: (F.tanh(a), a * b), [x, c])


def test_nothing_to_check():
    with pytest.raises(ValueError, match="expected an input that requires a gradient, got none"):
        fn.gradcheck(F.tanh, fn.tensor(X))
