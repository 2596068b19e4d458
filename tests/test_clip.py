"""clip_grad_norm_ (grad_norm_max, grad_norm_sum, grad_norm_combine, grad_scale) and
clip_grad_value_ (grad_clamp): the formulas, at any scale."""

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


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e20, 3e38, 2.0**-140])
@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 3.0, 4.0, 10.0, np.inf])
def test_norms_of_any_kind(p, scale):
    """1 and inf are sums and maxima in float64; other p lose |p log x| u in a term and the root."""
    rng = np.random.default_rng(8)
    grads = [(scale * rng.uniform(-1, 1, s)).astype(np.float32) for s in SHAPES]
    params = [fn.tensor(np.zeros_like(g), requires_grad=True) for g in grads]
    for q, g in zip(params, grads, strict=True):
        q.grad = fn.tensor(g)
    limit = np.float32(scale)
    norm = fn.nn.utils.clip_grad_norm_(params, limit, p).item()
    expected, wanted = ref.clip_grad_norm([g.astype(np.float64) for g in grads], float(limit), p)
    relative = (4 if p in (1.0, np.inf) else 64) * U
    assert_within(np.float32(norm), np.array(expected), relative * expected + 2.0**-149)
    for q, want in zip(params, wanted, strict=True):
        bound = relative * np.abs(want) + 2.0**-149 * (1 + scale)
        assert_within(np.array(q.grad), want, bound)


def test_norms_of_zeros():
    for p in (1.0, 2.0, 3.0, np.inf):
        w = fn.tensor([1.0], requires_grad=True)
        w.grad = fn.tensor([0.0])
        assert fn.nn.utils.clip_grad_norm_(w, 1.0, p).item() == 0.0
        assert w.grad.item() == 0.0


@pytest.mark.parametrize("p", [1.0, 3.0, np.inf])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_norms_of_any_kind_refuse_bad_gradients(p, bad):
    w = fn.tensor([1.0, 1.0], requires_grad=True)
    w.grad = fn.tensor([3.0, bad])
    with pytest.raises(ValueError, match="expected finite gradients"):
        fn.nn.utils.clip_grad_norm_(w, 1.0, p)
    assert_bitwise_equal(np.array(w.grad), np.float32([3.0, bad]))


@pytest.mark.parametrize(("p", "text"), [(0.0, "0"), (-1.0, "-1"), (float("nan"), "nan")])
def test_a_bad_kind_of_norm_is_refused(p, text):
    with pytest.raises(ValueError, match="expected norm_type") as caught:
        fn.nn.utils.clip_grad_norm_([], 1.0, p)
    assert str(caught.value) == f"clip_grad_norm_: expected norm_type > 0, got {text}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_clipping_by_value(dtype):
    rng = np.random.default_rng(9)
    params = [fn.tensor(np.zeros(s), dtype, requires_grad=True) for s in SHAPES]
    for p in params:
        p.grad = fn.tensor(rng.standard_normal(p.shape), dtype)
    before = [np.array(p.grad) for p in params]
    fn.nn.utils.clip_grad_value_(params, 0.5)
    for p, old in zip(params, before, strict=True):
        assert_bitwise_equal(np.array(p.grad), np.clip(old, -0.5, 0.5))


def test_clipping_by_value_refuses_bad_input():
    w = fn.tensor(np.zeros(40_000), requires_grad=True)
    g = np.full(40_000, 3, np.float32)
    g[20_001] = np.inf
    w.grad = fn.tensor(g)
    for call, message in (
        (
            lambda: fn.nn.utils.clip_grad_value_(w, 1.0),
            "clip_grad_value_: expected finite gradients, got NaN or infinity in parameter 0 at "
            "flat index 20001; nothing was clipped",
        ),
        (
            lambda: fn.nn.utils.clip_grad_value_(w, -1.0),
            "clip_grad_value_: expected clip_value >= 0, got -1",
        ),
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            call()
        assert str(caught.value) == message
        assert_bitwise_equal(np.array(w.grad), g)
