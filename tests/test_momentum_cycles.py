"""The momentum of cycles: its values, and that kernels read it in every step, recorded or not."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.optim import lr_scheduler as S
from fastnn.optim.options import momentum_of
from fastnn.testing.ops import OPTIMIZERS

MOMENTA = {
    "triangular": (lambda o: S.CyclicLR(o, 0.1, 0.5, 4), {0: 0.9, 2: 0.85, 4: 0.8, 8: 0.9}),
    "triangular2": (
        lambda o: S.CyclicLR(o, 0.1, 0.5, 4, 2, "triangular2", max_momentum=0.96),
        {0: 0.96, 4: 0.8, 5: 0.88, 6: 0.96, 10: 0.88},
    ),
    "one cycle": (
        lambda o: S.OneCycleLR(o, 2, 100), {0: 0.95, 29: 0.85, 64: 0.9, 99: 0.95, 10**6: 0.95},
    ),
    "one cycle of three lines": (
        lambda o: S.OneCycleLR(o, 2, 100, three_phase=True, anneal_strategy="linear"),
        {0: 0.95, 29: 0.85, 58: 0.95, 80: 0.95},
    ),
    "after a warm-up": (
        lambda o: S.WarmupLR(o, 5, then=S.OneCycleLR(o, 2, 100)), {0: 0.95, 5: 0.95, 34: 0.85},
    ),
    "and then nothing": (
        lambda o: S.SequentialLR(
            o, [S.OneCycleLR(o, 2, 60, pct_start=0.5), S.ConstantLR(o), S.StepLR(o, 3)], [30, 40]
        ),
        {0: 0.95, 29: 0.85, 30: 0.85, 45: 0.85},
    ),
    "chained": (
        lambda o: S.ChainedScheduler([S.OneCycleLR(o, 2, 100), S.ConstantLR(o)]), {29: 0.85},
    ),
    "not at all": (lambda o: S.OneCycleLR(o, 2, 100, cycle_momentum=False), {0: None, 29: None}),
    "a constant": (S.ConstantLR, {0: None}),
}  # fmt: skip


@pytest.mark.parametrize("name", MOMENTA)
@pytest.mark.parametrize("kind", [fn.optim.SGD, fn.optim.Adam])
def test_momentum_cycles(name, kind):
    make, points = MOMENTA[name]
    o = kind([fn.tensor([1.0], requires_grad=True)], lr=1.0)
    stays = momentum_of(o.param_groups[0])
    scheduler = make(o)
    assert {t: scheduler.momentum_at(t, 0) for t in points} == pytest.approx(points, abs=1e-15)
    for t in range(60):  # the group has it, and what stays stays
        expected = scheduler.momentum_at(t, 0)
        assert momentum_of(o.param_groups[0]) == (stays if expected is None else expected)
        scheduler.step()
    assert o.param_groups[0].get("betas", (0, 0.999))[1] == 0.999


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "Adam", "NAdam", "RMSprop", "Lion"])
def test_a_recorded_step_reads_the_momentum(kind, capture):
    """Against the oracle, which is told the rate and the momentum of each step."""
    row = next(r for r in OPTIMIZERS if r.name == kind)
    w = fn.tensor([1.0, -2.0, 0.5], requires_grad=True)
    o = getattr(fn.optim, kind)([w], lr=0.05)
    scheduler = S.OneCycleLR(o, 0.05, 12)
    records = []

    def step(g):
        records.append(1)
        w.grad = g
        o.step()

    do = fn.capture(step) if capture else step
    p, state = np.array(w.detach(), np.float64), {}
    for t in range(12):
        (lr,), momentum = scheduler.at(t), scheduler.momentum_at(t, 0)
        g = np.random.default_rng(t).normal(size=3).astype(np.float32)
        name, value = "momentum", momentum
        if "betas" in o.param_groups[0]:
            name, value = "betas", (momentum, o.param_groups[0]["betas"][1])
        p, state = row.reference(p, g.astype(np.float64), state, t + 1, lr=lr, **{name: value})
        do(fn.tensor(g))
        scheduler.step()
        np.testing.assert_allclose(w.detach().numpy(), p, rtol=2e-6, atol=1e-6)
    assert len(records) == (1 if capture else 12)
