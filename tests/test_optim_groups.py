"""Groups of parameters, late gradients, clipping inside a step, hooks, other optimizers' states."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn.testing.compare import U, assert_bitwise_equal, assert_within
from fastnn.testing.ops import OPTIMIZERS

ROWS = [pytest.param(r, id=r.name) for r in OPTIMIZERS]
CASES = [
    pytest.param(r, o, id=f"{r.name}-{i}") for r in OPTIMIZERS for i, o in enumerate(r.options)
]


def parameters(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [fn.tensor(rng.standard_normal(n), requires_grad=True) for n in sizes]


def set_gradients(params, rng):
    for p in params:
        p.grad = fn.tensor(rng.standard_normal(p.shape))


def values(params):
    return [np.array(p.detach()) for p in params]


def assert_same(params, others):
    for a, b in zip(values(params), values(others), strict=True):
        assert_bitwise_equal(a, b)


@pytest.mark.parametrize(("row", "options"), CASES)
def test_a_parameter_whose_first_gradient_is_late_starts_like_any_other(row, options):
    """Each parameter counts its own steps, as in torch."""
    late, early, alone = parameters(7, 5, 7)
    _core.copy_(alone, late.detach())
    both = getattr(fn.optim, row.name)([early, late], **options)
    single = getattr(fn.optim, row.name)([alone], **options)
    rng = np.random.default_rng(1)
    for step in range(6):
        early.grad = fn.tensor(rng.standard_normal(5))
        if step >= 3:
            late.grad = alone.grad = fn.tensor(rng.standard_normal(7))
            single.step()
        both.step()
    assert_same([late], [alone])
    assert [both.state_dict()["state"][i]["step"] for i in (0, 1)] == [6, 3]


@pytest.mark.parametrize("row", ROWS)
def test_groups_are_optimizers_of_their_own(row):
    a, b = parameters(30, 20_000), parameters(30, 20_000)
    make, other = getattr(fn.optim, row.name), {"lr": 0.05, "weight_decay": 0.01}
    grouped = make([{"params": a[:1]}], lr=0.01)
    grouped.add_param_group({"params": a[1], **other})
    alone = make(b[:1], lr=0.01), make(b[1:], **other)
    for step in range(3):
        set_gradients(a, np.random.default_rng(step))
        set_gradients(b, np.random.default_rng(step))
        grouped.step()
        for optimizer in alone:
            optimizer.step()
    assert_same(a, b)


def test_a_step_is_three_launches_for_each_group():
    params = parameters(*[10] * 12)
    for groups in (1, 2, 3):
        sets = [{"params": params[i::groups]} for i in range(groups)]
        optimizer = fn.optim.Adam(sets)
        optimizer.prepare()
        set_gradients(params, np.random.default_rng(0))
        plan = _core.Plan()
        plan.begin()
        optimizer.step()
        plan.end()
        assert plan.num_launches == 3 * groups  # the check, the count, the update


def test_a_refused_group_changes_nothing():
    a, b = parameters(3, 3)
    optimizer = fn.optim.SGD([a])
    for group, message in (
        ({"params": a}, "SGD: expected each parameter once, got one of shape (3,) twice"),
        ({"params": b, "lr": -1.0}, "SGD: expected a finite lr >= 0.0, got -1.0"),
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            optimizer.add_param_group(group)
        assert str(caught.value) == message
        assert len(optimizer.param_groups) == 1


def test_a_captured_step_knows_of_a_new_group():
    a, b = parameters(3, 3)
    optimizer = fn.optim.SGD([a], lr=1.0)
    g = fn.tensor(np.ones(3, np.float32))

    @fn.capture
    def step():
        a.grad = b.grad = g
        optimizer.step()
        return g

    step()
    before = np.array(b.detach())
    optimizer.add_param_group({"params": [b]})
    step()
    assert_bitwise_equal(np.array(b.detach()), before - np.float32(1))


@pytest.mark.parametrize(("row", "options"), CASES)
def test_captured_steps_have_the_bits_of_eager_ones(row, options):
    results = []
    for captured in (False, True):
        params = parameters(5, 20_000)
        optimizer = getattr(fn.optim, row.name)(params, **options)
        optimizer.prepare()

        def step(g, h, params=params, optimizer=optimizer):
            params[0].grad, params[1].grad = g, h
            optimizer.step(max_grad_norm=20.0)
            return g

        run = fn.capture(step) if captured else step
        rng = np.random.default_rng(2)
        for i in range(8):
            optimizer.param_groups[0]["lr"] = 0.01 / (i + 1)
            run(*(fn.tensor(rng.standard_normal(n)) for n in (5, 20_000)))
        results.append(params)
        assert optimizer.step_count == 8
    assert_same(*results)


@pytest.mark.parametrize(("row", "options"), CASES)
def test_threads_change_nothing(row, options):
    results = []
    for threads in (1, 3):
        fn.set_num_threads(threads)
        params = parameters(40_003, 7, 100_000)
        optimizer = getattr(fn.optim, row.name)(params, **options)
        for step in range(3):
            set_gradients(params, np.random.default_rng(step))
            optimizer.step(max_grad_norm=1.0)
        results.append(params)
    assert_same(*results)


# ---- clipping inside the step ------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e25])
def test_clipping_inside_the_step_is_clipping_before_it(row, scale):
    """Up to the rounding of the clipped gradients; they themselves stay as they are."""
    a, b = parameters(30, 20_000), parameters(30, 20_000)
    inside, before = (
        getattr(fn.optim, row.name)([{"params": p[:1]}, {"params": p[1:], "lr": 0.1}])
        for p in (a, b)
    )
    rng = np.random.default_rng(3)
    for _ in range(3):
        for p, q in zip(a, b, strict=True):
            p.grad = fn.tensor(scale * rng.standard_normal(p.shape))
            q.grad = fn.tensor(np.array(p.grad))
        kept = [np.array(p.grad) for p in a]
        inside.step(max_grad_norm=1.0)
        fn.nn.utils.clip_grad_norm_(b, 1.0)
        before.step()
        for p, old in zip(a, kept, strict=True):
            assert_bitwise_equal(np.array(p.grad), old)
    for got, expected in zip(values(a), values(b), strict=True):
        assert_within(got, expected.astype(np.float64), 64 * U * (1 + np.abs(expected)))


@pytest.mark.parametrize("name", ["Adam", "SGD"])  # SGD's gradients have the norm as a witness
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_clipping_inside_the_step_names_a_bad_gradient(name, bad):
    params = parameters(3, 4)
    optimizer = getattr(fn.optim, name)([{"params": params[:1]}, {"params": params[1:]}])
    set_gradients(params, np.random.default_rng(4))
    g = np.ones(4, np.float32)
    g[2] = bad
    params[1].grad = fn.tensor(g)
    before = values(params)
    with pytest.raises(ValueError, match="expected finite") as caught:
        optimizer.step(max_grad_norm=1.0)
    assert str(caught.value) == (
        f"{name.lower()}: expected finite gradients, got NaN or infinity in parameter 1 at flat "
        "index 2; nothing was updated"
    )
    for got, expected in zip(values(params), before, strict=True):
        assert_bitwise_equal(got, expected)
    with pytest.raises(ValueError, match="expected max_grad_norm") as caught:
        optimizer.step(max_grad_norm=-1.0)
    assert str(caught.value) == f"{name}: expected max_grad_norm >= 0, got -1.0"


def test_clipping_inside_the_step_takes_finite_gradients_whose_norm_is_infinite():
    params = parameters(3, 4)
    optimizer = fn.optim.SGD(params, lr=1.0)
    before = values(params)
    for p in params:
        p.grad = fn.tensor(np.full(p.shape, 3e38, np.float32))
    optimizer.step(max_grad_norm=1.0)
    for got, old in zip(values(params), before, strict=True):
        np.testing.assert_allclose(got, old - 7.0**-0.5, atol=1e-5)  # the factor is subnormal


# ---- overflow of what is kept, and options at their limits ---------------------------------------


def test_a_sum_of_squares_that_would_overflow_is_reported():
    """Each square is finite, but not all of them together: the weight would never move again."""
    (p,) = parameters(3)
    optimizer = fn.optim.Adagrad([p])
    p.grad = fn.tensor([1.0, 1.5e19, 1.0])
    optimizer.step()
    before = values([p])
    with pytest.raises(ValueError, match="second moment") as caught:
        optimizer.step()
    assert str(caught.value) == (
        "adagrad: expected a gradient whose square is finite, got one that overflows the second "
        "moment in parameter 0 at flat index 1; nothing was updated"
    )
    assert_bitwise_equal(values([p])[0], before[0])


@pytest.mark.parametrize("at", [0, 17])
@pytest.mark.parametrize("row", [r for r in OPTIMIZERS if r.squares], ids=lambda r: r.name)
def test_only_a_gradient_whose_square_overflows_is_reported(row, at):
    largest = np.nextafter(np.float32(2.0**64), np.float32(0))
    for size in (2.0**51, 2.0**52, largest, 2.0**64):
        p = fn.tensor(np.ones(21, np.float32), requires_grad=True)
        optimizer = getattr(fn.optim, row.name)([p])
        g = np.ones(21, np.float32)
        g[at] = -size
        p.grad = fn.tensor(g)
        if size <= largest:
            optimizer.step()
            after = np.array(p.detach())
            assert np.isfinite(after).all()
            assert after[at] > 1 > after[3]
        else:
            with pytest.raises(ValueError, match=f"second moment in parameter 0 at .* {at};"):
                optimizer.step()


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e15, 1e18])
@pytest.mark.parametrize("maximize", [False, True])
def test_the_square_looked_at_is_of_the_clipped_gradient(maximize, limit):
    """Its factor may make a large gradient harmless, but not one that stays large."""
    p = fn.tensor([1.0, 1.0], requires_grad=True)
    optimizer = fn.optim.Adam([p], lr=0.1, maximize=maximize)
    p.grad = fn.tensor([0.0, 1e30])
    optimizer.step(max_grad_norm=limit)
    np.testing.assert_allclose(p.detach().numpy(), [1.0, 1.1 if maximize else 0.9], rtol=1e-5)
    with pytest.raises(ValueError, match="second moment in parameter 0 at flat index 1"):
        optimizer.step(max_grad_norm=1e25)


def test_the_square_looked_at_is_of_the_unscaled_gradient():
    """A scale below 1 makes a small gradient large: 2^20 is 2^70, whose square is not finite."""
    for exponent, expected in ((-20, 0.9), (20, 1.0)):
        p = fn.tensor([1.0], requires_grad=True)
        scaler = fn.amp.GradScaler("cpu", 2.0**-50)
        p.grad = fn.tensor([2.0**exponent])
        scaler.step(fn.optim.Adam([p], lr=0.1))
        scaler.update()
        np.testing.assert_allclose(p.detach().numpy(), [expected], rtol=1e-5)


def test_a_decay_whose_square_overflows_is_reported():
    p = fn.tensor([1.0, 1e22], requires_grad=True)
    p.grad = fn.tensor([1.0, 1.0])
    with pytest.raises(ValueError, match="second moment in parameter 0 at flat index 1"):
        fn.optim.Adam([p], weight_decay=0.01).step()


@pytest.mark.parametrize("row", [r for r in OPTIMIZERS if "eps" in r.converges or r.squares],
                         ids=lambda r: r.name)  # fmt: skip
def test_without_eps_a_zero_gradient_moves_nothing(row):
    (p,) = parameters(3)
    before = values([p])
    p.grad = fn.zeros(3)
    getattr(fn.optim, row.name)([p], eps=0.0, weight_decay=0.0).step()
    assert_bitwise_equal(values([p])[0], before[0])


@pytest.mark.parametrize("row", ROWS)
def test_very_late_steps(row):
    """2^40 steps: counts are 64 bits, and decays to that power are 0."""
    (p,) = parameters(3)
    optimizer = getattr(fn.optim, row.name)([p], weight_decay=0.0)
    p.grad = fn.tensor([1.0, -1.0, 0.5])
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["step"] = 2**40
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.step_count == 2**40 + 1
    assert np.isfinite(values([p])[0]).all()


def test_amsgrad_never_forgets():
    (p,) = parameters(50)
    optimizer = fn.optim.Adam([p], amsgrad=True, betas=(0.9, 0.5))
    rng, largest = np.random.default_rng(5), np.zeros(50, np.float32)
    for _ in range(30):
        p.grad = fn.tensor(rng.standard_normal(50))
        optimizer.step()
        state = optimizer.state_dict()["state"][0]
        largest = np.maximum(largest, state["exp_avg_sq"])
        assert_bitwise_equal(state["max_exp_avg_sq"], largest)


# ---- states ------------------------------------------------------------------------------------


def test_a_state_of_torch_is_understood():
    """Steps as float scalars, and a velocity without a step in SGD."""
    (p,) = parameters(3)
    adam = fn.optim.Adam([p])
    ones = np.ones(3, np.float32)
    group = {"params": [0], "lr": 0.5, "foreach": None}
    values = {"step": np.float32(7), "exp_avg": ones, "exp_avg_sq": 2 * ones}
    adam.load_state_dict({"param_groups": [group], "state": {0: values}})
    assert (adam.step_count, adam.param_groups[0]["lr"]) == (7, 0.5)
    assert "foreach" not in adam.param_groups[0]
    assert adam.state_dict()["state"][0]["exp_avg_sq"].tolist() == [2, 2, 2]
    sgd = fn.optim.SGD([p], momentum=0.9, dampening=0.5)
    sgd.load_state_dict({"param_groups": [group], "state": {0: {"momentum_buffer": ones}}})
    p.grad = fn.zeros(3)
    sgd.step()
    assert sgd.state_dict()["state"][0]["momentum_buffer"].tolist() == [np.float32(0.9)] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exp_avgs": 1}, "Adam: expected state ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq'), got "
         "'exp_avgs'"),
        ({"step": -1}, "Adam: expected a step count >= 0 of parameter 0, got -1"),
    ],
)  # fmt: skip
def test_a_bad_state_is_refused(values, message):
    optimizer = fn.optim.Adam(parameters(3))
    with pytest.raises(ValueError, match="expected") as caught:
        optimizer.load_state_dict({"param_groups": [{"params": [0]}], "state": {0: values}})
    assert str(caught.value) == message


# ---- helpers -----------------------------------------------------------------------------------


def test_biases_and_norms_are_not_decayed():
    model = fn.nn.Sequential(
        fn.nn.Linear(3, 4), fn.nn.LayerNorm((5, 4)), fn.nn.ReLU(), fn.nn.Linear(4, 2)
    )
    groups = fn.optim.param_groups_weight_decay(model, 0.1)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert [len(g["params"]) for g in groups] == [2, 4]
    groups = fn.optim.param_groups_weight_decay(model, 0.1, ["3.weight"])
    assert [p.shape for p in groups[0]["params"]] == [(4, 3)]
    with pytest.raises(ValueError, match="expected paths") as caught:
        fn.optim.param_groups_weight_decay(model, 0.1, ["4.weight"])
    assert str(caught.value) == (
        "param_groups_weight_decay: expected paths of parameters, got '4.weight'"
    )


def test_switching_from_adam_to_sgd_while_training():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    weights = []
    for capture in (True, False):
        fn.manual_seed(0)
        model = fn.nn.Sequential(fn.nn.Linear(3, 8), fn.nn.Tanh(), fn.nn.Linear(8, 2))
        adam = fn.optim.Adam(model.parameters(), weight_decay=0.01)
        trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), adam, capture=capture)

        class Switch(fn.train.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 1:
                    trainer = self.trainer
                    trainer.optimizer = fn.optim.switch(trainer.optimizer, fn.optim.SGD, lr=0.1)

        trainer.fit(x, y, epochs=4, callbacks=[Switch()], verbose=0)
        assert isinstance(trainer.optimizer, fn.optim.SGD)
        assert (adam.step_count, trainer.optimizer.step_count) == (4, 4)
        assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.01
        weights.append(values(model.parameters()))
    for a, b in zip(*weights, strict=True):
        assert_bitwise_equal(a, b)
