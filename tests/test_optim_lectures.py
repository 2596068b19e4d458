"""Optimizers as the lectures show them: forms, first steps, saddles and bowls (X20 to X24)."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import optim as ref

HESSIAN = np.array([1.0, 3.0, 0.2])


def gradient(w):
    return HESSIAN * w


def trajectory(reference, lr, steps=40, start=(1.0, -2.0, 0.5), **options):
    """Iterates of the oracle in float64 on a quadratic; lr is a function of the step."""
    w, state, iterates = np.array(start), {}, []
    for step in range(1, steps + 1):
        w, state = reference(w, gradient(w), state, step, lr=lr(step), **options)
        iterates.append(w)
    return np.array(iterates)


def constant(step):
    return 0.05


def dropping(step):
    return 0.05 if step <= 20 else 0.005


def fastnn_trajectory(lr, steps=40, start=(1.0, -2.0, 0.5), **options):
    w, iterates = fn.tensor(start, requires_grad=True), []
    optimizer = fn.optim.SGD([w], **options)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = lr(step)
        w.grad = fn.tensor(gradient(np.array(w.detach(), np.float64)).astype(np.float32))
        optimizer.step()
        iterates.append(np.array(w.detach(), np.float64))
    return np.array(iterates)


# ---- X20: Adam with and without the correction ---------------------------------------------------


@pytest.mark.parametrize(("corrected", "length"), [(True, 1.0), (False, 0.1 / np.sqrt(0.001))])
def test_first_step_of_adam(corrected, length):
    w = fn.tensor([0.0], requires_grad=True)
    w.grad = fn.tensor([2.0])
    fn.optim.Adam([w], lr=0.5, bias_correction=corrected).step()
    assert_within(np.array(w.detach()), np.array([-0.5 * length]), 16 * U)
    assert round(length, 3) == (1.0 if corrected else 3.162)


# ---- X21: the forms of momentum ----------------------------------------------------------------


@pytest.mark.parametrize("lr", [constant, dropping])
@pytest.mark.parametrize("nesterov", [False, True])
def test_forms_of_momentum_agree_as_far_as_they_should(lr, nesterov):
    """A and B make the same steps at a constant rate only; B and C always."""
    options = {"momentum": 0.9, "nesterov": nesterov}
    for run, limit in ((trajectory, 1e-12), (fastnn_trajectory, 1e-4)):
        args = (ref.sgd,) if run is trajectory else ()
        a, b, c = (run(*args, lr, form=form, **options) for form in "ABC")
        assert np.abs(b - c).max() < limit
        assert (np.abs(a - b).max() < limit) == (lr is constant)


def test_the_forms_b_and_c_are_each_others_mirror_bit_for_bit():
    b, c = (fastnn_trajectory(dropping, momentum=0.9, form=form) for form in "BC")
    assert_bitwise_equal(b, c)


def test_momentum_is_a_plain_mean_with_a_longer_step():
    """A is b = 0.9 b + 0.1 g with the rate lr / 0.1; form D, which corrects that, starts faster."""

    def plain_mean(p, g, state, step, *, lr):
        b = 0.9 * state.get("b", 0.0) + 0.1 * g
        return p - lr / 0.1 * b, {"b": b}

    a = trajectory(ref.sgd, constant, momentum=0.9)
    assert np.abs(a - trajectory(plain_mean, constant)).max() < 1e-12
    d = trajectory(ref.sgd, lambda step: 0.5, momentum=0.9, form="D")
    assert np.abs(d[0] - [1, -2, 0.5]).max() > 5 * np.abs(a[0] - [1, -2, 0.5]).max()


@pytest.mark.parametrize("form", ["A", "B", "C"])
def test_nesterov_is_the_point_that_looks_ahead(form):
    """v = rho v - lr g(x + rho v); x += v: the optimizer's parameter is x + rho v."""
    x, v, ahead = np.array([1.0, -2.0, 0.5]), np.zeros(3), []
    for _ in range(40):
        v = 0.9 * v - 0.05 * gradient(x + 0.9 * v)
        x = x + v
        ahead.append(x + 0.9 * v)
    options = {"momentum": 0.9, "nesterov": True, "form": form}
    assert np.abs(trajectory(ref.sgd, constant, **options) - np.array(ahead)).max() < 1e-12
    assert np.abs(fastnn_trajectory(constant, **options) - np.array(ahead)).max() < 1e-4


# ---- X22, X23, X24 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("SGD", {}, 38),
        ("SGD", {"momentum": 0.9}, 19),
        ("Adagrad", {}, 17),
        ("RMSprop", {"alpha": 0.9}, 4),
        ("Adam", {}, 11),
    ],
)
def test_steps_to_escape_from_a_saddle(name, options, expected):
    """x^2 - y^2 from (1, 0.001) at the rate 0.1, until |y| > 1."""
    w = fn.tensor([1.0, 1e-3], requires_grad=True)
    optimizer = getattr(fn.optim, name)([w], lr=0.1, **options)
    steps = 0
    while abs(np.array(w.detach())[1]) <= 1:
        w.grad = fn.tensor(np.float32([2, -2]) * np.array(w.detach()))
        optimizer.step()
        steps += 1
    assert steps == expected


def test_the_rate_of_adagrad_vanishes_and_that_of_rmsprop_does_not():
    rates = {}
    for name in ("Adagrad", "RMSprop"):
        w = fn.tensor([0.0], requires_grad=True)
        optimizer = getattr(fn.optim, name)([w], lr=0.1)
        at = [0.0]
        for _ in range(1000):
            w.grad = fn.tensor([1.0])
            optimizer.step()
            at.append(w.item())
        rates[name] = -np.diff(at)
    assert (np.diff(rates["Adagrad"]) < 1e-6).all()
    assert rates["Adagrad"][-1] < 0.04 * rates["Adagrad"][0]
    assert_within(rates["RMSprop"][-100:], np.full(100, 0.1), 2e-4)


def test_momentum_damps_the_zigzag_of_an_ill_conditioned_bowl():
    def zigzag(**options):
        w, path = fn.tensor([10.0, 1.0], requires_grad=True), [1.0]
        optimizer = fn.optim.SGD([w], lr=0.019, **options)
        for _ in range(100):
            w.grad = fn.tensor(np.float32([1, 100]) * np.array(w.detach()))
            optimizer.step()
            path.append(np.array(w.detach())[1])
        return np.abs(np.diff(path)).sum()

    assert zigzag(momentum=0.5) < 0.5 * zigzag()


# ---- REG-5: decay ------------------------------------------------------------------------------


def decayed(name, loss_penalty, steps=30, **options):
    w = fn.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = getattr(fn.optim, name)([w], lr=0.05, **options)
    hessian = fn.tensor(HESSIAN.astype(np.float32))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (w * w * hessian).sum() * 0.5
        (loss + loss_penalty(w) if loss_penalty else loss).backward()
        optimizer.step()
    return np.array(w.detach())


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}])
def test_weight_decay_is_an_l2_penalty(half, options):
    decay = 0.1 if half else 0.2
    with_penalty = decayed("SGD", lambda w: fn.F.l2_penalty([w], 0.1, half=half), **options)
    assert_within(with_penalty, decayed("SGD", None, weight_decay=decay, **options), 64 * U)


def test_decoupled_decay_is_another_thing_for_adam():
    coupled = decayed("Adam", None, weight_decay=0.5)
    assert np.abs(coupled - decayed("AdamW", None, weight_decay=0.5)).max() > 0.05
