"""Optimizers and clipping: gradients, options and histories that broke other libraries."""

import math

import fastnn as fn
import numpy as np
import pytest
from adversarial_helpers import INF, MAX, NAN, TINY, Wrong, check_wrong
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.ops import OPTIMIZERS

ROWS = {row.name: row for row in OPTIMIZERS}
SQUARES = [name for name, row in ROWS.items() if row.squares]
DTYPES = ("float32", "bfloat16")


def make(name, values, dtype="float32", **options):
    p = fn.tensor(np.float32(values), dtype, requires_grad=True)
    return p, getattr(fn.optim, name)([p], **options)


def step(p, optimizer, gradient):
    p.grad = fn.tensor(np.broadcast_to(np.float32(gradient), p.shape), p.dtype)
    optimizer.step()
    return np.array(p.detach())


def state(p, optimizer):
    slots = optimizer.state_dict()["state"].get(0, {})
    return [np.array(p.detach()).tobytes(), *(np.asarray(v).tobytes() for v in slots.values())]


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ROWS)
def test_38_no_gradient_for_ever_moves_no_bit(name, threads, dtype):
    fn.set_num_threads(threads)
    values = np.resize([1.0, -3.0, 0.0, -0.0, 1e30, TINY, MAX], 40_007)
    p, optimizer = make(name, values, dtype, weight_decay=0.0)
    before = np.array(p.detach())
    for _ in range(100):
        after = step(p, optimizer, 0.0)
    assert_bitwise_equal(after, before)


@pytest.mark.parametrize("g", [1.0, -1.0, 1e-8, 1e-30, 1e15, TINY])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_39_the_first_step_of_adam(name, g):
    """lr |g| / (|g| + eps), and nothing where the moment, a tenth of g, is below 2^-110."""
    p, optimizer = make(name, [0.0], lr=0.5)
    eps, g = float(np.float32(1e-8)), float(np.float32(g))
    expected = -0.5 * g / (abs(g) + eps) if 0.1 * abs(g) >= 2.0**-110 else 0.0
    assert_within(step(p, optimizer, g), np.array([expected]), 16 * U * abs(expected))


@pytest.mark.parametrize("g", [1e20, -1e20, 1e30, MAX])
@pytest.mark.parametrize("name", SQUARES)
def test_40_a_square_that_overflows_is_refused(name, g):
    """It would freeze its weight for ever."""
    p, optimizer = make(name, [1.0, 2.0, 3.0])
    step(p, optimizer, 0.5)
    before = state(p, optimizer)
    check_wrong(
        Wrong(
            lambda: step(p, optimizer, [0, g, 0]),
            ValueError,
            f"{name.lower()}: expected a gradient whose square is finite, got one that overflows "
            "the second moment in parameter 0 at flat index 1; nothing was updated",
        )
    )
    assert state(p, optimizer) == before


@pytest.mark.parametrize("g", [1e18, -1e19])
@pytest.mark.parametrize("name", SQUARES)
def test_40_a_square_that_does_not_overflow_is_taken(name, g):
    p, optimizer = make(name, [0.0, 0.0])
    after = step(p, optimizer, [0, g])
    assert after[0] == 0
    assert np.isfinite(after[1])
    assert np.sign(after[1]) == -np.sign(g)


@pytest.mark.parametrize("g", [1e20, 1e30])
@pytest.mark.parametrize("name", [n for n in ROWS if n not in SQUARES])
def test_40_without_squares_nothing_overflows(name, g):
    p, optimizer = make(name, [0.0], lr=1e-3)
    after = step(p, optimizer, g)[0]
    expected = -1e-3 * (g if name == "SGD" else 1.0)
    assert abs(after - expected) <= 4 * U * abs(expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ROWS)
def test_41_one_bad_element_leaves_everything_alone(name, bad, dtype):
    p, optimizer = make(name, np.ones(20_001), dtype)
    step(p, optimizer, 0.25)
    before = state(p, optimizer)
    g = np.full(20_001, 0.25, np.float32)
    g[20_000] = bad
    with pytest.raises(ValueError, match="in parameter 0 at flat index 20000; nothing was updated"):
        step(p, optimizer, g)
    assert state(p, optimizer) == before
    assert np.isfinite(step(p, optimizer, 0.25)).all()


@pytest.mark.parametrize("name", ROWS)
def test_51_subnormal_gradients_are_taken(name):
    """No step is NaN, and none goes the wrong way."""
    p, optimizer = make(name, [0.0, 0.0, 1.0])
    for _ in range(5):
        after = step(p, optimizer, [TINY, -(2.0**-130), 0.0])
    assert np.isfinite(after).all()
    assert after[0] <= 0 <= after[1]
    assert after[2] == 1 or name in ("AdamW",)


MOMENTS = {
    "Adam": ("exp_avg", {}),
    "AdamW": ("exp_avg", {}),
    "NAdam": ("exp_avg", {}),
    "RAdam": ("exp_avg", {}),
    "Adamax": ("exp_avg", {}),
    "SGD": ("momentum_buffer", {"lr": 1e-3, "momentum": 0.9}),
    "RMSprop": ("momentum_buffer", {"momentum": 0.9}),
    "Lion": ("exp_avg", {"betas": (0.9, 0.9)}),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_51_a_moment_ends_before_it_is_subnormal_times_a_rate(name):
    """As that of a weight does whose input is never seen again. Lion's sign counts to the last."""
    slot, options = MOMENTS[name]
    p, optimizer = make(name, [1.0], **options)
    step(p, optimizer, 1.0)
    moments = []
    for _ in range(900):
        step(p, optimizer, 0.0)
        moments.append(abs(float(np.asarray(optimizer.state_dict()["state"][0][slot])[0])))
    least = min(m for m in moments if m > 0)
    bound = 2.0**-126 if name == "Lion" else 2.0**-110
    assert bound <= least <= 2 * bound
    assert moments[-1] == 0


# ---- options -------------------------------------------------------------------------------------

OUT_OF_RANGE = {
    "lr": ((-1.0, NAN, INF, -INF), "a finite lr >= 0.0"),
    "weight_decay": ((-1.0, NAN, INF), "a finite weight_decay >= 0.0"),
    "eps": ((-1e-8, NAN, INF), "a finite eps >= 0.0"),
    "momentum": ((-0.1, NAN, INF), "a finite momentum >= 0.0"),
    "alpha": ((-0.1, 1.0, NAN), "0.0 <= alpha < 1.0"),
    "rho": ((-0.1, 1.0, NAN), "0.0 <= rho < 1.0"),
}
BAD_OPTIONS = [
    (name, option, value, rule)
    for name in ROWS
    for option, (values, rule) in OUT_OF_RANGE.items()
    if option in make(name, [0.0])[1].param_groups[0]
    for value in values
]
BETAS = [name for name in ROWS if "betas" in make(name, [0.0])[1].param_groups[0]]


@pytest.mark.parametrize(("name", "option", "value", "rule"), BAD_OPTIONS)
def test_42_options_out_of_range(name, option, value, rule):
    message = f"{name}: expected {rule}, got {value}"
    check_wrong(Wrong(lambda: make(name, [0.0], **{option: value}), ValueError, message))


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, NAN)])
@pytest.mark.parametrize("name", BETAS)
def test_42_betas_out_of_range(name, betas):
    i = 0 if not 0 <= betas[0] < 1 else 1
    message = f"{name}: expected 0.0 <= betas[{i}] < 1.0, got {betas[i]}"
    check_wrong(Wrong(lambda: make(name, [0.0], betas=betas), ValueError, message))


@pytest.mark.parametrize("name", ROWS)
def test_42_a_rate_of_0_moves_no_bit(name):
    values = np.float32([1.0, -0.0, TINY, 1e15])
    p, optimizer = make(name, values, lr=0.0, weight_decay=0.1)
    for g in (1.0, -3.0):
        after = step(p, optimizer, g)
    assert_bitwise_equal(after + np.float32(0), values + np.float32(0))


@pytest.mark.parametrize("betas", [(0.0, 0.0), (0.0, 0.999), (0.9, 0.0)])
@pytest.mark.parametrize("name", BETAS)
def test_42_betas_of_0_forget_at_once(name, betas):
    """Steps stay finite and go down the gradient; without memory they are all alike."""
    p, optimizer = make(name, [0.0], betas=betas, lr=1e-3)
    values = [0.0, *(step(p, optimizer, 2.0)[0] for _ in range(4))]
    steps = -np.diff(values)
    assert (steps > 0).all()
    if betas == (0.0, 0.0) and name in ("Adam", "Adamax", "Lion"):
        assert np.abs(steps - 1e-3).max() <= 1e-8


@pytest.mark.parametrize("name", [n for n in ROWS if "eps" in make(n, [0.0])[1].param_groups[0]])
def test_42_eps_of_0(name):
    """A weight that has had no gradient yet does not become 0 / 0."""
    p, optimizer = make(name, [1.0, 1.0], eps=0.0, weight_decay=0.0)
    for _ in range(3):
        after = step(p, optimizer, [0.0, 1.0])
    assert after[0] == 1
    assert np.isfinite(after[1])
    assert after[1] < 1 or name == "Adadelta"  # whose first step is sqrt(eps)


@pytest.mark.parametrize("name", ROWS)
def test_43_bfloat16_weights_move_as_float32_ones(name):
    """The state is float32, so an eps of 1e-8 is not 0 there."""
    wide, one = make(name, np.zeros(8), weight_decay=0.0)
    narrow, other = make(name, np.zeros(8), "bfloat16", weight_decay=0.0)
    for i in range(3):
        g = 2.0 ** -np.arange(8) * (-1) ** i
        a, b = step(wide, one, g), step(narrow, other, g)
    assert_within(b, a, 6 * 2.0**-8 * np.abs(a).max())
    for slot, value in other.state_dict()["state"][0].items():
        assert np.asarray(value).dtype != np.uint16, slot


@pytest.mark.parametrize("name", ROWS)
def test_44_the_step_count_passes_2_to_the_31(name):
    p, optimizer = make(name, [1.0])
    step(p, optimizer, 1.0)
    late = optimizer.state_dict()
    late["state"][0]["step"] = 2**31 - 1
    optimizer.load_state_dict(late)
    for _ in range(3):
        after = step(p, optimizer, 1.0)
    assert optimizer.step_count == 2**31 + 2
    assert np.isfinite(after).all()


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)], ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_47_a_parameter_without_elements(name, shape):
    empty, p = fn.zeros(*shape), fn.ones(2)
    for q in (empty, p):
        q.requires_grad = True
    optimizer = getattr(fn.optim, name)([empty, p])
    empty.grad, p.grad = fn.zeros(*shape), fn.ones(2)
    before = np.array(p.detach())
    optimizer.step()
    assert empty.shape == shape
    assert (np.array(p.detach()) < before).all()


@pytest.mark.parametrize("name", ROWS)
def test_47_a_frozen_parameter_stays_and_one_that_comes_later_starts_afresh(name):
    frozen, p = fn.ones(3), fn.ones(3)
    for q in (frozen, p):
        q.requires_grad = True
    optimizer = getattr(fn.optim, name)([frozen, p], weight_decay=0.1)
    before = np.array(frozen.detach())
    step(p, optimizer, 1.0)
    assert_bitwise_equal(np.array(frozen.detach()), before)
    late = fn.ones(3)
    late.requires_grad = True
    optimizer.add_param_group({"params": [late]})
    fresh, alone = make(name, np.ones(3), weight_decay=0.1)
    p.grad = None
    assert_bitwise_equal(step(late, optimizer, 0.5), step(fresh, alone, 0.5))


@pytest.mark.parametrize("name", ROWS)
def test_47_a_shared_parameter_is_updated_once(name):
    class Tied(fn.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = fn.nn.Linear(2, 2, bias=False)
            self.second = self.first

    model = Tied()
    assert len(list(model.parameters())) == 1
    w = model.first.weight
    p, alone = make(name, np.array(w.detach()))
    optimizer = getattr(fn.optim, name)(model.parameters())
    g = np.float32([[1, -1], [0.5, 2]])
    assert_bitwise_equal(step(w, optimizer, g), step(p, alone, g))


# ---- clipping ------------------------------------------------------------------------------------


def clip(grads, max_norm, **options):
    params = [fn.zeros(*np.shape(g)) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.requires_grad = True
        p.grad = fn.tensor(np.float32(g))
    norm = fn.nn.utils.clip_grad_norm_(params, max_norm, **options).item()
    return norm, [np.array(p.grad) for p in params]


NORMS = {
    "48 two of 1e20": ([1e20, 1e20], 2.0, math.sqrt(2) * 1e20),
    "48 a thousand of 1e36": ([1e36] * 1000, 2.0, math.sqrt(1000) * 1e36),
    "48 norm 1 of 1e38": ([1e38, -1e38], 1.0, 2e38),
    "48 norm 3 of 1e30": ([1e30, -1e30], 3.0, 2 ** (1 / 3) * 1e30),
    "48 the largest of the largest": ([MAX, -MAX], INF, MAX),
    "50 norm 0": ([0.0, -0.0], 2.0, 0.0),
    "50 norm 1": ([1.0, -2.0, 3.0], 1.0, 6.0),
    "50 norm 2": ([3.0, -4.0], 2.0, 5.0),
    "50 the largest": ([1.0, -2.0, 0.5], INF, 2.0),
    "51 subnormals": ([2.0**-140] * 4, 2.0, 2.0**-139),
    "51 the smallest": ([TINY], 2.0, TINY),
    "51 squares that underflow": ([1e-30, 1e-30], 2.0, math.sqrt(2) * 1e-30),
    "51 norm 1 of the smallest": ([TINY] * 5, 1.0, 5 * TINY),
}


@pytest.mark.parametrize("max_norm", [0.0, 0.5, INF])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", NORMS)
def test_48_50_51_norms_and_what_they_scale(case, threads, max_norm):
    fn.set_num_threads(threads)
    g, p, expected = np.float32(NORMS[case][0]), *NORMS[case][1:]
    norm, (after,) = clip([g], max_norm, norm_type=p)
    rounded = 2e-7 if p == 3 else 4 * U  # of powers, through exp and log
    assert_within(np.float32(norm), np.float64(expected), rounded * expected + TINY)
    factor = min(1.0, max_norm / expected) if expected else 1.0
    if factor == 1:
        assert_bitwise_equal(after, g)
    else:
        want = factor * g.astype(np.float64)
        assert_within(after, want, (rounded + 4 * U) * np.abs(want) + TINY)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, INF])
@pytest.mark.parametrize("max_norm", [0.0, 1.0, INF])
def test_49_bad_gradients_are_left_as_they_are(bad, p, max_norm):
    grads = [np.ones(5, np.float32), np.float32([1, bad, 2])]
    params = [fn.zeros(5), fn.zeros(3)]
    for q, g in zip(params, grads, strict=True):
        q.requires_grad = True
        q.grad = fn.tensor(g)
    with pytest.raises(ValueError, match="expected finite gradients, got a norm that is NaN or"):
        fn.nn.utils.clip_grad_norm_(params, max_norm, norm_type=p)
    for q, g in zip(params, grads, strict=True):
        assert_bitwise_equal(np.array(q.grad), g)


@pytest.mark.parametrize(
    ("max_norm", "norm_type", "message"),
    [
        (-1.0, 2.0, "clip_grad_norm_: expected max_norm >= 0, got -1"),
        (NAN, 2.0, "clip_grad_norm_: expected max_norm >= 0, got nan"),
        (1.0, 0.0, "clip_grad_norm_: expected norm_type > 0, got 0"),
        (1.0, -INF, "clip_grad_norm_: expected norm_type > 0, got -inf"),
        (1.0, NAN, "clip_grad_norm_: expected norm_type > 0, got nan"),
    ],
)
def test_50_bad_limits(max_norm, norm_type, message):
    check_wrong(Wrong(lambda: clip([[1.0]], max_norm, norm_type=norm_type), ValueError, message))


@pytest.mark.parametrize("max_norm", [0.0, 0.5, INF])
@pytest.mark.parametrize("name", ROWS)
def test_48_clipping_inside_the_step_takes_what_would_overflow(name, max_norm):
    """Two gradients of 1e20 under a limit are small ones, also for a second moment."""
    p, optimizer = make(name, [1.0, 1.0], weight_decay=0.0)
    p.grad = fn.tensor([1e20, 1e20])
    if max_norm == INF and name in SQUARES:
        with pytest.raises(ValueError, match="second moment"):
            optimizer.step(max_grad_norm=max_norm)
        assert np.array(p.detach()).tolist() == [1, 1]
        return
    optimizer.step(max_grad_norm=max_norm)
    after = np.array(p.detach())
    assert np.isfinite(after).all()
    assert (after == 1).all() if max_norm == 0 else (after < 1).all()
