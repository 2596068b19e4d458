"""set_float32_matmul_precision: products of rounded factors where that is faster, else as ever.

Kernels: gemm_medium_pack, gemm_medium."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn, optim
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within, round_to

# Where the processor multiplies pairs of bfloat16.
PAIRS = fn.system.info()["cpu"] in ("v4amx", "v4bf16")
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def medium(call, *arguments):
    """The call with products of bfloat16."""
    fn.set_float32_matmul_precision("medium")
    try:
        return call(*arguments)
    finally:
        fn.set_float32_matmul_precision("highest")


def linear(x, w, b, dy, activation=None):
    tensors = [fn.tensor(v, requires_grad=True) for v in (x, w, b)]
    y = F.linear(*tensors, activation=activation)
    y.backward(dy)
    return [np.array(y.detach()), *(np.array(t.grad) for t in tensors)]


def rounded(x):
    """What the products take on this processor."""
    return (round_to(x, "bfloat16") if PAIRS else x).astype(np.float64)


def check_integers(count):
    """Of integers every sum is a float32, and they are bfloat16 as well: nothing is rounded."""
    rng = np.random.default_rng(14)
    for m, n, k in np.exp(rng.uniform(np.log(64), np.log(500), (count, 3))).astype(int):
        x, w, b, dy = (
            rng.integers(-8, 9, s).astype(np.float32) for s in ((m, k), (n, k), (n,), (m, n))
        )
        exact = x @ w.T + b, dy @ w, dy.T @ x, dy.sum(axis=0)
        for got, expected in zip(medium(linear, x, w, b, dy), exact, strict=True):
            assert_bitwise_equal(got + np.float32(0), expected + np.float32(0), f"{m} {n} {k}")


def test_integers_are_exact():
    check_integers(30)


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 256), (67, 130, 385), (200, 97, 1001)])
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_products_are_those_of_rounded_factors(m, n, k, activation):
    x, w, b, dy = normal(m, k), normal(n, k) / 32, normal(n), normal(m, n)
    y, dx, dw, db = medium(linear, x, w, b, dy, activation)
    x2, w2 = rounded(x), rounded(w)
    size = np.abs(x2) @ np.abs(w2).T + np.abs(b)
    z = x2 @ w2.T + b
    act = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}[activation]
    assert_within(y, act(z), 16 * U * size + 8 * U)
    if activation == "tanh":
        return  # its derivative is float32, whose rounding to bfloat16 is not the oracle's
    d = dy if activation is None else dy * (y > 0)
    d2 = rounded(d)
    assert_within(dx, d2 @ w2, 16 * U * np.abs(d2) @ np.abs(w2))
    assert_within(dw, d2.T @ x2, 16 * U * np.abs(d2).T @ np.abs(x2))
    assert_within(db, d.sum(0), 16 * U * np.abs(d).sum(0))
    difference = np.abs(z - (x.astype(np.float64) @ w.T + b)).max()
    assert (difference > 100 * U * size.max()) == PAIRS  # the test would see it


def test_others_keep_their_bits():
    """Small products, other dtypes and other ops; and "high", which the CPU has nothing for."""
    half = fn.tensor(normal(128, 128), "bfloat16")
    calls = {
        "few rows": lambda: F.linear(normal(8, 512), weights),
        "few columns": lambda: fn.matmul(large, normal(128, 10)),
        "bfloat16": lambda: half @ half,
        "conv": lambda: F.conv2d(images, kernels),
    }
    weights, large = normal(512, 512), normal(128, 128)
    images, kernels = normal(4, 16, 12, 12), normal(32, 16, 3, 3)
    for name, call in calls.items():
        state = RNG.bit_generator.state
        expected = np.array(call())
        RNG.bit_generator.state = state
        assert_bitwise_equal(np.array(medium(call)), expected, name)
    expected = np.array(fn.matmul(large, large))
    fn.set_float32_matmul_precision("high")
    assert_bitwise_equal(np.array(fn.matmul(large, large)), expected)


def test_a_batch_has_the_bits_of_its_products():
    x, z = normal(3, 1, 128, 128), normal(2, 128, 96)
    dy = normal(3, 2, 128, 96)
    a, b = fn.tensor(x, requires_grad=True), fn.tensor(z, requires_grad=True)

    def run():
        y = a @ b
        y.backward(dy)
        return np.array(y.detach())

    y = medium(run)
    for i in range(3):
        for j in range(2):
            alone = np.array(medium(fn.matmul, x[i, 0], z[j]))
            assert_bitwise_equal(y[i, j], alone)
    d2, x2 = rounded(dy), rounded(x)
    expected = np.einsum("ijmn,iomk->jkn", d2, x2)
    size = np.einsum("ijmn,iomk->jkn", np.abs(d2), np.abs(x2))
    assert_within(np.array(b.grad), expected, 16 * U * size)
    expected = np.einsum("ijmn,jkn->imk", d2, rounded(z))[:, None]
    size = np.einsum("ijmn,jkn->imk", np.abs(d2), np.abs(rounded(z)))[:, None]
    assert_within(np.array(a.grad), expected, 16 * U * size)


def test_threads_change_nothing():
    x, w, b, dy = normal(300, 400), normal(250, 400), normal(250), normal(300, 250)
    results = []
    for threads in (1, 2, 3, 7):
        fn.set_num_threads(threads)
        results.append(medium(linear, x, w, b, dy, "gelu"))
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert_bitwise_equal(got, expected)


def test_recordings_follow_the_setting():
    x = normal(128, 128)
    product = fn.capture(lambda x: x @ x)
    highest = np.array(product(x))
    other = np.array(medium(product, x))
    assert (other != highest).any() == PAIRS
    assert_bitwise_equal(other, np.array(medium(product, x)))
    assert_bitwise_equal(np.array(product(x)), highest)

    def fit(captured, precisions):
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 2))
        trainer = fn.Trainer(
            model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), capture=captured
        )
        for i, precision in enumerate(precisions):
            fn.set_float32_matmul_precision(precision)
            options = {"initial_epoch": None} if i else {}
            trainer.fit(x, np.arange(128) % 2, 64, epochs=i + 1, seed=0, verbose=0, **options)
        return model[0].weight.detach().numpy()

    mixed = ["highest", "medium", "highest"]
    assert_bitwise_equal(fit(True, mixed), fit(False, mixed))
    assert (fit(True, mixed) != fit(True, ["highest"] * 3)).any() == PAIRS


def test_names():
    assert fn.get_float32_matmul_precision() == "highest"
    for name in ("high", "medium", "highest"):
        fn.set_float32_matmul_precision(name)
        assert fn.get_float32_matmul_precision() == name
    with pytest.raises(ValueError, match=r".") as error:
        fn.set_float32_matmul_precision("low")
    assert str(error.value) == (
        "set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got 'low'"
    )
    assert fn.get_float32_matmul_precision() == "highest"
