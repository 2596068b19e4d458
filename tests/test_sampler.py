"""Samplers: the right chances, the same draws after resuming, exact messages."""

import fastnn as fn
import numpy as np
import pytest
from fastnn.train import BalancedSampler, WeightedSampler


def test_uniform_draws_are_uniform_and_depend_on_seed_and_epoch():
    draws = fn.random.uniform(100_000, 3, 5)
    counts = np.histogram(draws, 100, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 6 * np.sqrt(2 * 99)
    np.testing.assert_array_equal(draws, fn.random.uniform(100_000, 3, 5))
    assert (draws != fn.random.uniform(100_000, 4, 5)).any()
    assert (draws != fn.random.uniform(100_000, 3, 6)).any()


def test_uniform_is_that_of_the_reference():
    from fastnn.testing.reference.random import permutation

    assert (np.argsort(fn.random.uniform(50, 7, 2)) == permutation(50, 7, 2)).all()


@pytest.mark.parametrize("weights", [None, [1, 2, 3, 0, 4], [0, 0, 1, 0, 0], [0, 1e-300, 1, 5, 0]])
def test_chances_follow_the_weights(weights):
    n = 100_000
    tiled = None if weights is None else np.tile(weights, n // 5)
    drawn = WeightedSampler(tiled)(n, seed=1, epoch=0)
    share = np.bincount(drawn % 5, minlength=5) / n
    p = np.full(5, 0.2) if weights is None else np.divide(weights, np.sum(weights))
    assert (np.abs(share - p) <= 6 * np.sqrt(p * (1 - p) / n)).all()
    assert (share[p == 0] == 0).all()
    assert drawn.dtype == np.int64


def test_balanced_draws_every_class_equally():
    y = np.repeat([5, 7, 9], [9000, 900, 100])
    drawn = y[BalancedSampler(y)(10_000, seed=0, epoch=3)]
    for label in (5, 7, 9):
        assert abs((drawn == label).mean() - 1 / 3) < 6 * np.sqrt(2 / 9 / 10_000)


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype(np.float32)
    model = fn.nn.Sequential(fn.nn.Linear(4, 8), fn.nn.ReLU(), fn.nn.Linear(8, 2))
    loss, optimizer = fn.nn.CrossEntropyLoss(), fn.optim.Adam(model.parameters(), lr=0.01)
    return fn.Trainer(model, loss, optimizer), x, (x[:, 0] > 1).astype(int)


def weights_of(trainer):
    return np.concatenate([np.asarray(p).ravel() for p in trainer.model.parameters()])


def test_resuming_draws_the_same_samples(tmp_path):
    path = str(tmp_path / "last.safetensors")
    whole, x, y = problem()
    start = {k: v.clone() for k, v in whole.model.state_dict().items()}
    sampler = BalancedSampler(y)
    whole.fit(x, y, epochs=4, verbose=0, shuffle=sampler, seed=1)
    half, *_ = problem()
    half.model.load_state_dict(start)
    half.fit(x, y, epochs=2, verbose=0, shuffle=sampler, seed=1)
    half.save(path)
    rest, *_ = problem()
    rest.load(path)
    rest.fit(x, y, epochs=4, verbose=0, shuffle=sampler, seed=1, initial_epoch=None)
    np.testing.assert_array_equal(weights_of(whole), weights_of(rest))


def test_the_trainer_takes_what_the_sampler_draws():
    """A sampler of the first sample alone is a data set of that sample alone."""
    first, x, y = problem()
    start = {k: v.clone() for k, v in first.model.state_dict().items()}
    first.fit(x, y, verbose=0, shuffle=lambda n, seed, epoch: np.zeros(n, int))
    second, *_ = problem()
    second.model.load_state_dict(start)
    second.fit(np.tile(x[:1], (100, 1)), np.tile(y[:1], 100), verbose=0, shuffle=False)
    np.testing.assert_array_equal(weights_of(first), weights_of(second))


ERRORS = {
    "negative": (
        lambda: WeightedSampler([1, -1]),
        "WeightedSampler: expected finite weights >= 0 of shape (n,) with a sum > 0, got shape "
        "(2,)",
    ),
    "NaN": (
        lambda: WeightedSampler([1, np.nan]),
        "WeightedSampler: expected finite weights >= 0 of shape (n,) with a sum > 0, got shape "
        "(2,)",
    ),
    "zeros": (
        lambda: WeightedSampler([0, 0, 0]),
        "WeightedSampler: expected finite weights >= 0 of shape (n,) with a sum > 0, got shape "
        "(3,)",
    ),
    "axes": (
        lambda: BalancedSampler([[1]]),
        "BalancedSampler: expected y of shape (n,), not empty, got (1, 1)",
    ),
    "samples": (
        lambda: BalancedSampler([0, 1])(3, 0, 0),
        "BalancedSampler: expected the 2 samples it was made for, got 3",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=r".") as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (lambda *_: np.zeros(3, int), "100 indices, got shape (3,) of int64"),
        (lambda *_: np.zeros(100), "100 indices, got shape (100,) of float64"),
        (lambda *_: np.arange(100) + 1, "indices below 100, got 100 at 99"),
        (lambda *_: np.arange(100) - 1, "indices below 100, got -1 at 0"),
    ],
)
def test_what_a_sampler_gives_is_checked_before_a_step(sampler, message):
    trainer, x, y = problem()
    before = weights_of(trainer)
    with pytest.raises(ValueError, match=r".") as error:
        trainer.fit(x, y, verbose=0, shuffle=sampler)
    assert str(error.value) == f"fit: expected a sampler that gives {message}"
    np.testing.assert_array_equal(weights_of(trainer), before)
