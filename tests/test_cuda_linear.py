"""A linear layer on CUDA with all that follows its sums: one op, the CPU's noise, and a backward
that passes a gradient through the layer before in the product that makes it. By every path that
makes products."""

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import emulated, info
from fastnn import F, nn
from fastnn.testing.compare import assert_bitwise_equal
from test_cuda_blas import FAKE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not fn.cuda.is_available(), reason="no CUDA"),
]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leaf(x, device, dtype="float32"):
    moved = fn.tensor(x, dtype=dtype).to(device)
    moved.requires_grad = True
    return moved


def host(x):
    return np.array(x.detach().to("float32").to("cpu"))


def count_nodes(y):
    node, n = y._node, 0
    while node is not None:
        n += 1
        node = next((x._node for x in node[0].inputs if isinstance(x, fn.Tensor)), None)
    return n


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "gelu"])
def test_it_is_one_op_and_draws_as_the_cpu(activation, dtype):
    results = []
    for device in ("cpu", "cuda"):
        fn.manual_seed(3)
        arrays = (numbers(29, 37), numbers(21, 37, seed=1), numbers(21), numbers(29, 21))
        x, w, b, r = (leaf(v, device, dtype) for v in arrays)
        y = F.linear(x, w, b, activation=activation, residual=r, dropout_p=0.3)
        assert count_nodes(y) == 1
        y.backward(fn.tensor(numbers(29, 21, seed=2), dtype=dtype).to(device))
        results.append([host(v) for v in (y, x.grad, w.grad, b.grad, r.grad)])
        assert fn.random.get_state()["dropout"][1] == 1
    unit = 1e-5 if dtype == "float32" else 2**-6
    for cpu, cuda in zip(*results, strict=True):
        np.testing.assert_allclose(cuda, cpu, rtol=unit, atol=20 * unit)
    for which in (0, 4):
        np.testing.assert_array_equal(results[1][which] == 0, results[0][which] == 0)


def test_errors_are_those_of_the_cpu_and_draw_nothing():
    x, w = fn.ones(2, 3).to("cuda"), fn.ones(4, 3).to("cuda")
    before = fn.random.get_state()
    with pytest.raises(ValueError, match=r"^linear: expected 0 <= dropout_p <= 1, got 1.5$"):
        F.linear(x, w, dropout_p=1.5)
    message = r"^linear: expected residual of shape \(2, 4\), got \(4,\)$"
    with pytest.raises(ValueError, match=message):
        F.linear(x, w, residual=fn.ones(4).to("cuda"), dropout_p=0.5)
    assert fn.random.get_state() == before


# ---- gradients on their way ----------------------------------------------------------------------


def three_layers(x, parts, between, dtype):
    """Grads of three layers with noise; ``between`` is what is done to what they put out."""
    fn.manual_seed(3)
    x, *parts = (leaf(v, "cuda", dtype) for v in (x, *parts))
    h = F.linear(x, *parts[:2], activation="gelu", dropout_p=0.25)
    h = F.linear(between(h), *parts[2:4], activation="relu", dropout_p=0.5, residual=x)
    y = F.linear(between(h), *parts[4:])
    y.backward(fn.tensor(numbers(*y.shape, seed=9), dtype=dtype).to("cuda"))
    return [host(p.grad) for p in (x, *parts)]


@pytest.fixture
def chained(calls_of):
    """The products that passed a gradient on."""
    return calls_of("linear_chain_bwd")


LAYERS = [numbers(n, k, seed=n) if k else numbers(n) for n, k in
          ((40, 24), (40, 0), (24, 40), (24, 0), (9, 24), (9, 0))]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradients_are_those_of_one_step_after_the_other(chained, dtype):
    x = numbers(3, 11, 24)
    passed = three_layers(x, LAYERS, lambda h: h, dtype)
    assert len(chained) == 2
    alone = three_layers(x, LAYERS, lambda h: h * 1.0, dtype)
    assert len(chained) == 2
    for got, want in zip(passed, alone, strict=True):
        if dtype == "float32":
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        else:  # each step of the other rounds
            np.testing.assert_allclose(got, want, rtol=2**-5, atol=2**-5 * np.abs(want).max())


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_the_same_bits_as_the_kernels_one_by_one(chained, activation):
    """Of float32, where nothing is rounded in between."""

    def grads(between):
        fn.manual_seed(3)
        x, *parts = (leaf(v, "cuda") for v in (numbers(33, 24), *LAYERS[:4]))
        h = F.linear(x, *parts[:2], activation=activation)
        F.linear(between(h), *parts[2:]).backward(fn.tensor(numbers(33, 24)).to("cuda"))
        return [host(p.grad) for p in (x, *parts)]

    for got, want in zip(grads(lambda h: h), grads(lambda h: h * 1.0), strict=True):
        assert_bitwise_equal(got, want)
    assert len(chained) == 1


def test_what_others_ask_for_is_not_passed_on(chained):
    x, w1, b1, w2, b2 = (leaf(v, "cuda") for v in (numbers(5, 24), *LAYERS[:4]))
    h = F.linear(x, w1, b1, activation="relu")
    (F.linear(h, w2, b2).sum() + h.sum()).backward()
    h = F.linear(x, w1, b1, activation="relu")
    F.linear(h, w2, b2, residual=F.linear(h, w2)).sum().backward()  # two of the same
    h = F.linear(x, w1, b1, activation="relu")
    (F.linear(h, leaf(numbers(40, 40), "cuda")) + h).sum().backward()  # one that is done with first
    with fn.no_grad():
        h = F.linear(x, w1, b1, activation="relu")
    F.linear(h, w2, b2).sum().backward()  # from nobody
    assert chained == []


def test_a_layer_without_a_bias_or_with_one_that_is_frozen(chained):
    x, w1, b1, w2 = (leaf(v, "cuda") for v in (numbers(5, 24), *LAYERS[:3]))
    b1.requires_grad = False
    for bias in (None, b1):
        F.linear(F.linear(x, w1, bias, activation="relu"), w2).sum().backward()
    assert [args[-1][-1] for args in chained] == [False, False]
    b1.requires_grad = True
    h = F.linear(x, w1, b1, activation="relu")
    b1.requires_grad = False  # after the forward pass
    F.linear(h, w2).sum().backward()
    assert b1.grad is None
    h = F.linear(x, w1, b1, activation="relu")
    b1.requires_grad = True
    F.linear(h, w2).sum().backward()
    want = (host(x) @ host(w1).T + host(b1) > 0) * host(w2).sum(0)
    np.testing.assert_allclose(host(b1.grad), want.sum(0), rtol=1e-5, atol=1e-5)


def test_what_was_changed_in_place_is_refused_as_ever():
    x, w1, b1, w2 = (leaf(v, "cuda") for v in (numbers(5, 24), *LAYERS[:3]))
    h = F.linear(x, w1, b1, activation="relu")
    y = F.linear(h, w2)
    h.detach().copy_(fn.ones(5, 40).to("cuda"))
    with pytest.raises(RuntimeError, match="that linear needs was changed in place"):
        y.sum().backward()


def test_empty_batches_pass_nothing_on(chained):
    x, w1, b1, w2 = (leaf(v, "cuda") for v in (numbers(0, 24), *LAYERS[:3]))
    F.linear(F.linear(x, w1, b1, activation="relu"), w2).sum().backward()
    assert chained == []
    np.testing.assert_array_equal(host(b1.grad), np.zeros(40))


def test_a_recorded_step_draws_anew_and_passes_on_what_it_drew(chained):
    """Recorded on a device, where launches are all that is left."""
    model = nn.Sequential(
        nn.Linear(24, 40), nn.GELU(), nn.Dropout(0.5), nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 3)
    ).to("cuda")

    def step(x):
        for p in model.parameters():
            p.grad = None
        loss = model(x).sum()
        loss.backward()
        return loss

    def run(f):
        fn.manual_seed(1)
        found = []
        for i in range(3):
            f(fn.tensor(numbers(16, 24, seed=i)).to("cuda"))
            found += [host(p.grad) for p in model.parameters()]
        return found

    eager = run(step)
    assert len(chained) == 6
    for got, want in zip(run(fn.capture(step)), eager, strict=True):
        assert_bitwise_equal(got, want)


# ---- by each path --------------------------------------------------------------------------------

# Integers and dropout of one half, so that every product is exact, whoever makes it and ends it.
WORK = """
import json, sys
import numpy as np
import fastnn as fn
from fastnn import F

rng = np.random.default_rng(0)
def integers(*shape):
    return np.sign(rng.integers(-4, 5, shape) // 3).astype(np.float32)
arrays = [integers(*s) for s in ((40, 24), (40, 24), (40,), (40, 40), (24, 40), (24,), (40, 24))]

def run(dtype, activation):
    fn.manual_seed(2)
    x, w1, b1, r, w2, b2, dy = (fn.tensor(v).to("cuda").to(dtype) for v in arrays)
    for p in (w1, b1, r, w2, b2):
        p.requires_grad = True
    h = F.linear(x, w1, b1, activation=activation, residual=r, dropout_p=0.5)
    y = F.linear(h, w2, b2, dropout_p=0.5)
    y.backward(dy)
    return [np.array(v.detach().to("float32").to("cpu")) for v in
            (y, w1.grad, b1.grad, r.grad, w2.grad, b2.grad)]

fn.cuda.set_product_path("tiles")
cases = [(d, a) for d in ("float32", "bfloat16", "float16") for a in (None, "relu", "gelu")]
expected = [run(*case) for case in cases]
before = fn.cuda.info()["products_by_own_tiles"]
fn.cuda.set_product_path(sys.argv[1])
for case, want in zip(cases, expected):
    for i, (a, b) in enumerate(zip(run(*case), want)):
        if case[1] == "gelu":
            np.testing.assert_allclose(a, b, rtol=2**-6, atol=2**-4, err_msg=str((case, i)))
        else:
            np.testing.assert_array_equal(a, b, err_msg=str((case, i)))
found = fn.cuda.info()
found["products_by_own_tiles"] -= before
print(json.dumps(found))
"""


@emulated
@pytest.mark.parametrize("path", ["wgmma", "3xtf32"])
def test_wgmma_kernels_end_them_all(path):
    found = info(WORK, path)
    assert found["refused"] == []
    # Two forward, three backward, of each case; the classes' checks are own tiles', uncounted.
    assert found["products_by_wgmma"] == (30 if path == "wgmma" else 45)
    assert found["products_by_own_tiles"] == (15 if path == "wgmma" else 0)


@emulated
def test_those_that_are_wrong_are_refused_by_what_follows():
    found = info(WORK, "wgmma", FASTNN_EMULATOR_WGMMA="wrong")
    assert found["products_by_wgmma"] == 0
    lines = [
        "bfloat16 NT + bias + residual + z, relu, dropout",
        "float16 NN, derivative of relu, dropout, sums",
        "bfloat16 NN, dropout, sums",
        "bfloat16 NN, derivative of activation 9, dropout, sums",
    ]
    for line in lines:
        assert f"wgmma: {line}: a wrong result in its check" in found["refused"], found["refused"]


@emulated
@pytest.mark.skipif(not FAKE.exists(), reason="needs the tests' libcublasLt")
def test_a_kernel_ends_the_products_of_cublaslt():
    found = info(WORK, "cublaslt", FASTNN_CUBLASLT=str(FAKE))
    assert found["refused"] == []
    assert (found["products_by_cublaslt"], found["products_by_own_tiles"]) == (45, 0)
    wrong = info(WORK, "cublaslt", FASTNN_CUBLASLT=str(FAKE), FASTNN_FAKE_CUBLASLT="wrong")
    assert wrong["products_by_cublaslt"] == 0
    line = "float16 NN, derivative of relu, dropout, sums: a wrong result in its check"
    assert line in wrong["refused"], wrong["refused"]
