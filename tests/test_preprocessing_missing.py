"""Imputation by a model: regressions where these are known, the likelihood's maximum elsewhere."""

import numpy as np
import pytest
from cli_helpers import SMALL, run
from fastnn import data

RNG = np.random.default_rng(4)
MIX = RNG.normal(size=(4, 4))
WHOLE = RNG.normal(size=(300, 4)) @ MIX * [1, 100, 0.01, 1] + [0, 1e4, 3, -5]


def holed(x, share, seed=0):
    """x with a share of its values missing, in any pattern."""
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def test_one_incomplete_feature_is_the_regression_on_the_others():
    x = WHOLE.copy()
    x[200:, 2] = np.nan
    design = np.column_stack([np.ones(300), x[:, [0, 1, 3]]])
    weights = np.linalg.lstsq(design[:200], x[:200, 2], rcond=None)[0]
    filled = data.GaussianImputer(max_iter=1000, tol=1e-12).fit_transform(x)
    np.testing.assert_allclose(filled[200:, 2], design[200:] @ weights, rtol=1e-7)
    kept = ~np.isnan(x)
    np.testing.assert_array_equal(filled[kept], x[kept])


def log_likelihood(x, mean, covariance):
    """Of what is there of each sample, by the definition."""
    total = 0.0
    for row in x:
        there = ~np.isnan(row)
        part = covariance[np.ix_(there, there)]
        d = row[there] - mean[there]
        total -= 0.5 * (d @ np.linalg.solve(part, d) + np.linalg.slogdet(2 * np.pi * part)[1])
    return total


def test_the_fit_is_the_maximum_of_the_likelihood():
    x = holed((WHOLE - [0, 1e4, 3, -5]) / [1, 100, 0.01, 1], 0.25)
    imputer = data.GaussianImputer(max_iter=2000, tol=1e-11).fit(x)
    mean, covariance = imputer.mean_, imputer.covariance_
    best = log_likelihood(x, mean, covariance)
    rng = np.random.default_rng(1)
    for _ in range(20):
        shift = rng.normal(size=4) * 0.05 * np.sqrt(np.diag(covariance))
        change = np.eye(4) + rng.normal(size=(4, 4)) * 0.03
        assert log_likelihood(x, mean + shift, covariance) < best
        assert log_likelihood(x, mean, change @ covariance @ change.T) < best


def test_what_it_fills_in_is_nearer_than_the_mean():
    x = holed(WHOLE, 0.2)
    gone = np.isnan(x)
    model, mean = data.GaussianImputer().fit_transform(x), data.SimpleImputer().fit_transform(x)
    unit = WHOLE.std(0)
    error = [np.sqrt((((filled - WHOLE) / unit)[gone] ** 2).mean()) for filled in (model, mean)]
    assert error[0] < 0.75 * error[1]


def test_repeated_and_constant_features_and_rows_without_anything():
    a = RNG.normal(size=50)
    x = np.column_stack([a, 3 * a + 1, np.full(50, 7.0), a**2])
    x[:5, 0] = x[5:9, 1] = x[9:12, 2] = np.nan
    x[12] = np.nan
    imputer = data.GaussianImputer(add_indicator=True)
    filled = imputer.fit_transform(x)
    assert filled.shape == (50, 8)
    np.testing.assert_allclose(filled[:5, 0], a[:5], atol=1e-3)
    np.testing.assert_allclose(filled[5:9, 1], 3 * a[5:9] + 1, atol=1e-3)
    np.testing.assert_allclose(filled[9:12, 2], 7.0)
    np.testing.assert_allclose(filled[12, :4], imputer.mean_)
    np.testing.assert_array_equal(filled[:, 4:], np.isnan(x))
    one = data.GaussianImputer().fit([[1.0], [np.nan], [3.0]])
    np.testing.assert_allclose(one.transform([[np.nan]]), [[2.0]])


@pytest.mark.usefixtures("elsewhere")
def test_fastnn_train_imputes_by_the_model_and_predict_does_too():
    rows = ["a,b,y", *(f"{v:.3f},{'' if i % 5 == 0 else 2 * v:},{'no' if v < 0 else 'yes'}"
                       for i, v in enumerate(RNG.normal(size=90)))]  # fmt: skip
    with open("t.csv", "w") as file:
        file.write("\n".join(rows) + "\n")
    run("train", "t.csv", "--label", "y", "-q", "-o", "r", *SMALL, "--set", "data.impute=gaussian")
    result = run("predict", "r", "t.csv")
    assert len(result.stdout.splitlines()) >= 90
