"""Constraints after a step (soft_threshold, max_norm), and penalties on several parameters."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import optim as ref

SHAPES = ((3, 5), (300, 40), (2, 20_000), (4, 3, 3, 3), (0, 2), (3, 0))


def tensors(dtype="float32", requires_grad=True, shapes=SHAPES):
    rng = np.random.default_rng(0)
    return [fn.tensor(rng.standard_normal(s), dtype, requires_grad=requires_grad) for s in shapes]


def values(params):
    return [np.array(p.detach(), np.float64) for p in params]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("squared", [False, True])
def test_max_norm_projects_each_unit(dtype, squared):
    """Within the rounding of the factor and of the product; X46: no norm is larger after it."""
    params = tensors(dtype)
    before = values(params)
    fn.nn.utils.max_norm_(params, 4.0 if squared else 2.0, squared=squared)
    store = U if dtype == "float32" else 2.0**-8
    for got, old in zip(values(params), before, strict=True):
        expected = ref.max_norm(old, 2.0) if old.size else old
        assert_within(got, expected, (2 * U + store) * np.abs(expected))
        norms = np.sqrt((got.reshape(len(got), -1) ** 2).sum(axis=1)) if got.size else np.zeros(1)
        assert norms.max(initial=0) <= 2.0 * (1 + 2 * store)


def test_max_norm_leaves_small_units_alone():
    w = fn.tensor([[0.3, 0.4], [3.0, 4.0], [np.nan, 1.0]])
    fn.nn.utils.max_norm_(w, 0.5)
    got = np.array(w)
    assert_bitwise_equal(got[0], np.float32([0.3, 0.4]))
    assert_within(got[1], np.array([0.3, 0.4]), 2 * U)
    assert got[2, 1] == 1.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_soft_threshold_makes_zeros(dtype):
    params = tensors(dtype)
    before = values(params)
    fn.nn.utils.soft_threshold_(params, 0.5)
    for got, old in zip(values(params), before, strict=True):
        expected = ref.soft_threshold(old, 0.5)
        store = U if dtype == "float32" else 2.0**-8
        assert_within(got, expected, store * np.abs(expected))
        assert_bitwise_equal(got == 0, np.abs(old) <= 0.5)
    w = fn.tensor([np.nan, np.inf, -np.inf, 0.5, -0.5])
    fn.nn.utils.soft_threshold_(w, 0.5)
    assert_bitwise_equal(np.array(w), np.float32([np.nan, np.inf, -np.inf, 0.0, 0.0]))


@pytest.mark.parametrize("captured", [False, True])
def test_proximal_gradient_descent_solves_the_lasso(captured):
    """min ||w - a||^2 / 2 + 0.5 ||w||_1 is the soft threshold of a: zeros are exact. The rate of a
    captured step may change."""
    target = fn.tensor([[2.0, 0.25, -0.125, -3.0]])
    w = fn.tensor([[1.0, 1.0, 1.0, 1.0]], requires_grad=True)
    optimizer = fn.optim.SGD([w], lr=0.5)
    optimizer.register_step_post_hook(fn.optim.ProximalL1(0.5))

    def step():
        optimizer.zero_grad()
        loss = ((w - target) * (w - target)).sum() * 0.5
        loss.backward()
        optimizer.step()
        return loss

    run = fn.capture(step) if captured else step
    for i in range(100):
        optimizer.param_groups[0]["lr"] = 0.5 if i < 50 else 0.25
        run()
    assert_within(np.array(w.detach()), np.array([[1.5, 0.0, 0.0, -2.5]]), 1e-6)
    assert (np.array(w.detach())[0, 1:3] == 0).all()


@pytest.mark.parametrize("captured", [False, True])
def test_max_norm_holds_after_each_step(captured):
    w, b = tensors(shapes=((6, 4), (6,)))
    optimizer = fn.optim.Adam([w, b], lr=0.5)
    optimizer.prepare()
    optimizer.register_step_post_hook(fn.optim.MaxNorm(1.5))

    def step(g):
        w.grad = g
        optimizer.step()
        return g

    run = fn.capture(step) if captured else step
    for seed in range(20):
        run(fn.tensor(np.random.default_rng(seed).standard_normal((6, 4))))
        assert np.sqrt((values([w])[0] ** 2).sum(axis=1)).max() <= 1.5 * (1 + 2 * U)


@pytest.mark.parametrize("captured", [False, True])
def test_a_refused_step_is_not_constrained_either(captured):
    (w,) = tensors(shapes=((6, 4),))
    optimizer = fn.optim.SGD([w], lr=0.5)
    optimizer.register_step_post_hook(fn.optim.MaxNorm(0.5))
    optimizer.register_step_post_hook(fn.optim.ProximalL1(0.5))

    def step(g):
        w.grad = g
        optimizer.step()
        return g

    run = fn.capture(step) if captured else step
    run(fn.tensor(np.ones((6, 4), np.float32)))
    before = values([w])[0]
    bad = np.ones((6, 4), np.float32)
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="in parameter 0 at flat index 9; nothing was updated"):
        run(fn.tensor(bad))
    assert_bitwise_equal(values([w])[0], before)


def test_constraints_take_the_weights_or_what_they_are_told():
    w, b = tensors(shapes=((6, 4), (6,)))
    optimizer = fn.optim.SGD([w, b], lr=1.0)
    remove = optimizer.register_step_post_hook(fn.optim.ProximalL1(10.0))
    w.grad, b.grad = fn.zeros(6, 4), fn.zeros(6)
    optimizer.step()
    assert not values([w])[0].any()
    assert values([b])[0].all()
    remove()
    optimizer.register_step_post_hook(fn.optim.ProximalL1(10.0, [b]))
    optimizer.step()
    assert not values([b])[0].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fn.optim.MaxNorm(0.0), "MaxNorm: expected max_norm > 0, got 0.0"),
        (lambda: fn.optim.ProximalL1(-1.0), "ProximalL1: expected a finite l1 >= 0, got -1.0"),
        (lambda: fn.nn.utils.max_norm_([fn.zeros(2, 2)], -1.0),
         "max_norm_: expected max_norm > 0, got -1"),
        (lambda: fn.nn.utils.max_norm_([fn.zeros(2)], 1.0),
         "max_norm_: expected parameters of at least two axes, got parameter 0 of shape (2,)"),
        (lambda: fn.nn.utils.soft_threshold_([fn.zeros(2)], float("nan")),
         "soft_threshold_: expected a finite threshold >= 0, got nan"),
    ],
)  # fmt: skip
def test_wrong_constraints_are_refused(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message


# ---- penalties on several parameters -------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_penalty_is_that_of_all_parameters_as_one_vector(dtype):
    params = tensors(dtype)
    params[1].requires_grad = False
    penalty = fn.F.elastic_net_penalty(params, l1=0.25, l2=0.5)
    (penalty * 2.0).backward()
    flat = np.concatenate([v.reshape(-1) for v in values(params)])
    expected = 0.25 * np.abs(flat).sum() + 0.5 * (flat**2).sum()
    assert penalty.dtype == "float32"
    assert_within(np.array(penalty.detach()), np.array(expected), 2 * U * expected)
    assert params[1].grad is None
    store = U if dtype == "float32" else 2.0**-8
    for p, w in zip(params, values(params), strict=True):
        if p.grad is not None:
            slope = 2.0 * (0.25 * np.sign(w) + w)
            assert_within(np.array(p.grad, np.float64), slope, (4 * U + store) * np.abs(slope))


def test_forms_of_the_elastic_net():
    (w,) = tensors(shapes=((40,),))
    a = fn.F.elastic_net_penalty(w, 0.25, beta=0.5).item()
    assert a == fn.F.elastic_net_penalty([w], l1=0.25, l2=0.125).item()
    parts = fn.F.l1_penalty(w, 0.25).item() + fn.F.l2_penalty(w, 0.25, half=True).item()
    assert_within(np.float32(a), np.array(parts), 4 * U * parts)


def test_a_penalty_of_large_weights_is_finite():
    w = fn.tensor([1e19, -1e19], requires_grad=True)
    fn.F.l2_penalty([w], 1e-3).backward()
    assert_within(np.array(w.grad), np.array([2e16, -2e16]), 4 * U * 2e16)
    assert fn.F.l2_penalty([fn.tensor([1e20])], 1e-30).item() == np.float32(1e10)
