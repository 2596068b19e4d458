"""What preprocessing refuses, to the letter; nothing is changed then."""

import numpy as np
import pytest
from fastnn import data

X = np.random.default_rng(0).normal(size=(10, 3))
NAN = np.where(np.arange(30).reshape(10, 3) == 4, np.nan, X)


def fitted(transform):
    return transform.fit(X)


CALLS = {
    "unfitted": (
        lambda: data.StandardScaler().transform(X),
        "StandardScaler: expected a fitted transform, got an unfitted one; fit it on the training "
        "data",
    ),
    "unfitted state": (
        lambda: data.ZCA().state_dict(),
        "ZCA: expected a fitted transform, got an unfitted one; fit it on the training data",
    ),
    "unfitted pipeline": (
        lambda: data.Pipeline().transform(X),
        "Pipeline: expected a fitted pipeline, got an unfitted one; fit it on the training data",
    ),
    "features": (
        lambda: fitted(data.MinMaxScaler()).transform(X[:, :2]),
        "MinMaxScaler: expected x of shape (n, 3), got (10, 2)",
    ),
    "features back": (
        lambda: fitted(data.PCA(2)).inverse_transform(X),
        "PCA: expected x of shape (n, 2), got (10, 3)",
    ),
    "axes": (
        lambda: data.PCA().fit(X[0]),
        "PCA: expected x of shape (n, features), not empty, got (3,)",
    ),
    "no samples": (
        lambda: data.PCA().fit(X[:0]),
        "PCA: expected x of shape (n, features), not empty, got (0, 3)",
    ),
    "texts": (
        lambda: data.StandardScaler().fit([["a"]]),
        "StandardScaler: expected x to hold numbers, got dtype <U1",
    ),
    "complex": (
        lambda: data.StandardScaler().fit([[1j]]),
        "StandardScaler: expected x to hold numbers, got dtype complex128",
    ),
    "no channels": (
        lambda: data.StandardScaler(channels=0),
        "StandardScaler: expected channels to be a positive integer or None, got 0",
    ),
    "channels that do not fit": (
        lambda: data.StandardScaler(channels=2).fit(X),
        "StandardScaler: expected as many features for each of 2 channels, got 3 features",
    ),
    "NaN": (
        lambda: data.StandardScaler().fit(NAN),
        "StandardScaler: expected x without NaN or infinity, got nan at x[1, 1]; SimpleImputer "
        "fills what is missing",
    ),
    "infinity": (
        lambda: data.SimpleImputer().fit(np.where(np.isnan(NAN), -np.inf, X)),
        "SimpleImputer: expected x without infinity, got -inf at x[1, 1]",
    ),
    "one sample": (
        lambda: data.PCA().fit(X[:1]),
        "PCA: expected at least 2 samples, got 1",
    ),
    "components": (
        lambda: data.PCA(4).fit(X),
        "PCA: expected n_components <= 3, the smaller side of x (10, 3), got 4",
    ),
    "components 0": (lambda: data.PCA(0), "PCA: expected n_components >= 1 or None, got 0"),
    "eps": (lambda: data.ZCA(-1.0), "ZCA: expected eps >= 0, got -1.0"),
    "eps NaN": (lambda: data.PCA(eps=float("nan")), "PCA: expected eps >= 0, got nan"),
    "strategy": (
        lambda: data.SimpleImputer("mode"),
        "SimpleImputer: expected strategy to be one of mean, median, most_frequent, got 'mode'",
    ),
    "empty column": (
        lambda: data.SimpleImputer().fit([[1.0, np.nan], [2.0, np.nan]]),
        "SimpleImputer: expected a value in every column, got none in column 1",
    ),
    "empty column of a model": (
        lambda: data.GaussianImputer().fit([[np.nan, 2.0], [np.nan, 2.0]]),
        "GaussianImputer: expected a value in every column, got none in column 0",
    ),
    "max_iter": (
        lambda: data.GaussianImputer(max_iter=0),
        "GaussianImputer: expected max_iter >= 1, got 0",
    ),
    "tol": (lambda: data.GaussianImputer(tol=0.0), "GaussianImputer: expected tol > 0, got 0.0"),
    "unknown code": (
        lambda: data.OneHotEncoder().fit([[1], [2]]).transform([[1], [3]]),
        "OneHotEncoder: expected one of the 2 codes of the training data in column 0, got 3.0 at "
        "row 1",
    ),
    "columns": (
        lambda: data.OneHotEncoder(columns=(3,)).fit(X),
        "OneHotEncoder: expected columns below 3, the width of x, got 3",
    ),
    "columns twice": (
        lambda: data.OneHotEncoder(columns=(1, 1)),
        "OneHotEncoder: expected columns by their index, each once, got (1, 1)",
    ),
    "handle_unknown": (
        lambda: data.OneHotEncoder(handle_unknown="drop"),
        "OneHotEncoder: expected handle_unknown 'error' or 'ignore', got 'drop'",
    ),
    "mode": (
        lambda: data.ImageNormalizer("mean"),
        "ImageNormalizer: expected mode to be one of mean_image, channel_mean, channel_mean_std, "
        "per_image, got 'mean'",
    ),
    "channel axis": (
        lambda: data.ImageNormalizer(channel_axis=4).fit(np.zeros((2, 3, 4, 4))),
        "ImageNormalizer: expected channel_axis to be an axis of an image, got 4 for x "
        "(2, 3, 4, 4)",
    ),
    "channels": (
        lambda: data.ImageNormalizer().fit(np.zeros((2, 3, 4, 4))).transform(
            np.zeros((2, 1, 4, 4))
        ),
        "ImageNormalizer: expected 3 channels in axis 1, got x (2, 1, 4, 4)",
    ),
    "size": (
        lambda: data.ImageNormalizer("mean_image").fit(np.zeros((2, 3, 4, 4))).transform(
            np.zeros((2, 3, 4, 5))
        ),
        "ImageNormalizer: expected x of shape (n, 3, 4, 4), got (2, 3, 4, 5)",
    ),
    "label": (
        lambda: data.LabelEncoder(["a", "b"]).transform(["a", "z"]),
        "LabelEncoder: expected one of the 2 classes of the training data, got 'z' at y[1]",
    ),
    "index": (
        lambda: data.LabelEncoder(["a", "b"]).inverse_transform([0, 2]),
        "LabelEncoder: expected 0 <= y < 2, got 2 at y[1]",
    ),
    "second fit of labels": (
        lambda: data.LabelEncoder().fit(["a"]).fit(["b"]),
        "LabelEncoder: expected one fit, on the training data, got a second one; make a new one",
    ),
    "unfitted labels": (
        lambda: data.LabelEncoder().transform(["a"]),
        "LabelEncoder: expected a fitted encoder, got an unfitted one",
    ),
    "no labels": (
        lambda: data.LabelEncoder().fit([]),
        "LabelEncoder: expected y of shape (n,), not empty, got (0,)",
    ),
    "fitted step": (
        lambda: data.Pipeline(fitted(data.PCA())),
        "Pipeline: expected unfitted steps, each once, got PCA at 0; new() gives an unfitted copy",
    ),
    "no step": (
        lambda: data.Pipeline(print),
        "Pipeline: expected transforms, got builtin_function_or_method",
    ),
    "statistics": (
        lambda: data.RunningStatistics().variance(),
        "RunningStatistics: expected more than 0 samples, got 0",
    ),
    "no statistics": (
        lambda: data.StandardScaler.from_statistics(data.RunningStatistics()),
        "StandardScaler: expected statistics of samples of shape (features,), got 0 samples of "
        "shape (0,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_errors(case):
    call, message = CALLS[case]
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message


def test_statistics_refuse_other_shapes():
    statistics = data.RunningStatistics()
    statistics.update(X)
    before = statistics.state_dict()
    with pytest.raises(ValueError, match=r"expected x of shape \(n, 3\), got \(10, 2\)$"):
        statistics.update(X[:, :2])
    other = data.RunningStatistics()
    other.update(X[:, :2])
    with pytest.raises(ValueError, match=r"expected samples of shape \(3,\), got \(2,\)$"):
        statistics.merge(other)
    with pytest.raises(ValueError, match="NaN or infinity"):
        statistics.update(NAN)
    for name, value in before.items():
        np.testing.assert_array_equal(statistics.state_dict()[name], value)


@pytest.mark.parametrize(
    "change",
    [
        {"mean_": np.zeros(2)},
        {"mean_": np.zeros((3, 1))},
        {"mean_": np.array([0, np.nan, 0])},
        {"components_": np.zeros((2, 4))},
        {"components_": np.zeros((4, 3))},
        {"explained_variance_": np.array([1.0, -1.0, 0.0])},
        {"other": np.zeros(3)},
    ],
)
def test_a_state_that_is_none_changes_nothing(change):
    pca = fitted(data.PCA())
    before = pca.transform(X)
    with pytest.raises(ValueError, match=r"^PCA: expected"):
        pca.load_state_dict(pca.state_dict() | change)
    np.testing.assert_array_equal(pca.transform(X), before)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (data.StandardScaler(), {"scale_": np.zeros(3)}),
        (data.MinMaxScaler(), {"data_max_": np.full(3, -9.0)}),
        (data.SimpleImputer(), {"indicator_": np.full(3, 0.5)}),
        (data.GaussianImputer(), {"indicator_": np.full(3, 0.5)}),
        (data.GaussianImputer(), {"covariance_": -np.eye(3)}),
        (data.OneHotEncoder(), {"counts_": np.array([5.0, 5.0, 5.0])}),
        (data.OneHotEncoder(), {"width_": np.array(2.5)}),
        (data.OneHotEncoder(), {"width_": np.array(7.0)}),
    ],
)
def test_numbers_that_no_fit_gives(kind, change):
    state = fitted(kind.new()).state_dict()
    with pytest.raises(ValueError, match=rf"^{type(kind).__name__}: expected"):
        kind.new().load_state_dict(state | change)


@pytest.mark.parametrize(
    ("description", "state"),
    [
        ({}, {}),
        ("PCA", {}),
        ([{}], {}),
        ([{"name": ["PCA"]}], {}),
        ([{"name": "os.system"}], {}),
        ([{"name": "Transform"}], {}),
        ([{"name": "PCA", "command": "ls"}], {}),
        ([{"name": "PCA", "mean_": [0]}], {}),
        ([{"name": "PCA", "eps": "small"}], {}),
        ([{"name": "OneHotEncoder", "columns": 3}], {}),
        ([{"name": "SimpleImputer", "strategy": ["mean"]}], {}),
        ([{"name": "StandardScaler"}], {}),
        ([{"name": "StandardScaler"}], {"0.mean_": np.zeros(2)}),
        ([], {"0.mean_": np.zeros(2)}),
        ([], {"-1.mean_": np.zeros(2)}),
        ([], {"mean_": np.zeros(2)}),
        ([{"name": "ZCA"}] * 65, {}),
    ],
)
def test_descriptions_that_are_none(description, state):
    with pytest.raises(ValueError, match="expected"):
        data.Pipeline.build(description, state)
