"""clip_grad_norm_ (grad_norm_chunks, grad_norm_combine, grad_scale): the formula, at any scale."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.reference import optim as ref

SHAPES = ((3, 5), (1,), (20_000,), (0, 2), (17,))


def clip(grads, max_norm):
    params = [fn.tensor(np.zeros_like(g), requires_grad=True) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = fn.tensor(g)
    norm = fn.nn.utils.clip_grad_norm_(params, max_norm).item()
    return norm, [np.array(p.grad) for p in params]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e20, 1e38, 2.0**-140])
@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 1e30])
def test_clipping_follows_the_formula(scale, max_norm):
    rng = np.random.default_rng(7)
    grads = [(scale * rng.uniform(-1, 1, s)).astype(np.float32) for s in SHAPES]
    exact = [g.astype(np.float64) for g in grads]
    norm, clipped = clip(grads, max_norm)
    expected, wanted = ref.clip_grad_norm(exact, float(np.float32(max_norm)))
    limit = 4 * U * expected + 2.0**-149
    assert_within(np.float32(norm), np.array(expected), limit)
    for got, want in zip(clipped, wanted, strict=True):
        # The factor and the product are rounded, u each; a factor below 2^-126 loses digits.
        tiny = 2.0**-149 * scale + 2.0**-149
        assert_within(got, want, 2 * U * (1 + U) * np.abs(want) + tiny)


def test_clipping_leaves_small_gradients_alone():
    g = np.float32([0.3, 0.4])
    norm, (after,) = clip([g], 1.0)
    assert_within(np.float32(norm), np.array(0.5), U)
    assert_bitwise_equal(after, g)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_refuses_bad_gradients_and_scales_nothing(bad):
    p = fn.tensor(np.zeros(40_000), requires_grad=True)
    g = np.ones(40_000, np.float32)
    g[39_999] = bad
    p.grad = fn.tensor(g)
    with pytest.raises(ValueError, match="expected finite") as caught:
        fn.nn.utils.clip_grad_norm_(p, 1.0)
    assert str(caught.value) == (
        "clip_grad_norm_: expected finite gradients, got a norm that is NaN or infinite; "
        "nothing was scaled"
    )
    assert_bitwise_equal(np.array(p.grad), g)


@pytest.mark.parametrize("max_norm", [-1.0, float("nan")])
def test_clipping_refuses_a_bad_limit(max_norm):
    p = fn.tensor([1.0], requires_grad=True)
    p.grad = fn.tensor([1.0])
    with pytest.raises(ValueError, match="expected max_norm >= 0") as caught:
        fn.nn.utils.clip_grad_norm_(p, max_norm)
    assert str(caught.value) == f"clip_grad_norm_: expected max_norm >= 0, got {max_norm:g}"


def test_clipping_nothing_is_zero():
    assert fn.nn.utils.clip_grad_norm_([fn.tensor([1.0], requires_grad=True)], 1.0).item() == 0.0
