"""The tape: order, depth, freeing, in-place changes, accumulation, memory."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn import functional as F
from fastnn.tensor import apply
from fastnn.testing.compare import assert_bitwise_equal


def leaf(*values):
    return fn.tensor(list(values), requires_grad=True)


def live_blocks():
    return _core.memory_stats()["live_blocks"]


def test_a_chain_of_50_000_ops():
    x = leaf(1.0, 2.0)
    y = x
    for _ in range(50_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.numpy().tolist() == [1.0, 1.0]
    before = live_blocks()
    del y  # no recursion here either
    assert live_blocks() < before


def test_a_long_chain_that_is_never_used_is_freed():
    x = leaf(1.0)
    before = live_blocks()
    y = x
    for _ in range(50_000):
        y = F.relu(y)
    del y
    assert live_blocks() == before


def test_shared_inputs_add_up():
    x = leaf(3.0)
    y = x * x
    z = y * y + y  # x^4 + x^2
    (z + x * 2.0).sum().backward()
    assert x.grad.item() == 4 * 27 + 2 * 3 + 2


def test_diamonds_do_not_repeat_work():
    """Sixty doublings: 2^60 paths, sixty nodes."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.sum().backward()
    assert x.grad.item() == 2.0**60


def test_second_backward_raises():
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="earlier") as caught:
        y.backward()
    assert str(caught.value) == (
        "backward: the graph of sum was freed by an earlier backward(); run the forward pass again"
    )
    assert x.grad.item() == 2.0


def test_backward_through_a_part_that_was_used_raises():
    x = leaf(1.0)
    y = x * x
    y.sum().backward()
    with pytest.raises(RuntimeError, match="was freed by an earlier backward"):
        (y + 1.0).sum().backward()


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda x: x * x, "binary"),
        (lambda x: F.gelu(x), "activation"),
        (lambda x: x.reshape(1, 2) @ np.ones((2, 1), np.float32), "reshape"),
    ],
)
def test_a_change_in_place_raises(use, name):
    x = leaf(1.0, 2.0)
    y = x * 1.0
    z = use(y)
    y.detach().copy_(np.zeros(2, np.float32))
    if name == "reshape":  # it saves nothing but the shape; matmul needs the values
        name = "matmul"
    with pytest.raises(RuntimeError, match="changed in place") as caught:
        z.sum().backward()
    assert str(caught.value) == (
        f"backward: a Tensor that {name} needs was changed in place after the forward pass; "
        "clone() it before the change"
    )


def test_a_change_of_something_not_needed_is_fine():
    x = leaf(1.0, 2.0)
    y = x + 1.0
    z = y + 1.0
    y.detach().copy_(np.zeros(2, np.float32))
    z.sum().backward()
    assert x.grad.numpy().tolist() == [1.0, 1.0]


def test_an_optimizer_step_between_forward_and_backward_raises():
    w = fn.tensor(np.ones((2, 2)), requires_grad=True)
    y = F.linear(fn.tensor([[1.0, 2.0]], requires_grad=True), w).sum()
    w.grad = fn.ones(2, 2)
    fn.optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="a Tensor that linear needs was changed in place"):
        y.backward()


def test_no_grad_records_nothing_and_nests():
    x = leaf(1.0)
    with fn.no_grad():
        with fn.no_grad():
            assert not (x * 2.0).requires_grad
        assert not fn.is_grad_enabled()
        y = F.relu(x)
    assert fn.is_grad_enabled()
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match="expected a Tensor that requires a gradient"):
        y.sum().backward()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), fn.no_grad():
        raise KeyError
    assert fn.is_grad_enabled()


def test_an_op_that_raises_leaves_recording_on():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="linear: expected"):
        F.linear(x, np.ones((2, 3), np.float32))
    assert fn.is_grad_enabled()
    assert (x * 2.0).requires_grad


def test_no_grad_is_of_its_thread():
    x = leaf(1.0)
    with fn.no_grad(), ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: (x * 2).requires_grad).result()
        assert not (x * 2).requires_grad


@pytest.mark.parametrize("x", [leaf(1.0), fn.ones(1)], ids=["recorded", "not recorded"])
def test_a_rule_that_returns_no_vjp_is_refused(x):
    def same(x):
        return x

    def three(x):
        return x, None, None

    expected = r"to return \(outputs, vjp\), got"
    with pytest.raises(TypeError, match=f"apply: expected same {expected} Tensor"):
        apply(same, x)
    with pytest.raises(TypeError, match=f"apply: expected three {expected} a tuple of 3"):
        apply(three, x)
    with pytest.raises(TypeError, match="apply: expected a rule and its inputs, got nothing"):
        apply()
    assert (leaf(1.0) * 2).requires_grad


def test_gradients_accumulate_over_backwards():
    x = leaf(1.0, 2.0)
    for i in range(1, 4):
        (x * 3.0).sum().backward()
        assert x.grad.numpy().tolist() == [3.0 * i, 3.0 * i]


def test_accumulation_does_not_write_into_an_older_gradient():
    x = leaf(1.0)
    (x * 3.0).sum().backward()
    first = x.grad
    (x * 3.0).sum().backward()
    assert (first.item(), x.grad.item()) == (3.0, 6.0)


def test_gradients_do_not_share_memory():
    """add hands one dy to both inputs, and the seed is the caller's: each .grad is its own."""
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = fn.tensor([5.0, 6.0])
    (x + y).backward(seed)
    pointers = {_core.data_pointer(t) for t in (x.grad, y.grad, seed)}
    assert len(pointers) == 3
    x.grad.copy_(np.zeros(2, np.float32))
    assert y.grad.numpy().tolist() == seed.numpy().tolist() == [5.0, 6.0]


def test_gradient_of_a_leaf_itself():
    x = leaf(1.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_gradient_through_reshape_does_not_alias_another():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x.reshape(2, 1) + y.reshape(2, 1)).backward(np.ones((2, 1), np.float32))
    assert x.grad.shape == y.grad.shape == (2,)
    assert _core.data_pointer(x.grad) != _core.data_pointer(y.grad)


def test_only_what_needs_a_gradient_gets_one():
    x, w = fn.tensor([[1.0, 2.0]]), fn.tensor([[1.0, 1.0]], requires_grad=True)
    F.linear(x, w).sum().backward()
    assert x.grad is None
    assert w.grad.numpy().tolist() == [[1.0, 2.0]]


def test_detach_cuts():
    x = leaf(2.0)
    (x.detach() * x).sum().backward()
    assert x.grad.item() == 2.0


def test_rules_with_several_outputs():
    def split(x):
        def vjp(dys, needs):
            first, second = dys
            total = None if first is None else first * 2.0
            part = None if second is None else second * 3.0
            return (total if part is None else part if total is None else total + part,)

        return (x * 2.0, x * 3.0), vjp

    x = leaf(1.0)
    first, second = apply(split, x)
    (first + second).sum().backward()
    assert x.grad.item() == 5.0
    x = leaf(1.0)
    apply(split, x)[1].sum().backward()
    assert x.grad.item() == 3.0


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: leaf(1.0, 2.0).backward(), ValueError,
     "backward: expected a gradient for a Tensor of shape (2,), got none; only a scalar has a "
     "default"),
    (lambda: leaf(1.0, 2.0).backward(np.ones(3, np.float32)), ValueError,
     "backward: expected a gradient of shape (2,), got (3,)"),
    (lambda: fn.tensor([1.0]).backward(), RuntimeError,
     "backward: expected a Tensor that requires a gradient, got one that does not"),
    (lambda: fn.tensor([1], requires_grad=True), TypeError,
     "tensor: expected a floating-point Tensor to require a gradient, got int64"),
    (lambda: leaf(1.0).numpy(), RuntimeError,
     "numpy: expected a Tensor without gradient, got one that requires it; call detach() first"),
    (lambda: leaf(1.0, 2.0).item(), ValueError,
     "item: expected a Tensor with one element, got shape (2,)"),
])  # fmt: skip
def test_messages(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def train_once(model, optimizer, x, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_memory_returns_without_the_garbage_collector():
    model = fn.nn.Sequential(
        fn.nn.Linear(20, 30), fn.nn.GELU(), fn.nn.LayerNorm(30), fn.nn.Dropout(0.2),
        fn.nn.Linear(30, 5),
    )  # fmt: skip
    optimizer = fn.optim.Adam(model.parameters())
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((64, 20)).astype(np.float32), rng.integers(0, 5, 64)
    for _ in range(3):
        train_once(model, optimizer, x, labels)
    gc.collect()
    gc.disable()
    try:
        before = _core.memory_stats()
        for _ in range(50):
            train_once(model, optimizer, x, labels)
        after = _core.memory_stats()
    finally:
        gc.enable()
    assert after["live_blocks"] == before["live_blocks"]
    assert after["live_bytes"] == before["live_bytes"]
    assert after["system_allocations"] == before["system_allocations"]


def test_a_forward_pass_without_backward_is_freed_without_the_garbage_collector():
    x = fn.tensor(np.ones(100), requires_grad=True)
    gc.disable()
    try:
        before = live_blocks()
        y = F.softmax(F.tanh(x * 2.0) + x)
        del y
        assert live_blocks() == before
    finally:
        gc.enable()


def test_tensors_are_weakly_referable_and_hash_by_identity():
    x, y = leaf(1.0), leaf(1.0)
    assert len({x, y}) == 2
    reference = weakref.ref(x)
    del x
    assert reference() is None


def test_no_block_is_lost_when_backward_raises():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    z = F.gelu(y)
    y.detach().copy_(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError):
        z.sum().backward()
    del y, z
    gc.collect()
    before = live_blocks()
    (x * 2.0).sum().backward()
    assert x.grad.numpy().tolist() == [2.0, 2.0]
    assert live_blocks() == before + 1  # the gradient


def test_grad_is_bitwise_the_same_for_any_order_of_recording():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((5, 100)).astype(np.float32)
    grads = []
    for _ in range(2):
        x = fn.tensor(values[0], requires_grad=True)
        terms = [F.tanh(x * fn.tensor(v)) for v in values[1:]]
        (terms[0] + terms[1] + terms[2] + terms[3]).sum().backward()
        grads.append(np.array(x.grad))
    assert_bitwise_equal(grads[1], grads[0])
