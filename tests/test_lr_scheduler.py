"""Schedules: end points and closed forms, that they are pure functions, composition, errors."""

import json
import math

import fastnn as fn
import numpy as np
import pytest
from fastnn.optim import lr_scheduler as S


def optimizer(*rates):
    groups = [
        {"params": [fn.tensor([1.0], requires_grad=True)], "lr": lr} for lr in rates or (1.0,)
    ]
    return fn.optim.SGD(groups, lr=1.0)


MAKERS = {
    "lambda": lambda o: S.LambdaLR(o, lambda t: 1 / (1 + t * t)),
    "constant": S.ConstantLR,
    "linear": S.LinearLR,
    "step": lambda o: S.StepLR(o, 3),
    "milestones": lambda o: S.MultiStepLR(o, [7, 3]),
    "exponential": lambda o: S.ExponentialLR(o, 0.9),
    "polynomial": lambda o: S.PolynomialLR(o, 9, 2.0),
    "cosine": lambda o: S.CosineAnnealingLR(o, 8, 0.01),
    "inverse sqrt": lambda o: S.InverseSqrtLR(o, 4),
    "inverse time": S.InverseTimeLR,
    "restarts": lambda o: S.CosineAnnealingWarmRestarts(o, 3, 2),
    "cyclic": lambda o: S.CyclicLR(o, 0.1, 0.7, 3, 5, "triangular2"),
    "one cycle": lambda o: S.OneCycleLR(o, 0.7, 20),
    "sequential": lambda o: S.SequentialLR(o, [S.LinearLR(o), S.ExponentialLR(o, 0.9)], [5]),
    "chained": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o), S.StepLR(o, 2), S.ExponentialLR(o, 0.9)]
    ),
    "warm-up": lambda o: S.WarmupLR(o, 4, then=S.StepLR(o, 3)),
}  # fmt: skip


# ---- values: X34 --------------------

# scheduler of base rate 1, {step: rate}
VALUES = {
    "step decay of ResNet": (
        lambda o: S.MultiStepLR(o, [30, 60, 90], 0.1),
        {0: 1, 29: 1, 30: 0.1, 59: 0.1, 60: 0.01, 90: 0.001, 1000: 0.001},
    ),
    "steps": (lambda o: S.StepLR(o, 30, 0.1), {29: 1, 30: 0.1, 60: 0.01, 90: 0.001}),
    "cosine": (
        lambda o: S.CosineAnnealingLR(o, 100),
        {0: 1, 25: 0.5 * (1 + math.sqrt(0.5)), 50: 0.5, 100: 0},
    ),
    "cosine with a floor": (lambda o: S.CosineAnnealingLR(o, 10, 0.2), {0: 1, 5: 0.6, 10: 0.2}),
    "restarts": (
        lambda o: S.CosineAnnealingWarmRestarts(o, 10, 2),
        {0: 1, 5: 0.5, 10: 1, 20: 0.5, 30: 1, 50: 0.5, 70: 1, 110: 0.5},
    ),
    "restarts of one length": (
        lambda o: S.CosineAnnealingWarmRestarts(o, 10, 1, 0.5),
        {0: 1, 5: 0.75, 10: 1, 1005: 0.75},
    ),
    "linear": (lambda o: S.LinearLR(o, 1, 0, 8), {0: 1, 2: 0.75, 8: 0, 9: 0}),
    "polynomial": (lambda o: S.PolynomialLR(o, 10, 2), {0: 1, 5: 0.25, 10: 0, 11: 0}),
    "inverse square root": (S.InverseSqrtLR, {0: 1, 3: 0.5, 99: 0.1}),
    "1/t": (S.InverseTimeLR, {0: 1, 1: 0.5, 9: 0.1}),
    "slow 1/t": (lambda o: S.InverseTimeLR(o, 0.1), {0: 1, 10: 0.5}),
    "exponential": (lambda o: S.ExponentialLR(o, 0.5), {0: 1, 10: 2**-10}),
    "triangular": (
        lambda o: S.CyclicLR(o, 0.1, 0.5, 4),
        {0: 0.1, 2: 0.3, 4: 0.5, 6: 0.3, 8: 0.1, 12: 0.5},
    ),
    "triangular2": (
        lambda o: S.CyclicLR(o, 0.1, 0.5, 4, 2, "triangular2"),
        {0: 0.1, 4: 0.5, 5: 0.3, 6: 0.1, 10: 0.3, 16: 0.2},
    ),
    "exp_range": (
        lambda o: S.CyclicLR(o, 0, 1, 4, mode="exp_range", gamma=0.9),
        {4: 0.9**4, 12: 0.9**12, 16: 0},
    ),
    "one cycle": (
        lambda o: S.OneCycleLR(o, 2, epochs=10, steps_per_epoch=10, div_factor=4),
        {0: 0.5, 29: 2, 64: 0.5 * (2 + 0.5e-4), 99: 0.5e-4, 100: 0.5e-4, 10**6: 0.5e-4},
    ),
    "one cycle of three lines": (
        lambda o: S.OneCycleLR(o, 2, 100, three_phase=True, anneal_strategy="linear", div_factor=4),
        {0: 0.5, 29: 2, 58: 0.5, 99: 0.5e-4},
    ),
    "one cycle without a way up": (lambda o: S.OneCycleLR(o, 2, 11, pct_start=0), {10: 8e-6}),
    "no warm-up": (lambda o: S.WarmupLR(o, kind="none"), {0: 1, 5000: 1}),
    "constant warm-up": (
        lambda o: S.WarmupLR(o, kind="constant"), {0: 0.1, 4999: 0.1, 5000: 1, 9000: 1},
    ),
    "gradual warm-up": (S.WarmupLR, {0: 0, 1250: 0.25, 4999: 0.9998, 5000: 1, 9000: 1}),
    "gradual warm-up from a quarter": (
        lambda o: S.WarmupLR(o, 4, start_factor=0.25, then=S.ExponentialLR(o, 0.5)),
        {0: 0.25, 2: 0.625, 4: 1, 5: 0.5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_end_points_and_closed_forms(name):
    make, points = VALUES[name]
    scheduler = make(optimizer(1.0))
    got = {t: scheduler.at(t)[0] for t in points}
    assert got == pytest.approx(points, abs=1e-15)


def test_the_transformer():
    d, w = 512, 4000
    scheduler = S.InverseSqrtLR(optimizer((d * w) ** -0.5), w)
    for t in (1, 100, w, 10 * w):
        assert scheduler.at(t - 1)[0] == pytest.approx(d**-0.5 * min(t**-0.5, t * w**-1.5))


def test_plateau():
    """Patience 2: the third epoch that is not better by 1e-4 relative lowers it."""
    o = optimizer(1.0)
    scheduler = S.ReduceLROnPlateau(o, factor=0.1, patience=2, min_lr=0.005, cooldown=1)
    rates = []
    for loss in (1, 0.99995, math.nan, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5):
        scheduler.step(np.float64(loss))
        rates.append(o.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [1] * 3 + [0.1] * 4 + [0.01] * 4 + [0.005])


@pytest.mark.parametrize(("options", "values", "lowered"), [
    ({"mode": "max"}, [1, 2, 3, 4], False),
    ({"mode": "max"}, [1, 1.00005, 1, 1], True),
    ({"mode": "max", "threshold_mode": "abs", "threshold": 0.5}, [1, 1.4, 1.5, 1.3], True),
    ({"threshold_mode": "abs", "threshold": 0.5}, [5, 4.4, 3.8, 3.2], False),
    ({"eps": 0.95}, [1, 1, 1, 1], False),
    ({}, [math.nan] * 4, True),
])  # fmt: skip
def test_what_a_plateau_is(options, values, lowered):
    o = optimizer(1.0)
    scheduler = S.ReduceLROnPlateau(o, patience=1, **options)
    for value in values:
        scheduler.step(value)
    assert (o.param_groups[0]["lr"] < 1) == lowered


# ---- a pure function of the step count --------------------


@pytest.mark.parametrize("name", MAKERS)
def test_stepping_looking_up_and_going_on_agree(name):
    o = optimizer(1.0, 0.25)
    scheduler = MAKERS[name](o)
    table = [scheduler.at(t) for t in range(30)]
    assert scheduler.get_last_lr() == table[0]
    for t in range(1, 12):
        scheduler.step()
        assert scheduler.get_last_lr() == [g["lr"] for g in o.param_groups] == table[t]
    state = json.loads(json.dumps(scheduler.state_dict()))
    again = MAKERS[name](optimizer(0.5, 0.5))
    again.load_state_dict(state)
    assert again.get_last_lr() == table[11]
    again.step(18)
    assert (again.get_last_lr(), again.last_epoch) == (table[29], 29)


@pytest.mark.parametrize("name", MAKERS)
def test_rates_are_finite_and_not_negative_for_ever(name):
    scheduler = MAKERS[name](optimizer(1.0))
    for t in (*range(50), 10**6, 2**53):
        (lr,) = scheduler.at(t)
        assert 0 <= lr < math.inf


def test_last_epoch_goes_on():
    o = optimizer(1.0)
    o.param_groups[0]["initial_lr"] = 2.0
    scheduler = S.ExponentialLR(o, 0.5, last_epoch=1)
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == (2, [0.5])


def test_chained_factors_multiply():
    o = optimizer(1.0)
    chained = MAKERS["chained"](o)
    parts = [S.ConstantLR(o), S.StepLR(o, 2), S.ExponentialLR(o, 0.9)]
    for t in range(20):
        assert chained.at(t)[0] == pytest.approx(math.prod(p.at(t)[0] for p in parts))


def test_plateau_goes_on():
    values = np.random.default_rng(0).random(40)
    o, p = optimizer(1.0), optimizer(1.0)
    first, second = (S.ReduceLROnPlateau(x, patience=2, cooldown=2, factor=0.5) for x in (o, p))
    for v in values[:20]:
        first.step(v)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    p.param_groups[0]["lr"] = o.param_groups[0]["lr"]
    for v in values[20:]:
        first.step(v)
        second.step(v)
        assert first.get_last_lr() == second.get_last_lr()
    assert vars(first) | {"optimizer": 0} == vars(second) | {"optimizer": 0}


# ---- where kernels read rates --------------------


def test_a_captured_step_follows_the_schedule():
    w = fn.tensor([1.0], requires_grad=True)
    sgd = fn.optim.SGD([w], lr=0.5)
    scheduler = S.ExponentialLR(sgd, 0.5)
    records = []

    @fn.capture
    def step(g):
        records.append(1)
        w.grad = g
        sgd.step()

    for _ in range(5):
        step(np.ones(1, np.float32))
        scheduler.step()
    assert w.item() == 1 - 0.5 * (2 - 2**-4)
    assert len(records) == 1


def test_sgd_converges_with_rates_of_1_over_t():
    """With lr = 1 / t and the gradient w - x, SGD is the mean of the samples."""
    x = np.random.default_rng(0).normal(3, 1, 500).astype(np.float32)
    w = fn.tensor([0.0], requires_grad=True)
    sgd = fn.optim.SGD([w], lr=1.0)
    scheduler = S.InverseTimeLR(sgd)
    for value in x:
        w.grad = (w - float(value)).detach()
        sgd.step()
        scheduler.step()
    assert w.item() == pytest.approx(x.mean(), rel=1e-5)


# ---- tools --------------------


def test_plot_draws_each_group(tmp_path):
    scheduler = S.CosineAnnealingLR(optimizer(1.0, 0.5), 10)
    axes = S.plot(scheduler, 11)
    assert [line.get_ydata()[0] for line in axes.lines] == [1.0, 0.5]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["group 0", "group 1"]
    assert scheduler.last_epoch == 0
    axes.figure.savefig(tmp_path / "lr.png")
    assert S.plot(S.StepLR(optimizer(), 3), 5, axes) is axes


# ---- errors --------------------

O = optimizer(1.0, 0.5)  # noqa: E741
ERRORS = [
    (lambda: S.ConstantLR(O, 2.0), "ConstantLR: expected 0 <= factor <= 1, got 2.0"),
    (lambda: S.ConstantLR(O, 0.5, -1), "ConstantLR: expected total_iters >= 0, got -1"),
    (lambda: S.LinearLR(O, -0.5), "LinearLR: expected 0 <= start_factor <= 1, got -0.5"),
    (lambda: S.LinearLR(O, 0.5, 1.5), "LinearLR: expected 0 <= end_factor <= 1, got 1.5"),
    (lambda: S.LinearLR(O, total_iters=0), "LinearLR: expected total_iters >= 1, got 0"),
    (lambda: S.StepLR(O, 0), "StepLR: expected step_size >= 1, got 0"),
    (lambda: S.StepLR(O, 1, -1.0), "StepLR: expected gamma >= 0, got -1.0"),
    (lambda: S.MultiStepLR(O, [5, -1]), "MultiStepLR: expected milestones >= 0, got [-1, 5]"),
    (lambda: S.MultiStepLR(O, [5], -1.0), "MultiStepLR: expected gamma >= 0, got -1.0"),
    (lambda: S.ExponentialLR(O, -1.0), "ExponentialLR: expected gamma >= 0, got -1.0"),
    (lambda: S.PolynomialLR(O, 0), "PolynomialLR: expected total_iters >= 1, got 0"),
    (lambda: S.PolynomialLR(O, 5, -1.0), "PolynomialLR: expected power >= 0, got -1.0"),
    (lambda: S.CosineAnnealingLR(O, 0), "CosineAnnealingLR: expected T_max >= 1, got 0"),
    (lambda: S.CosineAnnealingLR(O, 1, -1), "CosineAnnealingLR: expected eta_min >= 0, got -1"),
    (lambda: S.InverseSqrtLR(O, 0), "InverseSqrtLR: expected warmup_iters >= 1, got 0"),
    (lambda: S.InverseTimeLR(O, -1), "InverseTimeLR: expected decay >= 0, got -1"),
    (lambda: S.CosineAnnealingWarmRestarts(O, 0),
     "CosineAnnealingWarmRestarts: expected T_0 >= 1, got 0"),
    (lambda: S.CosineAnnealingWarmRestarts(O, 1, 0),
     "CosineAnnealingWarmRestarts: expected T_mult >= 1, got 0"),
    (lambda: S.CosineAnnealingWarmRestarts(O, 1, eta_min=-1),
     "CosineAnnealingWarmRestarts: expected eta_min >= 0, got -1"),
    (lambda: S.CyclicLR(O, 0.1, 1, 0), "CyclicLR: expected step_size_up >= 1, got 0"),
    (lambda: S.CyclicLR(O, 0.1, 1, 1, 0), "CyclicLR: expected step_size_down >= 1, got 0"),
    (lambda: S.CyclicLR(O, 0.1, 1, mode="square"),
     "CyclicLR: expected mode to be one of 'triangular', 'triangular2', 'exp_range', got 'square'"),
    (lambda: S.CyclicLR(O, 0.1, 1, scale_mode="x"),
     "CyclicLR: expected scale_mode 'cycle' or 'iterations', got 'x'"),
    (lambda: S.CyclicLR(O, 0.1, 1, base_momentum=[0.5]),
     "CyclicLR: expected base_momentum for 2 groups, got 1 values"),
    (lambda: S.CyclicLR(fn.optim.Adagrad([fn.tensor([1.0], requires_grad=True)]), 0.1, 1),
     "CyclicLR: expected cycle_momentum False with Adagrad, which has no momentum, got True"),
    (lambda: S.CyclicLR(O, [0.1], 1), "CyclicLR: expected base_lr for 2 groups, got 1 values"),
    (lambda: S.OneCycleLR(O, 1, epochs=3),
     "OneCycleLR: expected total_steps, or epochs and steps_per_epoch, got neither"),
    (lambda: S.OneCycleLR(O, 1, 0), "OneCycleLR: expected total_steps >= 1, got 0"),
    (lambda: S.OneCycleLR(O, 1, 9, pct_start=2), "OneCycleLR: expected 0 <= pct_start <= 1, got 2"),
    (lambda: S.OneCycleLR(O, 1, 9, anneal_strategy="x"),
     "OneCycleLR: expected anneal_strategy 'cos' or 'linear', got 'x'"),
    (lambda: S.OneCycleLR(O, 1, 9, base_momentum=0.0),
     "OneCycleLR: expected 0 < base_momentum <= max_momentum < 1, got 0.0 and 0.95"),
    (lambda: S.OneCycleLR(O, 1, 9, max_momentum=0.5),
     "OneCycleLR: expected 0 < base_momentum <= max_momentum < 1, got 0.85 and 0.5"),
    (lambda: S.OneCycleLR(O, 1, 9, div_factor=0), "OneCycleLR: expected div_factor > 0, got 0"),
    (lambda: S.OneCycleLR(O, 1, 9, final_div_factor=0),
     "OneCycleLR: expected final_div_factor > 0, got 0"),
    (lambda: S.LambdaLR(O, [abs]), "LambdaLR: expected lr_lambda for 2 groups, got 1 values"),
    (lambda: S.SequentialLR(O, [S.StepLR(O, 1)], [5]),
     "SequentialLR: expected 0 milestones > 0 that increase, got [5]"),
    (lambda: S.SequentialLR(O, [S.StepLR(O, 1)] * 3, [5, 5]),
     "SequentialLR: expected 2 milestones > 0 that increase, got [5, 5]"),
    (lambda: S.SequentialLR(optimizer(), [S.StepLR(O, 1)], []),
     "SequentialLR: expected schedulers of one optimizer, got another one's at position 0"),
    (lambda: S.ChainedScheduler([]), "ChainedScheduler: expected at least one scheduler, got none"),
    (lambda: S.WarmupLR(O, -1), "WarmupLR: expected warmup_iters >= 0, got -1"),
    (lambda: S.WarmupLR(O, kind="x"),
     "WarmupLR: expected kind to be one of 'none', 'constant', 'gradual', got 'x'"),
    (lambda: S.WarmupLR(O, start_factor=2),
     "WarmupLR: expected 0 <= start_factor <= 1, got 2"),
    (lambda: S.StepLR(optimizer(), 1, last_epoch=3),
     "StepLR: expected 'initial_lr' in group 0 to go on, got none"),
    (lambda: S.StepLR(O, 1).load_state_dict({"last_epoch": -1, "base_lrs": [1.0, 1.0]}),
     "StepLR: expected a last_epoch >= 0, got -1"),
    (lambda: S.StepLR(O, 1).load_state_dict({"last_epoch": 1, "base_lrs": [1.0]}),
     "StepLR: expected base_lrs of 2 groups, got [1.0]"),
    (lambda: S.ReduceLROnPlateau(O, "up"),
     "ReduceLROnPlateau: expected mode 'min' or 'max', got 'up'"),
    (lambda: S.ReduceLROnPlateau(O, factor=1.0),
     "ReduceLROnPlateau: expected 0 <= factor < 1, got 1.0"),
    (lambda: S.ReduceLROnPlateau(O, patience=-1),
     "ReduceLROnPlateau: expected patience >= 0, got -1"),
    (lambda: S.ReduceLROnPlateau(O, threshold=-1),
     "ReduceLROnPlateau: expected threshold >= 0, got -1"),
    (lambda: S.ReduceLROnPlateau(O, threshold_mode="x"),
     "ReduceLROnPlateau: expected threshold_mode 'rel' or 'abs', got 'x'"),
    (lambda: S.ReduceLROnPlateau(O, cooldown=-1),
     "ReduceLROnPlateau: expected cooldown >= 0, got -1"),
    (lambda: S.ReduceLROnPlateau(O, min_lr=[0.1]),
     "ReduceLROnPlateau: expected min_lr for 2 groups, got 1 values"),
    (lambda: S.ReduceLROnPlateau(O, eps=-1), "ReduceLROnPlateau: expected eps >= 0, got -1"),
    (lambda: S.ReduceLROnPlateau(O).load_state_dict({"best": 1, "last_epoch": 0}),
     "ReduceLROnPlateau: expected a float best, got 1"),
    (lambda: S.ReduceLROnPlateau(O).load_state_dict({"best": 1.0, "last_epoch": -3}),
     "ReduceLROnPlateau: expected last_epoch >= 0, got -3"),
    (lambda: S.scale_lr(0.1, 0, 5), "scale_lr: expected base_batch_size >= 1, got 0"),
    (lambda: S.scale_lr(0.1, 5, 0), "scale_lr: expected batch_size >= 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message


KINDS = [
    (lambda: S.StepLR(O, "a"), "StepLR: expected step_size to be a whole number, got 'a'"),
    (lambda: S.StepLR(fn.nn.ReLU(), 3),
     "StepLR: expected optimizer to be an Optimizer, got ReLU()"),
    (lambda: S.CosineAnnealingWarmRestarts(O, 1, 1.5),
     "CosineAnnealingWarmRestarts: expected T_mult to be a whole number, got 1.5"),
    (lambda: S.MultiStepLR(O, 3), "MultiStepLR: expected milestones to be whole numbers, got 3"),
    (lambda: S.MultiStepLR(O, ["a"]),
     "MultiStepLR: expected milestones to be whole numbers, got ['a']"),
    (lambda: S.LambdaLR(O, 0.5),
     "LambdaLR: expected lr_lambda to be a function or a sequence, got 0.5"),
    (lambda: S.CyclicLR(O, "a", 0.5),
     "CyclicLR: expected base_lr to be a number or numbers, got 'a'"),
    (lambda: S.ReduceLROnPlateau(O, factor=None),
     "ReduceLROnPlateau: expected factor to be a number, got None"),
    (lambda: S.ChainedScheduler(3),
     "ChainedScheduler: expected schedulers to be a sequence, got 3"),
    (lambda: S.scale_lr(0.1, "a", 2),
     "scale_lr: expected base_batch_size to be a whole number, got 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), KINDS)
def test_arguments_of_another_kind(call, message):
    before = [dict(group) for group in O.param_groups]
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message
    assert [dict(group) for group in O.param_groups] == before


def test_whole_numbers_may_be_floats():
    assert S.StepLR(optimizer(), 2.0, gamma=0.5).at(2) == S.StepLR(optimizer(), 2, gamma=0.5).at(2)


def test_only_schedules_compose():
    with pytest.raises(TypeError) as caught:
        S.WarmupLR(O, then=S.ReduceLROnPlateau(O))
    assert str(caught.value) == (
        "WarmupLR: expected schedules that know the rate of every step, got ReduceLROnPlateau at "
        "position 0"
    )


def test_a_schedule_without_a_formula():
    with pytest.raises(NotImplementedError, match="LRScheduler: expected a lr_at method"):
        S.LRScheduler(optimizer())
