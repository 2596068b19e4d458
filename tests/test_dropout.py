"""Dropout and its relatives: statistics, the lectures' numbers, and draws in recorded steps."""

import math

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.reference import dropout as reference

N = 200_000


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("noise", [F.dropout, F.gaussian_dropout, F.poisson_dropout])
def test_factors_have_mean_1_and_the_variance_of_dropout(noise, p):
    """Within 6 standard errors; the fourth moment of a Poisson count bounds all three."""
    fn.manual_seed(4)
    factors = np.array(noise(np.ones(N, np.float32), p)).astype(np.float64)
    variance = p / (1 - p)
    assert abs(factors.mean() - 1) < 6 * math.sqrt(variance / N)
    fourth = max(np.mean((factors - 1) ** 4), 3 * variance**2)
    assert abs(factors.var() - variance) < 6 * math.sqrt(fourth / N)


def test_normal_draws_are_normal():
    """The quantiles of 200,000 draws, within 6 standard errors of their ranks."""
    fn.manual_seed(1)
    z = np.sort(np.array(F.gaussian_dropout(np.ones(N, np.float32), 0.5)) - 1)
    for quantile in (-4.0, -3.0, -2.0, -1.0, -0.1, 0.0, 0.5, 1.5, 2.5, 3.5):
        expected = 0.5 * (1 + math.erf(quantile / math.sqrt(2)))
        rank = np.searchsorted(z, quantile) / N
        assert abs(rank - expected) < 6 * math.sqrt(expected * (1 - expected) / N)


@pytest.mark.parametrize("p", [2**-16, 0.001, 0.3, 0.999])
def test_poisson_counts_are_the_oracles(p):
    fn.manual_seed(0)
    rate = (1 - p) / p
    factors = np.array(F.poisson_dropout(np.ones(5000, np.float32), p))
    np.testing.assert_array_equal(
        np.rint(factors.astype(np.float64) * rate), reference.poisson((5000,), rate)
    )


def test_alpha_dropout_keeps_mean_and_variance():
    fn.manual_seed(2)
    x = np.random.default_rng(0).standard_normal(N).astype(np.float32)
    y = np.array(F.alpha_dropout(x, 0.2)).astype(np.float64)
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.02


@pytest.mark.parametrize(
    ("drop", "shape"), [(F.dropout1d, (8, 50, 9)), (F.dropout2d, (8, 50, 3, 5))]
)
def test_channels_are_dropped_whole(drop, shape):
    fn.manual_seed(0)
    y = np.array(drop(fn.ones(*shape), 0.5)).reshape(400, -1)
    assert ((y == 0).all(axis=1) | (y == 2).all(axis=1)).all()
    assert 100 < (y[:, 0] == 0).sum() < 300


def test_stochastic_depth_drops_samples_or_batches():
    fn.manual_seed(0)
    rows = np.array(F.stochastic_depth(fn.ones(1000, 3), 0.25, "row"))
    assert (rows == rows[:, :1]).all()
    assert 650 < (rows[:, 0] > 0).sum() < 850
    batches = [np.array(F.stochastic_depth(fn.ones(5, 3), 0.5, "batch")) for _ in range(50)]
    assert all((b == b[0, 0]).all() for b in batches)
    assert {b[0, 0] for b in batches} == {0.0, 2.0}


def test_drop_connect_samples_have_the_moments_of_the_masks():
    """Wan 2013: the normal draw has the mean and variance of the sums over dropped weights."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 30)).astype(np.float32), rng.standard_normal((4, 30))
    w = w.astype(np.float32)
    for mode in ("inverted", "vanilla"):
        fn.manual_seed(5)
        many = np.repeat(x, 20_000, axis=0)
        drawn = np.array(
            F.drop_connect(many, w, p=0.3, training=False, mode=mode, inference="sample")
        )
        masked = np.array(
            [np.array(F.drop_connect(x, w, p=0.3, mode=mode))[0] for _ in range(4000)]
        )
        mean = np.array(F.drop_connect(x, w, p=0.3, training=False, mode=mode))[0]
        deviation = masked.std(axis=0)
        assert (np.abs(drawn.mean(axis=0) - mean) < 6 * deviation / math.sqrt(20_000)).all()
        assert (np.abs(masked.mean(axis=0) - mean) < 6 * deviation / math.sqrt(4000)).all()
        np.testing.assert_allclose(drawn.std(axis=0), deviation, rtol=0.1)


def test_recorded_steps_draw_anew_and_as_eager_ones_do():
    x, weight = np.ones((6, 4, 8), np.float32), fn.ones(3, 8)

    def noises(v):
        return (
            F.alpha_dropout(v, 0.5),
            F.gaussian_dropout(v, 0.5),
            F.poisson_dropout(v, 0.5),
            F.dropout1d(v, 0.5),
            F.stochastic_depth(v, 0.5, "row"),
            F.drop_connect(v, weight, p=0.5, training=False, inference="sample"),
        )

    results = []
    for step in (noises, fn.capture(noises)):
        fn.manual_seed(7)
        results.append([[np.array(y) for y in step(x)] for _ in range(3)])
    eager, recorded = results
    for now, then in zip(recorded, eager, strict=True):
        for got, expected in zip(now, then, strict=True):
            assert_bitwise_equal(got, expected)
    assert all((a != b).any() for a, b in zip(*recorded[1:], strict=True))


def test_backward_draws_the_same_noise():
    for noise in (F.gaussian_dropout, F.poisson_dropout, F.dropout):
        x = fn.tensor(np.ones(1000, np.float32), requires_grad=True)
        y = noise(x, 0.4)
        y.backward(np.ones(1000, np.float32))
        assert_bitwise_equal(np.array(x.grad), np.array(y.detach()))


def test_mc_predict_averages_over_the_noise_and_restores_modes():
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.Dropout(0.5), nn.ReLU(), nn.Linear(40, 2))
    model[1].eval()
    x = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    mean, spread = nn.mc_predict(model, x, n=400, batch_size=3)
    assert mean.shape == spread.shape == (7, 2)
    assert (spread > 0).all()
    # Linear in the noise but for ReLU, which comes after it: the scaled pass is close.
    np.testing.assert_allclose(mean, model.predict(x), atol=6 * spread.max() / 20 + 0.05)
    assert [m.training for m in model] == [True, False, True, True]


def test_mc_predict_leaves_the_noise_of_a_model_without_any():
    model = nn.Linear(3, 2)
    mean, spread = nn.mc_predict(model, np.ones((4, 3), np.float32), n=5)
    assert_bitwise_equal(mean, model.predict(np.ones((4, 3), np.float32)))
    assert not spread.any()


def test_mc_predict_of_no_passes():
    with pytest.raises(ValueError, match="mc_predict: expected n >= 1, got 0"):
        nn.mc_predict(nn.Linear(1, 1), [[1.0]], n=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dropout1d(2.0), "Dropout1d: expected 0 <= p <= 1, got 2.0"),
        (lambda: nn.Dropout(mode="x"), "Dropout: expected mode 'inverted' or 'vanilla', got 'x'"),
        (
            lambda: nn.StochasticDepth(0.5, "rows"),
            "StochasticDepth: expected mode 'batch' or 'row', got 'rows'",
        ),
        (
            lambda: nn.DropConnect(2, 2, inference="x"),
            "DropConnect: expected inference 'mean' or 'sample', got 'x'",
        ),
    ],
)
def test_layers_check_their_arguments(make, message):
    with pytest.raises(ValueError, match="expected") as caught:
        make()
    assert str(caught.value) == message


def test_drop_connect_fuses_with_an_activation_as_linear_does():
    layer = nn.DropConnect(4, 3, p=0.5).eval()
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    model = nn.Sequential(layer, nn.ReLU())
    expected = np.maximum(np.array(F.linear(x, layer.weight, layer.bias).detach()), 0)
    np.testing.assert_allclose(model.predict(x), expected, atol=1e-6)


def test_linear_decay_of_survival():
    assert nn.StochasticDepth.linear_decay(5, 0.5) == [0.1, 0.2, 0.3, 0.4, 0.5]
