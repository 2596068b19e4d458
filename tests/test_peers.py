"""Schedules step by step beside torch's and optax's own, where those are installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import fastnn as fn
import numpy as np
import pytest
from fastnn.optim import lr_scheduler as S
from fastnn.optim.options import momentum_of

STEPS = 60


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def optax_rates():
    """From another process: JAX's threads and its warning of forks would stay in this one."""
    if importlib.util.find_spec("optax") is None:
        pytest.skip("optax is not installed")
    code = "import json, optax, test_peers; print(json.dumps(test_peers.rates_of(optax)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parent,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    return json.loads(result.stdout)


def rates_of(optax):
    peers = {name: peer(optax) for name, (_, peer) in LIKE_OPTAX.items()}
    return {name: [float(rate(t)) for t in range(STEPS)] for name, rate in peers.items()}


# The same text makes both: s is fastnn's lr_scheduler or torch's.
LIKE_TORCH = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + t * t)),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 7),
    "linear": lambda s, o: s.LinearLR(o, 0.5, 0.75, 9),
    "step": lambda s, o: s.StepLR(o, 7, 0.3),
    "milestones": lambda s, o: s.MultiStepLR(o, [10, 11, 40], 0.3),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.95),
    "polynomial": lambda s, o: s.PolynomialLR(o, 31, 1.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, STEPS, 0.01),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, 2, 0.01),
    "triangular": lambda s, o: s.CyclicLR(o, 0.1, 0.7, 3, 5),
    "triangular2": lambda s, o: s.CyclicLR(o, 0.1, 0.7, 6, mode="triangular2"),
    "exp_range": lambda s, o: s.CyclicLR(
        o, 0.1, 0.7, 6, mode="exp_range", gamma=0.97, base_momentum=0.7, max_momentum=0.99
    ),
    "own scale": lambda s, o: s.CyclicLR(
        o, 0.1, 0.7, 6, scale_fn=lambda n: 1 / n, scale_mode="cycle"
    ),
    "one cycle": lambda s, o: s.OneCycleLR(o, 0.7, STEPS),
    "one cycle of lines": lambda s, o: s.OneCycleLR(
        o, 0.7, epochs=6, steps_per_epoch=10, pct_start=0.4, anneal_strategy="linear",
        base_momentum=0.6, max_momentum=0.9, div_factor=5, final_div_factor=100,
    ),
    "one cycle of three": lambda s, o: s.OneCycleLR(o, 0.7, STEPS, three_phase=True),
    "one cycle, momentum stays": lambda s, o: s.OneCycleLR(o, 0.7, STEPS, cycle_momentum=False),
    "sequential": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, 1, 10), s.ExponentialLR(o, 0.9)], [10]
    ),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 9), s.ExponentialLR(o, 0.9)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", LIKE_TORCH)
def test_rate_and_momentum_are_torchs(torch, name, kind):
    options = {"momentum": 0.9} if kind == "SGD" else {}
    ours = getattr(fn.optim, kind)([fn.tensor([1.0], requires_grad=True)], lr=0.5, **options)
    theirs = getattr(torch.optim, kind)([torch.ones(1, requires_grad=True)], lr=0.5, **options)
    scheduler = LIKE_TORCH[name](S, ours)
    peer = LIKE_TORCH[name](torch.optim.lr_scheduler, theirs)
    for t in range(STEPS):
        have, want = ours.param_groups[0], theirs.param_groups[0]
        assert have["lr"] == pytest.approx(want["lr"], rel=1e-12, abs=1e-15), t
        assert momentum_of(have) == pytest.approx(momentum_of(want), rel=1e-12), t
        scheduler.step()
        if t < STEPS - 1:  # torch's one cycle raises after its end
            theirs.step()
            peer.step()


def test_plateaus_are_torchs(torch):
    ours = fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5)
    theirs = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.5)
    options = {"factor": 0.5, "patience": 2, "cooldown": 1, "min_lr": 0.01}
    scheduler = S.ReduceLROnPlateau(ours, **options)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for loss in np.random.default_rng(0).normal(1, 0.1, STEPS):
        scheduler.step(loss)
        peer.step(loss)
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("name", ["triangular2", "one cycle", "one cycle of three"])
@pytest.mark.parametrize(("kind", "options"), [
    ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}),
    ("NAdam", {}), ("RAdam", {}), ("RMSprop", {"momentum": 0.9}),
])  # fmt: skip
def test_weights_follow_the_momentum_as_torchs(torch, kind, options, name, capture):
    """A bowl, 60 steps; torch's weights are float64."""
    start, scale = [1.0, -2.0, 0.5, 4.0], np.array([1.0, 0.1, 0.5, 0.01])
    w = fn.tensor(start, requires_grad=True)
    v = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    ours = getattr(fn.optim, kind)([w], lr=1e-3, **options)
    theirs = getattr(torch.optim, kind)([v], lr=1e-3, **options)
    scheduler = LIKE_TORCH[name](S, ours)
    peer = LIKE_TORCH[name](torch.optim.lr_scheduler, theirs)

    def step(g):
        w.grad = g
        ours.step()

    do = fn.capture(step) if capture else step
    for _ in range(STEPS - 1):
        v.grad = torch.from_numpy(scale) * v.detach()
        do(fn.tensor(v.grad.numpy()))
        theirs.step()
        scheduler.step()
        peer.step()
        np.testing.assert_allclose(w.detach().numpy(), v.detach().numpy(), rtol=2e-5, atol=2e-5)


# optax knows no optimizer; its numbers are float32, and its cosines cancel at the end.
LIKE_OPTAX = {
    "constant": (
        lambda o: S.WarmupLR(o, kind="none"), lambda x: x.constant_schedule(0.5),
    ),
    "linear": (
        lambda o: S.LinearLR(o, 1, 0.2, 30), lambda x: x.linear_schedule(0.5, 0.1, 30),
    ),
    "polynomial": (
        lambda o: S.PolynomialLR(o, 40, 3), lambda x: x.polynomial_schedule(0.5, 0.0, 3, 40),
    ),
    "cosine": (
        lambda o: S.CosineAnnealingLR(o, STEPS, 0.05),
        lambda x: x.cosine_decay_schedule(0.5, STEPS, 0.1),
    ),
    "exponential": (
        lambda o: S.ExponentialLR(o, 0.9), lambda x: x.exponential_decay(0.5, 1, 0.9),
    ),
    "steps": (
        lambda o: S.StepLR(o, 7, 0.3), lambda x: x.exponential_decay(0.5, 7, 0.3, staircase=True),
    ),
    "milestones": (
        lambda o: S.MultiStepLR(o, [10, 40], 0.3),
        lambda x: x.piecewise_constant_schedule(0.5, {10: 0.3, 40: 0.3}),
    ),
    "restarts": (
        lambda o: S.CosineAnnealingWarmRestarts(o, 5, 2),
        lambda x: x.sgdr_schedule([
            {"init_value": 0.5, "peak_value": 0.5, "warmup_steps": 0, "decay_steps": n}
            for n in (5, 10, 20, 40)
        ]),
    ),
    "warm-up": (
        lambda o: S.WarmupLR(o, 10), lambda x: x.warmup_constant_schedule(0.0, 0.5, 10),
    ),
    "warm-up, then cosine": (
        lambda o: S.WarmupLR(o, 10, start_factor=0.2, then=S.CosineAnnealingLR(o, 50)),
        lambda x: x.warmup_cosine_decay_schedule(0.1, 0.5, 10, 60),
    ),
    "warm-up, then exponential": (
        lambda o: S.WarmupLR(o, 10, then=S.ExponentialLR(o, 0.9)),
        lambda x: x.warmup_exponential_decay_schedule(0.0, 0.5, 10, 1, 0.9),
    ),
    "one cycle": (  # steps 29 and 99 are the top and the end; optax cuts shares to whole steps
        lambda o: S.OneCycleLR(o, 0.5, 100),
        lambda x: x.cosine_onecycle_schedule(99, 0.5, 29.5 / 99),
    ),
    "one cycle of three lines": (
        lambda o: S.OneCycleLR(o, 0.5, 100, three_phase=True, anneal_strategy="linear"),
        lambda x: x.linear_onecycle_schedule(99, 0.5, 29.5 / 99, 58.5 / 99),
    ),
    "joined": (
        lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.2, 1, 9), S.ExponentialLR(o, 0.9)], [12]),
        lambda x: x.join_schedules(
            [x.linear_schedule(0.1, 0.5, 9), x.exponential_decay(0.5, 1, 0.9)], [12]
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIKE_OPTAX)
def test_rates_are_optaxs(optax_rates, name):
    scheduler = LIKE_OPTAX[name][0](fn.optim.SGD([fn.tensor([1.0], requires_grad=True)], lr=0.5))
    ours = [scheduler.at(t)[0] for t in range(STEPS)]
    np.testing.assert_allclose(ours, optax_rates[name], rtol=2e-5, atol=1e-7)
