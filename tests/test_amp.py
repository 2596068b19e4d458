"""Mixed precision: autocast against what it should round, loss scaling against its rules.

Kernels: scaler_begin, scaler_update."""

import threading

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn, optim
from fastnn.testing.bounds import with_storage
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within, round_to
from fastnn.testing.reference import amp as reference

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def leaf(x):
    return fn.tensor(x, requires_grad=True)


# ---- autocast -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n", "k"), [(3, 5, 7), (33, 64, 96), (64, 10, 700)])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear_multiplies_rounded_arrays(m, n, k, activation):
    """The oracle rounds the arrays, and its results; all that the bound adds is the sums' error."""
    x, w, b, dy = normal(m, k), normal(n, k), normal(n), normal(m, n)
    tensors = [leaf(v) for v in (x, w, b)]
    with fn.autocast("cpu"):
        y = F.linear(*tensors, activation=activation)
    assert y.dtype == "bfloat16"
    (y.to("float32") * fn.tensor(dy)).sum().backward()
    z, expected, sizes = reference.linear(x, w, b, dy, activation)
    sure = np.abs(z) > 16 * U * sizes[0]  # of the side of the kink
    assert sure.all() or activation is None
    assert_within(np.array(y.detach()), expected[0], with_storage(16 * U * sizes[0], z, "bfloat16"))
    for tensor, gradient, size in zip(tensors, expected[1:], sizes[1:], strict=True):
        assert tensor.grad.dtype == "float32"
        bound = with_storage(16 * U * size, gradient, "bfloat16")
        assert_within(np.array(tensor.grad), gradient, bound)
    unrounded = x.astype(np.float64) @ w.T + b  # the test would see it if nothing were rounded
    assert np.abs(z - unrounded).max() > 100 * U * sizes[0].max()


def test_integers_are_exact():
    x, w = (leaf(RNG.integers(-8, 9, s).astype(np.float32)) for s in ((40, 50), (50, 30)))
    with fn.autocast("cpu"):
        y = x @ w
    y.to("float32").sum().backward()
    assert_bitwise_equal(
        np.array(y.detach()),
        round_to(x.detach().numpy() @ w.detach().numpy(), "bfloat16").astype(np.float32),
    )
    expected = round_to(np.ones((40, 30)) @ w.detach().numpy().T, "bfloat16")
    assert_bitwise_equal(np.array(x.grad), expected.astype(np.float32))


def test_each_op_has_its_dtype():
    half = fn.tensor(normal(4, 6), "bfloat16")
    image = fn.tensor(normal(2, 3, 6, 6), "bfloat16")
    labels = np.array([0, 1, 2, 3])
    with fn.autocast("cpu"):
        kept = {
            "relu": F.relu(half),
            "dropout": F.dropout(half, 0.5),
            "times": half * 2.0,
            "plus": half + half,
            "reshape": half.reshape(6, 4),
            "pool": F.max_pool2d(image, 2),
            "linear": F.linear(half, fn.tensor(normal(5, 6))),
            "product": half @ normal(6, 5),
            "bmm": fn.bmm(normal(2, 3, 4), normal(2, 4, 5)),
        }
        full = {
            "mixed": half + fn.tensor(normal(4, 6)),
            "layer norm": F.layer_norm(half, (6,), fn.ones(6), fn.zeros(6)),
            "batch norm": F.batch_norm(half, None, None, fn.ones(6), fn.zeros(6), training=True),
            "softmax": F.softmax(leaf(normal(4, 6)).to("bfloat16"), -1),
            "loss": F.cross_entropy(half, labels),
            "mean": half.mean(),
            "conv": F.conv2d(image, fn.tensor(normal(4, 3, 3, 3))),
            "lstm": nn.LSTM(6, 5)(half.reshape(4, 1, 6))[0],
        }
    assert {name: y.dtype for name, y in kept.items()} == dict.fromkeys(kept, "bfloat16")
    assert {name: y.dtype for name, y in full.items()} == dict.fromkeys(full, "float32")


def test_a_weight_is_rounded_once_and_anew_when_it_has_to_be():
    x, w = fn.tensor(np.full((4, 6), 3.0)), leaf(normal(6, 6))

    def rounded(y):
        return y._node[0].inputs[1]

    with fn.autocast("cpu"):
        first, second = F.linear(x, w), F.linear(x, w)
        known = rounded(first)
        assert known is rounded(second)
        first.to("float32").sum().backward()
        third = F.linear(x, w)  # the way back of the first copy is gone
        assert rounded(third) is not known
        w.detach().copy_(np.zeros((6, 6), np.float32))
        assert np.array(F.linear(x, w).detach()).max() == 0
        known = rounded(third)
        third.to("float32").sum().backward()
    assert_bitwise_equal(w.grad.numpy(), np.full((6, 6), 24, np.float32))
    with fn.autocast("cpu"):
        assert rounded(F.linear(x, w)) is not known


def test_where_it_holds():
    x, w = fn.ones(2, 3), fn.ones(4, 3)

    @fn.autocast("cpu")
    def decorated():
        return F.linear(x, w).dtype

    seen = []
    assert decorated() == "bfloat16"
    with fn.autocast("cpu"):
        with fn.autocast("cpu", enabled=False):
            assert F.linear(x, w).dtype == "float32"
        assert F.linear(x, w).dtype == "bfloat16"
        with fn.autocast("cuda"):  # of other Tensors than these
            assert F.linear(x, w).dtype == "float32"
        thread = threading.Thread(target=lambda: seen.append(F.linear(x, w).dtype))
        thread.start()
        thread.join()
    assert seen == ["float32"]
    with pytest.raises(ValueError, match="expected input"), fn.autocast("cpu"):
        F.linear(x, fn.ones(4, 2))
    assert F.linear(x, w).dtype == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bfloat16",), "autocast: expected device_type 'cpu' or 'cuda', got 'bfloat16'"),
        (("cpu", "int8"), "autocast: expected dtype 'bfloat16' or 'float16', got 'int8'"),
        (
            ("cpu", "float16"),
            "autocast: expected dtype 'bfloat16' on cpu, got 'float16', which has kernels on cuda "
            "only",
        ),
    ],
)
def test_autocast_errors(arguments, message):
    with pytest.raises(ValueError, match=r".") as error:
        fn.autocast(*arguments)
    assert str(error.value) == message


def test_a_captured_function_knows_its_autocast():
    w = leaf(normal(4, 6))
    product = fn.capture(lambda x: F.linear(x, w))
    x = normal(5, 6)
    plain = product(x).detach().numpy().copy()
    with fn.autocast("cpu"):
        assert product(x).dtype == "bfloat16"
        assert product(x).dtype == "bfloat16"
    assert_bitwise_equal(product(x).detach().numpy(), plain)


# ---- loss scaling -------------------------------------------------------------------------------


def run(scaler, factors, capture=False):
    """Steps of SGD whose gradient is 1, times a factor; weights and scales after each."""
    w = leaf(np.zeros(3, np.float32))
    optimizer = optim.SGD([w], lr=0.25)

    def step(factor):
        optimizer.zero_grad()
        scaler.scale((w * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    step = fn.capture(step) if capture else step
    seen = []
    for factor in factors:
        step(np.array([1, factor, 1], np.float32) if capture else fn.tensor([1.0, factor, 1.0]))
        seen.append((w.detach().numpy().tolist(), scaler.get_scale()))
    return seen


FACTORS = [1, np.inf, 1, 1, 1, np.nan, 1, 1, 2, 1, 3e38, 1]


@pytest.mark.parametrize("capture", [False, True])
def test_the_scale_follows_its_rules(capture):
    options = {"init_scale": 8.0, "growth_factor": 4.0, "backoff_factor": 0.5, "growth_interval": 3}
    got = run(fn.amp.GradScaler("cpu", **options), FACTORS, capture)
    assert got == reference.scaled_sgd(FACTORS, 0.25, **options)


def test_clipping_is_of_gradients_without_the_scale():
    g = normal(100) * 10
    weights = []
    for scale in (1.0, 2.0**16):
        w = leaf(np.zeros(100, np.float32))
        optimizer = optim.Adam([w])
        scaler = fn.amp.GradScaler("cpu", init_scale=scale)
        for _ in range(2):
            optimizer.zero_grad()
            scaler.scale((w * fn.tensor(g)).sum()).backward()
            scaler.step(optimizer, max_grad_norm=1.0)
            scaler.update()
        weights.append(w.detach().numpy())
    plain = leaf(np.zeros(100, np.float32))
    optimizer = optim.Adam([plain])
    for _ in range(2):
        plain.grad = fn.tensor(g)
        optimizer.step(max_grad_norm=1.0)
    for w in weights:
        assert_bitwise_equal(w, plain.detach().numpy())


def test_one_optimizer_skips_its_step_and_the_other_does_not():
    a, b = leaf(np.ones(2, np.float32)), leaf(np.ones(2, np.float32))
    first, second = optim.SGD([a], lr=1.0), optim.SGD([b], lr=1.0)
    scaler = fn.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale((a * np.inf).sum() + b.sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (a.detach().numpy().tolist(), b.detach().numpy().tolist()) == ([1, 1], [0, 0])
    assert (first.step_count, second.step_count, scaler.get_scale()) == (0, 1, 1.0)


def test_bad_data_is_an_error_and_no_reason_for_another_scale():
    layer = nn.Linear(4, 3)
    optimizer = optim.SGD(layer.parameters())
    scaler = fn.amp.GradScaler("cpu")

    def step(x, y):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(layer(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()

    step = fn.capture(step)
    x = normal(5, 4)
    step(x, np.array([0, 1, 2, 0, 1]))
    state, weight = scaler.state_dict(), layer.weight.detach().numpy().copy()
    with pytest.raises(ValueError, match="expected 0 <= target < 3, got 9"):
        step(x, np.array([0, 1, 9, 0, 1]))
    assert scaler.state_dict() == state
    assert_bitwise_equal(layer.weight.detach().numpy(), weight)
    step(x, np.array([0, 1, 2, 0, 1]))
    assert scaler.state_dict()["_growth_tracker"] == 2


def test_state_of_the_scaler_and_one_that_is_off():
    scaler = fn.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
    run(scaler, [1, 1, np.inf, 1])
    state = scaler.state_dict()
    assert state == {
        "scale": 4.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 5,
        "_growth_tracker": 1,
    }
    other = fn.amp.GradScaler("cpu")
    other.load_state_dict(state)
    assert run(other, [1] * 9) == run(scaler, [1] * 9)
    off = fn.amp.GradScaler("cpu", enabled=False)
    assert (off.state_dict(), off.get_scale(), off.is_enabled()) == ({}, 1.0, False)
    assert [w for w, _ in run(off, [1, 2])] == [w for w, _ in run(fn.amp.GradScaler("cpu"), [1, 2])]


BAD_SCALERS = {
    "growth_factor": (1.0, "GradScaler: expected growth_factor > 1, got 1.0"),
    "backoff_factor": (1.5, "GradScaler: expected 0 < backoff_factor < 1, got 1.5"),
    "growth_interval": (0, "GradScaler: expected a whole number growth_interval >= 1, got 0"),
    "init_scale": (np.inf, "GradScaler: expected a scale > 0 within float32, got inf"),
}


@pytest.mark.parametrize("option", BAD_SCALERS)
def test_scaler_errors(option):
    value, message = BAD_SCALERS[option]
    with pytest.raises(ValueError, match=r".") as error:
        fn.amp.GradScaler("cpu", **{option: value})
    assert str(error.value) == message


def test_a_loss_is_one_number():
    with pytest.raises(ValueError, match=r".") as error:
        fn.amp.GradScaler("cpu").scale(fn.ones(2))
    assert str(error.value) == (
        "GradScaler.scale: expected a loss with one element, got shape (2,)"
    )
