"""Forms of momentum, of the oracles in float64, and of decay; X20 to X24 are experiments."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.experiments.common import descend
from fastnn.testing.compare import U, assert_within
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


# ---- X21: the forms of momentum ----------------------------------------------------------------


@pytest.mark.parametrize("lr", [constant, dropping])
@pytest.mark.parametrize("nesterov", [False, True])
def test_forms_of_momentum_agree_as_far_as_they_should(lr, nesterov):
    """A and B make the same steps at a constant rate only; B and C always.

    The kernels' float32 forms are the experiment momentum-forms.
    """
    options = {"momentum": 0.9, "nesterov": nesterov}
    a, b, c = (trajectory(ref.sgd, lr, form=form, **options) for form in "ABC")
    assert np.abs(b - c).max() < 1e-12
    assert (np.abs(a - b).max() < 1e-12) == (lr is constant)


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
    path = descend("SGD", gradient, [1.0, -2.0, 0.5], 40, constant, **options)
    assert np.abs(path[1:] - np.array(ahead)).max() < 1e-4


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


@pytest.mark.parametrize("size", [12, 5, 1])
def test_batch_online_and_minibatch_descent_are_sizes_of_a_batch(size):
    """OPT-1 to OPT-3: one step of the whole sum, a step for each sample, and what is in between."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)).astype(np.float32), rng.standard_normal((12, 1))
    model = fn.nn.Linear(4, 1, bias=False)
    w = np.array(model.weight.detach(), np.float64)
    trainer = fn.train.Trainer(model, fn.F.mse_loss, fn.optim.SGD(model.parameters(), lr=0.05))
    trainer.fit(x, y.astype(np.float32), epochs=3, batch_size=size, shuffle=False, verbose=0)
    for _ in range(3):
        for at in range(0, 12, size):
            rows, labels = x[at : at + size].astype(np.float64), y[at : at + size]
            w -= 0.05 * 2 * (rows @ w.T - labels).T @ rows / len(rows)
    np.testing.assert_allclose(np.array(model.weight.detach()), w, rtol=1e-5, atol=1e-6)
