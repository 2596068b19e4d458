"""Optimizers against the published formulas: one step, a thousand, resumed, refused, converging."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within, ulp
from fastnn.testing.ops import OPTIMIZERS

# State made of gradients, and of their squares: the terms that it is rounded with.
GRADIENTS = ("momentum_buffer", "exp_avg", "grad_avg", "exp_inf")
SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
SHAPES = ((3, 5), (1,), (20_000,), (0, 2), (17,))


def rows_with_options(template):
    cases = []
    for row in OPTIMIZERS:
        marks = [pytest.mark.xfail(reason=row.xfail[template])] if template in row.xfail else []
        for i, options in enumerate(row.options):
            cases.append(pytest.param(row, options, id=f"{row.name}-{i}", marks=marks))
    return cases


def rows(template):
    marks = {
        r.name: [pytest.mark.xfail(reason=r.xfail[template])]
        for r in OPTIMIZERS
        if template in r.xfail
    }
    return [pytest.param(r, id=r.name, marks=marks.get(r.name, [])) for r in OPTIMIZERS]


def parameters(rng, dtype="float32"):
    return [fn.tensor(rng.standard_normal(s), dtype, requires_grad=True) for s in SHAPES]


def gradient(rng, shape):
    return (rng.standard_normal(shape) * np.exp2(rng.integers(-3, 4, shape))).astype(np.float32)


def state_of(optimizer, index):
    return optimizer.state_dict()["state"].get(index, {})


def widened(state):
    return {k: np.asarray(v, np.float64) for k, v in state.items()}


def sensitivity(row, options, p, g, size, state, step):
    """How far the new weight moves, times 1 / u, if the gradient (with its decay, of this size) and
    what is kept in the state are rounded: |d new / d x| |x| summed, by differences."""
    h = 2.0**-20
    new = row.reference(p, g, state, step, **options)[0]
    total = np.abs(row.reference(p, g + h * size, state, step, **options)[0] - new)
    for key in getattr(fn.optim, row.name).slots:
        if key in state:
            nudged = {**state, key: state[key] * (1 + h)}
            total = total + np.abs(row.reference(p, g, nudged, step, **options)[0] - new)
    return total / h


@pytest.mark.parametrize(("row", "options"), rows_with_options("one step"))
def test_each_step_follows_the_formula(row, options):
    """Ten steps, each from fastnn's own state: state within 2 ULP of its terms; the weight within 8
    roundings of the step, of the gradient and of the state, as far as they matter, and its own."""
    rng = np.random.default_rng(0)
    params = parameters(rng)
    optimizer = getattr(fn.optim, row.name)(params, **options)
    for step in range(1, 11):
        before = [
            (np.array(p.detach(), np.float64), state_of(optimizer, i)) for i, p in enumerate(params)
        ]
        grads = [gradient(rng, s) for s in SHAPES]
        for p, g in zip(params, grads, strict=True):
            p.grad = fn.tensor(g)
        optimizer.step()
        decay = optimizer.param_groups[0]["weight_decay"]
        for i, (p, g, (old, kept)) in enumerate(zip(params, grads, before, strict=True)):
            state, g = widened(kept), g.astype(np.float64)
            new, new_state = row.reference(old, g, state, step, **options)
            size = np.abs(g) + decay * np.abs(old)  # the gradient with its decay: two roundings
            for key in new_state.keys() & set(optimizer.slots):
                terms = np.abs(state.get(key, 0.0)) + np.abs(new_state[key])
                terms = terms + (size**2 if key in SQUARES else size * (key in GRADIENTS))
                limit = 4 * U * terms
                if (
                    key == "acc_delta"
                ):  # a squared quotient of two roots, of a gradient that cancels
                    limit = 4 * limit * (1.0 + size / (np.abs(g + decay * old) + 1e-30)) ** 2
                assert_within(state_of(optimizer, i)[key], new_state[key], limit, key)
            moved = np.abs(new - old) + sensitivity(row, options, old, g, size, state, step)
            bound = 8 * U * moved + np.maximum(ulp(new), ulp(old))
            assert_within(np.array(p.detach()), new, bound, f"parameter {i}, step {step}")


@pytest.mark.parametrize(("row", "options"), rows_with_options("thousand steps"))
def test_a_thousand_steps_stay_with_the_formula(row, options):
    """Rounding of 1,000 updates adds up, at worst, to 1,000 half ULPs of the weight and 1,000 times
    the error of an update; the gradients are fixed, so that nothing amplifies it."""
    rng = np.random.default_rng(1)
    p = fn.tensor(rng.standard_normal(50), requires_grad=True)
    optimizer = getattr(fn.optim, row.name)([p], **options)
    state = {}
    value = np.array(p.detach(), np.float64)
    grads = [gradient(rng, 50) for _ in range(8)]
    travelled = np.zeros(50)
    largest = np.abs(value)
    lr = optimizer.param_groups[0]["lr"]
    for step in range(1, 1001):
        g = grads[step % 8]
        p.grad = fn.tensor(g)
        optimizer.step()
        old = value
        value, state = row.reference(value, g.astype(np.float64), state, step, **options)
        travelled += np.abs(value - old) + lr * np.abs(g)
        largest = np.maximum(largest, np.abs(value))
    bound = 500 * ulp(largest) + 64 * U * travelled
    assert_within(np.array(p.detach()), value, bound)
    for key in state.keys() & set(optimizer.slots):  # within what 1,000 roundings may add up to
        limit = 500 * U * (np.abs(state[key]) + (16.0 if key in GRADIENTS else 0.0))
        assert_within(state_of(optimizer, 0)[key], state[key], limit, key)


@pytest.mark.parametrize(("row", "options"), rows_with_options("resume"))
def test_state_dict_round_trip_continues_bit_exactly(row, options):
    rng = np.random.default_rng(2)
    params = parameters(rng)
    optimizer = getattr(fn.optim, row.name)(params, **options)
    grads = [[gradient(rng, s) for s in SHAPES] for _ in range(6)]

    def steps(tensors, opt, several):
        for one in several:
            for p, g in zip(tensors, one, strict=True):
                p.grad = fn.tensor(g)
            opt.step()

    steps(params, optimizer, grads[:3])
    copies = [fn.tensor(np.array(p.detach()), requires_grad=True) for p in params]
    resumed = getattr(fn.optim, row.name)(copies)
    resumed.load_state_dict(optimizer.state_dict())
    steps(params, optimizer, grads[3:])
    steps(copies, resumed, grads[3:])
    assert resumed.step_count == optimizer.step_count == 6
    for a, b in zip(params, copies, strict=True):
        assert_bitwise_equal(np.array(b.detach()), np.array(a.detach()))


@pytest.mark.parametrize("row", rows("refused options"))
def test_options_out_of_range(row):
    p = fn.tensor([1.0], requires_grad=True)
    for options, message in row.bad:
        with pytest.raises(ValueError, match="expected") as caught:
            getattr(fn.optim, row.name)([p], **options)
        assert str(caught.value) == message


@pytest.mark.parametrize("row", rows("parameters"))
def test_parameters_that_are_refused(row):
    make = getattr(fn.optim, row.name)
    p = fn.tensor([1.0], requires_grad=True)
    for params, message in (
        ([], "expected at least one parameter, got none"),
        ([fn.tensor([1.0])], "expected Tensors that require a gradient, got Tensor"),
        ([p, p], "expected each parameter once, got one of shape (1,) twice"),
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            make(params)
        assert str(caught.value) == f"{row.name}: {message}"


def snapshot(params, optimizer):
    state = optimizer.state_dict()
    arrays = [np.array(p.detach()) for p in params]
    arrays += [v for slots in state["state"].values() for k, v in slots.items() if k != "step"]
    return arrays, [slots["step"] for slots in state["state"].values()]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize(("row", "options"), rows_with_options("bad gradient"))
def test_a_bad_gradient_is_named_and_changes_nothing(row, options, bad):
    rng = np.random.default_rng(3)
    params = parameters(rng)
    optimizer = getattr(fn.optim, row.name)(params, **options)
    for kind, at in ((0, 7), (2, 19_999), (4, 0)):
        for p in params:
            p.grad = fn.tensor(gradient(rng, p.shape))
        optimizer.step()
        arrays, steps = snapshot(params, optimizer)
        g = gradient(rng, SHAPES[kind])
        g.reshape(-1)[at] = bad
        params[kind].grad = fn.tensor(g)
        with pytest.raises(ValueError, match="expected finite gradients") as caught:
            optimizer.step()
        assert str(caught.value) == (
            f"{row.name.lower()}: expected finite gradients, got NaN or infinity in parameter "
            f"{kind} at flat index {at}; nothing was updated"
        )
        after, after_steps = snapshot(params, optimizer)
        assert after_steps == steps
        for got, expected in zip(after, arrays, strict=True):
            assert_bitwise_equal(got, expected)


@pytest.mark.parametrize("row", [r for r in OPTIMIZERS if r.squares], ids=lambda r: r.name)
def test_overflow_of_the_second_moment_is_named_and_changes_nothing(row):
    params = parameters(np.random.default_rng(4))
    optimizer = getattr(fn.optim, row.name)(params)
    for p in params:
        p.grad = fn.tensor(np.ones(p.shape, np.float32))
    optimizer.step()
    arrays, steps = snapshot(params, optimizer)
    g = np.ones(SHAPES[2], np.float32)
    g[:16_390] = 1e18
    g[[16_390, 17_000]] = 1e20
    params[2].grad = fn.tensor(g)
    with pytest.raises(ValueError, match="second moment") as caught:
        optimizer.step()
    assert str(caught.value) == (
        f"{row.name.lower()}: expected a gradient whose square is finite, got one that overflows "
        "the second moment in parameter 2 at flat index 16390; nothing was updated"
    )
    after, after_steps = snapshot(params, optimizer)
    assert after_steps == steps
    for got, expected in zip(after, arrays, strict=True):
        assert_bitwise_equal(got, expected)


@pytest.mark.parametrize("row", rows("bad gradient in a later group"))
def test_a_bad_gradient_in_a_later_group_changes_nothing_either(row):
    first, second = (fn.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    optimizer = getattr(fn.optim, row.name)([{"params": [first]}, {"params": [second]}], lr=0.1)
    first.grad, second.grad = fn.tensor([1.0, 1.0]), fn.tensor([1.0, np.nan])
    with pytest.raises(ValueError, match="expected finite gradients"):
        optimizer.step()
    assert first.detach().numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "row", [r for r in OPTIMIZERS if r.name.startswith("Adam")], ids=lambda r: r.name
)
@pytest.mark.parametrize("g", [1.0, 1e-8, 1e-20, 1e15])
def test_first_adam_step_is_lr_g_over_g_plus_eps(row, g):
    g = float(np.float32(g))
    p = fn.tensor([0.0], requires_grad=True)
    p.grad = fn.tensor([g])
    getattr(fn.optim, row.name)([p], lr=0.5).step()
    eps = float(np.float32(1e-8))
    # Below |g| = 1e-19 g^2 is flushed: sqrt(v) is then 0 where it was below 1e-19, eps 1e-8 above.
    expected = -0.5 * g / (g + eps)
    assert_within(np.array(p.detach()), np.array([expected]), 16 * U * abs(expected))


@pytest.mark.parametrize(("row", "options"), rows_with_options("zero gradient"))
def test_zero_gradients_move_nothing_without_decay(row, options):
    options = {**options, "weight_decay": 0.0}
    p = fn.tensor(np.random.default_rng(5).standard_normal(100), requires_grad=True)
    before = np.array(p.detach())
    optimizer = getattr(fn.optim, row.name)([p], **options)
    for _ in range(20):
        p.grad = fn.zeros(100)
        optimizer.step()
    assert_bitwise_equal(np.array(p.detach()), before)


TARGET = fn.tensor([1.0, -2.0, 3.0])
FIRST, SECOND = fn.tensor([[1.0], [0.0]]), fn.tensor([[0.0], [1.0]])


def parabola(w):
    return ((w - TARGET) * (w - TARGET)).sum()


def rosenbrock(w):
    x, y = w @ FIRST, w @ SECOND
    return ((1.0 - x) * (1.0 - x) + (y - x * x) * (y - x * x) * 100.0).sum()


@pytest.mark.parametrize(
    ("function", "start", "minimum"),
    [
        (parabola, [0.0, 0.0, 0.0], [1, -2, 3]),
        (rosenbrock, [[0.5, 0.5]], [[1, 1]]),
    ],
    ids=["parabola", "rosenbrock"],
)
@pytest.mark.parametrize("row", rows("converges"))
def test_reaches_the_minimum(row, function, start, minimum):
    w = fn.tensor(start, requires_grad=True)
    optimizer = getattr(fn.optim, row.name)([w], **row.converges)
    optimizer.prepare()

    @fn.capture
    def step():
        optimizer.zero_grad()
        loss = function(w)
        loss.backward()
        optimizer.step()
        return loss

    lr, first = row.converges["lr"], function(w).item()
    for i in range(20_000):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2.0 - i / 10_000)  # a sign does not shrink
        loss = step()
    assert loss.item() < 1e-6 * first
    assert np.abs(np.array(w.detach()) - np.array(minimum)).max() < 5e-3


def test_maximize_climbs():
    for row in OPTIMIZERS:
        p = fn.tensor([1.0], requires_grad=True)
        p.grad = fn.tensor([1.0])
        getattr(fn.optim, row.name)([p], lr=0.1, weight_decay=0.0, maximize=True).step()
        assert p.item() > 1.0


@pytest.mark.parametrize("row", rows("low precision"))
def test_bfloat16_parameters_keep_float32_state(row):
    rng = np.random.default_rng(6)
    p = fn.tensor(rng.standard_normal(100), "bfloat16", requires_grad=True)
    optimizer = getattr(fn.optim, row.name)([p], lr=0.125)
    before = np.array(p.detach(), np.float64)
    g = fn.tensor(rng.standard_normal(100), "bfloat16")
    p.grad = g
    optimizer.step()
    new, _ = row.reference(before, np.array(g, np.float64), {}, 1, lr=0.125)
    assert_within(np.array(p.detach()), new, 2.0**-8 * np.abs(new) + 16 * U)
    for key, value in state_of(optimizer, 0).items():
        assert key == "step" or key == "mu_product" or value.dtype == np.float32


def test_groups_have_their_own_options():
    a, b = (fn.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = fn.optim.SGD([{"params": [a], "lr": 0.5}, {"params": b}], lr=0.25)
    a.grad, b.grad = fn.tensor([1.0]), fn.tensor([1.0])
    optimizer.step()
    assert (a.item(), b.item()) == (0.5, 0.75)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert (a.item(), b.item()) == (0.5, 0.5)


def test_parameters_without_gradient_are_left_alone():
    a, b = (fn.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = fn.optim.Adam([a, b], lr=0.1)
    a.grad = fn.tensor([1.0])
    optimizer.step()
    assert b.item() == 1.0
    optimizer.zero_grad()
    optimizer.step()
    assert optimizer.step_count == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["param_groups"].append({"params": []}),
            "Adam: expected groups of [2] parameters, got [2, 0]",
        ),
        (
            lambda s: s["state"][0].update(exp_avg=np.zeros(3, np.float32)),
            "Adam: expected exp_avg of parameter 0 of shape (2,), got (3,)",
        ),
        (
            lambda s: s["state"][0].update(exp_avg_sq=np.array([1, np.inf], np.float32)),
            "Adam: expected finite exp_avg_sq of parameter 0, got inf at flat index 1",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    params = [fn.tensor([1.0, 2.0], requires_grad=True), fn.tensor([1.0], requires_grad=True)]
    optimizer = fn.optim.Adam(params)
    for p in params:
        p.grad = fn.tensor(np.ones(p.shape, np.float32))
    optimizer.step()
    state = optimizer.state_dict()
    arrays, _ = snapshot(params, optimizer)
    change(state)
    with pytest.raises(ValueError, match="expected") as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value) == message
    for got, expected in zip(snapshot(params, optimizer)[0], arrays, strict=True):
        assert_bitwise_equal(got, expected)
