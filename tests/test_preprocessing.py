"""Preprocessing against scikit-learn; fitted once, to training data alone; exact messages."""

import copy
import json

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import SMALL, run
from fastnn import data
from fastnn.cli.runfolder import pack, unpack
from fastnn.train.checkpoint import read_model
from fastnn.train.files import read_tensors
from sklearn import decomposition, impute, preprocessing

RNG = np.random.default_rng(0)
X = RNG.normal(3, [1, 10, 0.1, 5], (60, 4)) @ RNG.normal(size=(4, 4))
X[:, 3] = 7.1  # does not vary
HOLES = X.copy()
HOLES[::7, 1] = HOLES[3::11, 2] = np.nan
CODES = RNG.integers(0, 4, (60, 3)).astype(float)
IMAGES = RNG.integers(0, 256, (30, 3, 4, 5)).astype(np.uint8)


# ---- scikit-learn's numbers --------------------


PAIRS = {
    "standard": (data.StandardScaler(), preprocessing.StandardScaler(), X),
    "centre": (
        data.StandardScaler(with_std=False),
        preprocessing.StandardScaler(with_std=False),
        X,
    ),
    "scale": (
        data.StandardScaler(with_mean=False),
        preprocessing.StandardScaler(with_mean=False),
        X,
    ),
    "minmax": (data.MinMaxScaler(), preprocessing.MinMaxScaler(), X),
    "pca": (data.PCA(), decomposition.PCA(svd_solver="full"), X),
    "pca 2": (data.PCA(2), decomposition.PCA(2, svd_solver="full"), X),
    "pca whiten": (data.PCA(3, True, 0.0), decomposition.PCA(3, whiten=True, svd_solver="full"), X),
    "pca wide": (data.PCA(5), decomposition.PCA(5, svd_solver="full"), RNG.normal(size=(12, 40))),
    "mean": (data.SimpleImputer(), impute.SimpleImputer(), HOLES),
    "median": (
        data.SimpleImputer("median", True),
        impute.SimpleImputer(strategy="median", add_indicator=True),
        HOLES,
    ),
    "most frequent": (
        data.SimpleImputer("most_frequent", True),
        impute.SimpleImputer(strategy="most_frequent", add_indicator=True),
        np.where(CODES == 3, np.nan, CODES),
    ),
    "one hot": (data.OneHotEncoder(), preprocessing.OneHotEncoder(sparse_output=False), CODES),
}  # fmt: skip


NAMES = {
    "standard": ("mean_", "scale_"),
    "minmax": ("data_min_", "data_max_"),
    "pca 2": ("mean_", "components_", "explained_variance_"),
    "median": ("statistics_",),
    "one hot": ("categories_",),
}


@pytest.mark.parametrize("case", PAIRS)
def test_numbers_are_those_of_scikit_learn(case):
    ours, theirs, x = PAIRS[case]
    ours, train = ours.new(), x[: len(x) * 2 // 3]
    theirs.fit(train)
    np.testing.assert_allclose(ours.fit_transform(train), theirs.transform(train), atol=1e-10)
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), atol=1e-10)
    for name in NAMES.get(case, ()):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e8, -3.7e5])
def test_a_constant_feature_is_not_blown_up(offset):
    x = np.column_stack([np.full(1000, offset + 0.1), RNG.normal(size=1000)])
    theirs = preprocessing.StandardScaler().fit(x)
    ours = data.StandardScaler().fit(x)
    assert ours.scale_[0] == theirs.scale_[0] == 1
    assert (ours.transform(x)[:, 0] == 0).all()


def test_channels_of_flat_images_share_a_scale():
    flat = IMAGES.reshape(len(IMAGES), -1)
    theirs = data.ImageNormalizer("channel_mean_std").fit_transform(IMAGES)
    ours = data.StandardScaler(channels=3).fit(flat)
    np.testing.assert_allclose(ours.transform(flat), theirs.reshape(flat.shape), rtol=1e-12)
    assert len(np.unique(ours.scale_)) == 3
    parts = data.RunningStatistics()
    for part in np.array_split(flat, 4):
        parts.update(part)
    again = data.StandardScaler.from_statistics(parts, channels=3)
    np.testing.assert_allclose(again.mean_, ours.mean_, rtol=1e-12)


@pytest.mark.parametrize(
    "kind", [data.StandardScaler(), data.MinMaxScaler(), data.PCA(), data.PCA(4, True)]
)
def test_inverse(kind):
    fitted = kind.new().fit(X)
    np.testing.assert_allclose(fitted.inverse_transform(fitted.transform(X)), X, atol=1e-9)


def test_labels_are_those_of_scikit_learn():
    y = RNG.choice(["b", "a", "c"], 50)
    theirs, ours = preprocessing.LabelEncoder().fit(y), data.LabelEncoder().fit(y)
    np.testing.assert_array_equal(ours.transform(y), theirs.transform(y))
    assert ours.classes_ == tuple(theirs.classes_)
    assert ours.inverse_transform(ours.transform(y)) == tuple(y)


# ---- whitening --------------------


@pytest.mark.parametrize("kind", [data.PCA(whiten=True, eps=0.0), data.ZCA(eps=0.0)])
def test_white_data_have_unit_covariance(kind):
    x = RNG.normal(size=(300, 5)) @ RNG.normal(size=(5, 5))
    np.testing.assert_allclose(np.cov(kind.new().fit_transform(x).T), np.eye(5), atol=1e-10)


def test_zca_is_the_symmetric_whitening():
    x = RNG.normal(size=(300, 5)) @ RNG.normal(size=(5, 5))
    values, vectors = np.linalg.eigh(np.cov(x.T) + 0.01 * np.eye(5))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(
        data.ZCA(eps=0.01).fit_transform(x), (x - x.mean(0)) @ root, atol=1e-10
    )


def test_signs_make_the_largest_entry_positive():
    rows = data.PCA().fit(RNG.normal(size=(50, 6))).components_
    assert (np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1) > 0).all()


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("kind", [data.PCA, data.ZCA])
def test_directions_without_variance_become_zero(kind, eps):
    """Rank 2 in 4 features: rounding noise must not become unit variance."""
    x = 1e3 * RNG.normal(size=(50, 2)) @ RNG.normal(size=(2, 4))
    options = {"whiten": True} if kind is data.PCA else {}
    fitted = kind(eps=eps, **options).fit(x)
    assert (fitted.explained_variance_[2:] == 0).all()
    assert np.abs(fitted.transform(x)).max() < 10


# ---- images --------------------


def test_means_of_images():
    x = IMAGES.astype(float)
    channel = x.mean((0, 2, 3))[:, None, None]
    deviation = x.std((0, 2, 3))[:, None, None]
    for mode, expected in {
        "mean_image": x - x.mean(0),
        "channel_mean": x - channel,
        "channel_mean_std": (x - channel) / deviation,
        "per_image": x - x.mean((1, 2, 3), keepdims=True),
    }.items():
        normalizer = data.ImageNormalizer(mode).fit(IMAGES)
        np.testing.assert_allclose(normalizer.transform(IMAGES), expected, atol=1e-12)
        if mode != "per_image":
            np.testing.assert_allclose(normalizer.inverse_transform(expected), x, atol=1e-10)


def test_shapes_of_the_papers():
    x = np.zeros((2, 32, 32, 3), np.uint8)
    assert data.ImageNormalizer("mean_image").fit(x).mean_.shape == (32, 32, 3)
    assert data.ImageNormalizer("channel_mean", -1).fit(x).mean_.shape == (3,)


def test_channels_last_are_the_same_numbers():
    first = data.ImageNormalizer().fit(IMAGES)
    last = data.ImageNormalizer(channel_axis=-1).fit(IMAGES.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(first.mean_, last.mean_)
    np.testing.assert_allclose(
        last.transform(IMAGES.transpose(0, 2, 3, 1)),
        first.transform(IMAGES).transpose(0, 2, 3, 1),
    )


# ---- streams --------------------


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7, 13, 40], [59, 1]])
def test_statistics_of_parts_are_those_of_the_whole(sizes):
    statistics = data.RunningStatistics()
    for part in np.split(X, np.cumsum(sizes)[:-1]):
        statistics.update(part)
    np.testing.assert_allclose(statistics.mean, X.mean(0), rtol=1e-13)
    np.testing.assert_allclose(statistics.variance(), X.var(0), rtol=1e-12, atol=1e-24)
    np.testing.assert_allclose(statistics.variance(1), X.var(0, ddof=1), rtol=1e-12, atol=1e-24)
    np.testing.assert_array_equal(statistics.minimum, X.min(0))
    np.testing.assert_array_equal(statistics.maximum, X.max(0))
    np.testing.assert_allclose(
        data.StandardScaler.from_statistics(statistics).transform(X),
        data.StandardScaler().fit_transform(X),
        atol=1e-9,
    )


def test_statistics_hold_at_a_large_offset():
    x = 1e9 + RNG.normal(size=(1000, 1))
    statistics = data.RunningStatistics()
    for part in np.split(x, 10):
        statistics.update(part)
    assert statistics.variance().item() == pytest.approx((x - 1e9).var(), rel=1e-6)


def test_statistics_merge_and_resume():
    a, b = data.RunningStatistics(), data.RunningStatistics()
    a.update(X[:20])
    b.load_state_dict(a.state_dict())
    c = data.RunningStatistics()
    c.update(X[20:])
    b.merge(c)
    a.update(X[20:])
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(b.state_dict()[name], value)
    b.merge(data.RunningStatistics())
    assert b.count == 60


# ---- no leaks --------------------

STEPS = {
    "scale": [data.StandardScaler()],
    "impute": [data.SimpleImputer("median", add_indicator=True), data.MinMaxScaler()],
    "whiten": [data.SimpleImputer(), data.StandardScaler(), data.PCA(2, whiten=True)],
    "zca": [data.SimpleImputer("most_frequent"), data.ZCA()],
    "gaussian": [data.GaussianImputer(add_indicator=True), data.StandardScaler()],
    "none": [],
}


def pipeline(name):
    return data.Pipeline(*(step.new() for step in STEPS[name]))


@pytest.mark.parametrize("name", [n for n in STEPS if n != "scale"])
def test_rows_of_the_test_part_change_nothing_that_is_fitted(name):
    """A hundred other test parts: the fitted numbers and the transformed training part stay."""
    train, x = np.arange(40), HOLES if name != "none" else X
    first = pipeline(name).fit(x[train])
    for seed in range(20):
        other = x.copy()
        other[40:] = np.random.default_rng(seed).normal(1e6, 1e3, (20, 4))
        again = pipeline(name).fit(other[train])
        again.transform(other[40:])
        assert first.state_dict().keys() == again.state_dict().keys()
        for key, value in first.state_dict().items():
            np.testing.assert_array_equal(again.state_dict()[key], value)
        np.testing.assert_array_equal(first.transform(x[train]), again.transform(other[train]))


@pytest.mark.usefixtures("elsewhere")
def test_the_test_part_changes_nothing_that_fastnn_train_leaves():
    """Two tables with the same training and validation rows: the same numbers, bit for bit."""
    x, y = RNG.normal(size=(120, 3)), np.arange(120) % 2
    test = data.stratified_split(y, 0.2, seed=0)[1]
    left = []
    for name, shift in (("a", 0.0), ("b", 1e4)):
        rows = x.copy()
        rows[test] += shift
        np.savez(f"{name}.npz", x=rows, y=y)
        options = [part for s in ("data.whiten=zca", "data.impute=mean") for part in ("--set", s)]
        run("train", f"{name}.npz", "-q", "-o", name, *SMALL, *options)
        left.append(read_tensors(f"{name}/best.safetensors")[0])
    assert any(key.startswith("extra:preprocessing.2.") for key in left[0])
    assert left[0].keys() == left[1].keys()
    for key, value in left[0].items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(left[1][key]), key)


@pytest.mark.parametrize("kind", [
    data.StandardScaler(), data.StandardScaler(channels=1), data.MinMaxScaler(), data.PCA(),
    data.ZCA(), data.SimpleImputer(), data.GaussianImputer(), data.OneHotEncoder(),
    data.Pipeline(data.StandardScaler()),
])  # fmt: skip
def test_a_second_fit_is_refused_and_changes_nothing(kind):
    fitted = kind.new().fit(CODES)
    before = copy.deepcopy(fitted.state_dict())
    for again in (fitted.fit, fitted.fit_transform):
        with pytest.raises(ValueError, match=r".") as error:
            again(CODES + 1)
        assert str(error.value) == (
            f"{type(kind).__name__}: expected one fit, on the training data, got a second one; "
            "new() gives an unfitted copy"
        )
    for key, value in before.items():
        np.testing.assert_array_equal(fitted.state_dict()[key], value)
    assert not fitted.new().is_fitted


def test_fitted_numbers_cannot_be_written():
    scaler = data.StandardScaler().fit(X)
    with pytest.raises(ValueError, match="read-only"):
        scaler.mean_[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        scaler.state_dict()["mean_"][0] = 0


def test_a_pipeline_that_fails_to_fit_stays_unfitted():
    steps = data.Pipeline(data.StandardScaler(), data.PCA(9))
    with pytest.raises(ValueError, match="n_components <= 4"):
        steps.fit(X)
    assert not steps.is_fitted
    assert not any(step.is_fitted for step in steps.steps)


def test_the_input_is_never_changed():
    x = HOLES.copy()
    pipeline("whiten").fit(x).transform(x)
    np.testing.assert_array_equal(x, HOLES)


# ---- storing --------------------


@pytest.mark.parametrize("name", STEPS)
def test_a_pipeline_survives_a_checkpoint(name, tmp_path):
    fitted = pipeline(name).fit(X)
    path = str(tmp_path / "model.safetensors")
    fn.train.save_model(path, fn.nn.Linear(2, 2), pack(fitted))
    again = unpack(read_model(path)[1])
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert again.describe() == json.loads(json.dumps(fitted.describe()))
    fn.train.load_model(path)


def test_training_keeps_arrays_too(tmp_path):
    model = fn.nn.Linear(2, 2)
    trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), fn.optim.SGD(model.parameters()))
    path = str(tmp_path / "last.safetensors")
    numbers = np.array([0.1, 1e300])
    trainer.save(path, {"numbers": numbers, "note": "x"})
    extra = trainer.load(path)
    np.testing.assert_array_equal(extra["numbers"], numbers)
    assert extra["note"] == "x"


def test_image_numbers_survive():
    for mode in ("mean_image", "channel_mean", "channel_mean_std", "per_image"):
        fitted = data.Pipeline(data.ImageNormalizer(mode)).fit(IMAGES)
        again = data.Pipeline.build(fitted.describe(), fitted.state_dict())
        np.testing.assert_array_equal(again.transform(IMAGES), fitted.transform(IMAGES))
