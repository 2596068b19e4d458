"""The step of a small network as one kernel: against float64, against the ops, and refused where it
is wrong; on a GPU, or under the emulator on any CPU. The kernel alone, with bugs planted:
tests/cpp/cuda_emulator_mlp_test.cc. Kernels: mlp_step."""

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import available, needs_cuda
from fastnn import F, _core, nn
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.reference import activation as activations
from fastnn.testing.reference.linear import activate, linear
from fastnn.testing.reference.loss import cross_entropy, cross_entropy_vjp
from fastnn.testing.reference.pointwise_loss import mse_loss, mse_loss_vjp

pytestmark = [
    pytest.mark.gpu,
    needs_cuda,
]
BOUND = 1e-6  # of the largest number of an array
LAYERS = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU,
    "silu": nn.SiLU, "elu": nn.ELU, "selu": nn.SELU, "softplus": nn.Softplus,
    "leaky_relu": nn.LeakyReLU, "hardsigmoid": nn.Hardsigmoid, "hardswish": nn.Hardswish,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"), "identity": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def fused():
    fn.cuda.mlp.problems.clear()
    fn.cuda.set_mlp_path("fused")
    yield
    fn.cuda.set_mlp_path("auto")
    fn.cuda.mlp.problems.clear()


def network(sizes, kinds, bias=True, seed=0):
    """Layers of these sizes on the device, an activation after each but where it is None."""
    fn.manual_seed(seed)
    layers = []
    for i, kind in enumerate(kinds):
        layers.append(nn.Linear(sizes[i], sizes[i + 1], bias=bias))
        if LAYERS.get(kind) is not None:
            layers.append(LAYERS[kind]())
    return nn.Sequential(*layers).to("cuda")


def batch(sizes, rows, classes, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, sizes[0])).astype(np.float32)
    if classes:
        return x, rng.integers(0, sizes[-1], rows)
    return x, rng.standard_normal((rows, sizes[-1])).astype(np.float32)


def one_pass(model, loss, x, y, share=1.0):
    """Outputs, loss and gradients, on the host."""
    for p in model.parameters():
        p.grad = None
    x, y = (fn.tensor(v, device="cuda") for v in (x, y))
    results = fn.train.forward_backward(model, loss, x, y, share)
    grads = [p.grad for p in model.parameters()]
    return [np.array(v.to("cpu")) for v in (*results, *grads)]


def steps():
    return fn.cuda.info()["mlp_steps_fused"]


def act(kind, z):
    """act(z) and act'(z), by the references."""
    if kind in ("relu6", "hardsigmoid", "hardswish"):
        (slope,) = getattr(activations, f"{kind}_vjp")(np.ones_like(z), z)
        return getattr(activations, kind)(z), slope
    return activate(z, None if kind == "identity" else kind)


def oracle(model, kinds, loss, x, y, share=1.0):
    """The same in float64, layer by layer."""
    params = [np.array(p.detach().to("cpu"), np.float64) for p in model.parameters()]
    per_layer = len(params) // len(kinds)
    inputs, slopes = [x.astype(np.float64)], []
    for i, kind in enumerate(kinds):
        z = linear(inputs[-1], *params[i * per_layer : (i + 1) * per_layer])
        value, slope = act(kind, z)
        inputs.append(value)
        slopes.append(slope)
    out, one, reduction = inputs[-1], np.float64(1), loss.reduction
    if y.dtype == np.int64:
        options = {"ignore_index": loss.ignore_index, "reduction": reduction}
        value, dy = cross_entropy(out, y, **options), cross_entropy_vjp(one, out, y, **options)[0]
    else:
        value, dy = mse_loss(out, y, reduction), mse_loss_vjp(one, out, y, reduction)[0]
    grads = []
    for i in reversed(range(len(kinds))):
        dz = dy * slopes[i]
        grads = [share * dz.T @ inputs[i], share * dz.sum(0)][:per_layer] + grads
        dy = dz @ params[i * per_layer]
    return [out, value, *grads]


def assert_near(got, want, what):
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.shape == w.shape, (what, i)
        error = np.abs(g - w).max()
        assert error <= BOUND * max(np.abs(w).max(), 1e-3), (what, i, error, np.abs(w).max())


CASES = [  # sizes, activations, rows, classes or numbers, bias, mean
    ((1, 1, 1), ("relu", "identity"), 1, False, True, True),
    ((64, 64, 64, 10), ("relu", "relu", "identity"), 70, True, True, True),
    ((5, 33, 17, 3), ("tanh", "gelu", "identity"), 33, True, True, True),
    ((13, 7, 9, 6, 5, 8, 4, 32), ("relu", "silu", "elu", "selu", "sigmoid", "softplus", "identity"),
     100, True, True, False),
    ((64, 128, 128, 31), ("relu", "tanh", "identity"), 40, True, False, True),
    ((63, 128, 127, 128, 126, 128, 125, 5), ("gelu",) * 6 + ("sigmoid",), 19, False, True, True),
    ((7, 12, 12, 9, 6), ("leaky_relu", "hardswish", "tanh", "elu"), 37, False, True, False),
    ((9, 20, 18, 8, 7, 2), ("hardsigmoid", "relu6", "gelu_tanh", "tanh", "relu"), 31, True,
     False, True),
    ((8, 16, 16, 16, 16, 16, 4), ("silu",) * 5 + ("identity",), 64, True, True, True),
]  # fmt: skip


def test_the_cases_have_every_activation_and_depth():
    assert {kind for _, kinds, *_ in CASES for kind in kinds} == set(_core.ACTIVATIONS)
    assert {len(sizes) - 2 for sizes, *_ in CASES} == set(range(1, 7))  # hidden layers


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c[0])))
def test_against_float64_and_on_all_schedules(case, monkeypatch):
    sizes, kinds, rows, classes, bias, mean = case
    model, (x, y) = network(sizes, kinds, bias), batch(sizes, rows, classes)
    reduction = "mean" if mean else "sum"
    loss = nn.CrossEntropyLoss(reduction=reduction) if classes else nn.MSELoss(reduction=reduction)
    before, results = steps(), []
    for schedule in ("forward", "reverse", "random:5"):
        monkeypatch.setenv("FASTNN_EMULATOR_SCHEDULE", schedule)
        results.append(one_pass(model, loss, x, y, share=0.5))
    assert steps() - before == 3, fn.cuda.info()["mlp_refused"]
    assert fn.cuda.info()["mlp_refused"] == []
    assert_near(results[0], oracle(model, kinds, loss, x, y, share=0.5), "float64")
    for other in results[1:]:
        for got, first in zip(other, results[0], strict=True):
            assert_bitwise_equal(got, first)


def test_more_tiles_than_blocks():
    sizes, kinds = (3, 6, 2), ("tanh", "identity")
    model, (x, y) = network(sizes, kinds), batch(sizes, 128 * 32 + 50, True)
    before = steps()
    got = one_pass(model, nn.CrossEntropyLoss(), x, y)
    assert steps() - before == 1
    assert_near(got, oracle(model, kinds, nn.CrossEntropyLoss(), x, y), "float64")


def test_labels_that_do_not_count():
    sizes, kinds = (3, 6, 4), ("relu", "identity")
    model, (x, y) = network(sizes, kinds), batch(sizes, 40, True)
    y[::3] = 7
    loss = nn.CrossEntropyLoss(ignore_index=7)
    before = steps()
    assert_near(one_pass(model, loss, x, y), oracle(model, kinds, loss, x, y), "float64")
    assert steps() - before == 1


def test_errors_are_those_of_the_ops():
    model, (x, y) = network((3, 6, 4), ("relu", None)), batch((3, 6, 4), 40, True)
    message = r"^cross_entropy: expected 0 <= target < 4, got 4 at target\[21\]$"
    y[21] = 4
    with pytest.raises(ValueError, match=message):
        one_pass(model, nn.CrossEntropyLoss(), x, y)
    x[5], y[21] = np.nan, 0
    with pytest.raises(ValueError, match=r"^loss: expected a finite value, got NaN or infinity; "):
        one_pass(model, nn.CrossEntropyLoss(), x, y)
    assert steps() > 0
    fn.cuda.set_mlp_path("ops")
    x[5], y[21] = 0, 4
    with pytest.raises(ValueError, match=message):
        one_pass(model, nn.CrossEntropyLoss(), x, y)


# ---- a Trainer, and what is recorded -------------------------------------------------------------


def fitted(path, model=None, loss=None, rows=100, classes=True, **options):
    fn.cuda.set_mlp_path(path)
    fn.manual_seed(3)
    net = model() if model else network((6, 16, 12, 3), ("relu", "tanh", None))
    x, y = batch((6, 3), rows, classes)
    optimizer = fn.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.01)
    trainer = fn.Trainer(net, loss or nn.CrossEntropyLoss(), optimizer, **options)
    before = steps()
    history = trainer.fit(x, y, batch_size=16, epochs=3, verbose=0).history
    weights = [np.array(p.detach().to("cpu")) for p in net.parameters()]
    return weights, history, steps() - before


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 0.5},
        {"accumulate_grad_batches": 3},
        {"loss": nn.MSELoss(), "classes": False},
        {"loss": nn.CrossEntropyLoss(reduction="sum"), "accumulate_grad_batches": 2},
    ],
    ids=lambda o: ",".join(o) or "plain",
)
def test_a_fit_learns_as_by_the_ops(options):
    fused, history, count = fitted("fused", **options)
    eager, eager_history, _ = fitted("fused", capture=False, **options)
    ops, ops_history, none = fitted("ops", **options)
    assert (count > 0, none) == (True, 0)
    assert fn.cuda.info()["mlp_refused"] == []
    np.testing.assert_array_equal(history["loss"], eager_history["loss"])
    np.testing.assert_allclose(history["loss"], ops_history["loss"], rtol=1e-4)
    if options.get("classes", True):
        assert history["accuracy"] == pytest.approx(ops_history["accuracy"], abs=0.011)
    for a, b, c in zip(fused, eager, ops, strict=True):
        assert_bitwise_equal(a, b)  # a recorded step has the bits of an eager one
        np.testing.assert_allclose(a, c, rtol=2e-3, atol=2e-4)


def test_a_captured_step():
    model, (x, y) = network((6, 16, 3), ("relu", None)), batch((6, 3), 20, True)
    optimizer = fn.optim.SGD(model.parameters(), lr=0.1)

    def body(x, y):
        optimizer.zero_grad()
        _, loss = fn.train.forward_backward(model, nn.CrossEntropyLoss(), x, y)
        optimizer.step()
        return loss

    step, before = fn.capture(body), steps()
    losses = [
        float(np.array(step(*(fn.tensor(v, device="cuda") for v in (x, y))).to("cpu")))
        for _ in range(5)
    ]
    assert steps() - before == 1  # recorded once
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


# ---- what it does not serve ----------------------------------------------------------------------


def not_served():
    plain = lambda: network((6, 8, 3), ("relu", None))  # noqa: E731

    def hooked():
        net = plain()
        net[0].register_forward_hook(lambda *_: None)
        return net

    def frozen():
        net = plain()
        net[0].weight.requires_grad = False
        return net

    def around(middle):
        return nn.Sequential(nn.Linear(6, 8), middle, nn.ReLU(), nn.Linear(8, 3)).to("cuda")

    return {
        "dropout": {"model": lambda: around(nn.Dropout(0.5))},
        "norm": {"model": lambda: around(nn.LayerNorm(8))},
        "one layer": {"model": lambda: network((6, 3), (None,))},
        "wide": {"model": lambda: network((6, 129, 3), ("relu", None))},
        "many outputs": {
            "model": lambda: network((6, 8, 33), ("relu", None)),
            "loss": nn.CrossEntropyLoss(),
        },
        "hook": {"model": hooked},
        "frozen": {"model": frozen},
        "smoothing": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
        "penalty": {
            "loss": fn.train.Objective(
                nn.CrossEntropyLoss(), l2=fn.train.WeightPenalty(F.l2_penalty, 0.1)
            )
        },
        "16 bits": {"precision": "bf16-mixed"},
        "another loss": {"loss": nn.L1Loss(), "classes": False},
    }


@pytest.mark.parametrize("name", not_served() if available else [])
def test_everything_else_runs_as_before(name):
    results = [fitted(path, rows=20, **not_served()[name]) for path in ("fused", "ops")]
    assert [count for _, _, count in results] == [0, 0]
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert_bitwise_equal(a, b)


def test_it_is_not_asked_for_by_default():
    fn.cuda.set_mlp_path("auto")
    assert fitted("auto")[2] == 0
    assert fn.cuda.mlp.problems == {}


def wrong(step):
    def changed(*args):
        outputs, loss, grads = step(*args)
        grads[2] = grads[2] * 1.001
        return outputs, loss, grads

    return changed


def shaky(step):
    calls = []

    def changed(*args):
        calls.append(1)
        outputs, loss, grads = step(*args)
        grads[0] = grads[0] * (1 + len(calls) * 2.0**-20)
        return outputs, loss, grads

    return changed


def failing(step):
    def changed(*args):
        raise fn.CudaError("mlp_step: invalid argument")

    return changed


@pytest.mark.parametrize(
    ("bug", "why"),
    [
        (wrong, "a wrong result in its check"),
        (shaky, "other bits in a second run of its check"),
        (failing, "CudaError: mlp_step: invalid argument"),
    ],
)
def test_one_that_is_wrong_is_refused_by_name(bug, why, monkeypatch):
    monkeypatch.setattr(_core, "mlp_step", bug(_core.mlp_step))
    refused, _, count = fitted("fused")
    name = "6-16-12-3 (relu, tanh, identity), cross_entropy"
    assert (count, fn.cuda.info()["mlp_refused"]) == (0, [f"{name}: {why}"])
    for a, b in zip(refused, fitted("ops")[0], strict=True):
        assert_bitwise_equal(a, b)


def test_a_path_that_is_none():
    message = "cuda.set_mlp_path: expected one of auto, fused, ops, got 'fast'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fn.cuda.set_mlp_path("fast")
