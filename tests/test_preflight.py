"""The checks before a long run: each bug is named by its check, and a sound set-up passes all."""

import json

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import run
from fastnn import F, nn, optim

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(0, 2, (5, 8))
Y = RNG.integers(0, 5, 300)
X = (CENTERS[Y] + RNG.normal(size=(300, 8))).astype(np.float32)
X = (X - X.mean(0)) / X.std(0)


def mlp(*end, width=32, activation=nn.ReLU):
    return nn.Sequential(nn.Linear(8, width), activation(), nn.Linear(width, 5), *end)


def check(model, loss=None, x=X, y=Y, lr=1e-2, **options):
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return fn.train.check(
        model, loss or nn.CrossEntropyLoss(), x, y, optimizer=optimizer, **options
    )


SOUND = {
    "MLP": (lambda: mlp(), nn.CrossEntropyLoss(), Y),
    "dropout": (
        lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 5)),
        nn.CrossEntropyLoss(label_smoothing=0.1), Y,
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5)),
        nn.CrossEntropyLoss(), Y,
    ),
    "hinge": (lambda: mlp(), nn.MultiClassHingeLoss(), Y),
    "margin": (lambda: mlp(), nn.MultiMarginLoss(), Y),
    "log-probabilities": (lambda: mlp(nn.LogSoftmax()), nn.NLLLoss(), Y),
    "regression": (
        lambda: nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1)), nn.MSELoss(),
        np.sin(X[:, :1]) * 3,
    ),
    "two classes": (
        lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)),
        nn.BCEWithLogitsLoss(), (Y[:, None] > 2).astype(np.float32),
    ),
    "penalty": (
        lambda: mlp(), fn.train.Objective(
            nn.CrossEntropyLoss(), l2=fn.train.WeightPenalty(F.l2_penalty, 1e-3)), Y,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_set_up_passes_and_is_left_as_it_was(name):
    make, loss, y = SOUND[name]
    model = make()
    before = [v.numpy().copy() for v in model.state_dict().values()]
    generators = fn.random.get_state()
    report = check(model, loss, y=y)
    assert [str(c) for c in report.checks if c.status != "PASS"] == []
    assert report.ok
    assert fn.random.get_state() == generators
    for a, b in zip(before, model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert [m.p for _, m in model.named_modules() if hasattr(m, "p")] in ([], [0.5])


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.last(F.relu(self.first(x)).detach())


class RowsMix(nn.Module):
    """Normalises over the batch, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 5)

    def forward(self, x):
        z = self.layer(x)
        return F.log_softmax(z.reshape(1, -1)).reshape(*z.shape)


class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 5)

    def forward(self, x):
        return self.layer(F.dropout(x, 0.5, training=True))


def with_weights(factor):
    model = mlp()
    model[2].weight.copy_(model[2].weight.detach() * factor)
    return model


def frozen(model):
    return optim.SGD(model[2].parameters(), lr=0.1)


def constant():
    model = mlp()
    for p in model.parameters():
        p.copy_(np.zeros(p.shape, np.float32))
    return model


SORTED = np.argsort(Y, kind="stable")
RARE = np.concatenate([Y[Y != 4][:200], [4]])
# name: (model, options, check, status, how the value begins, the remedy)
SICK = {
    "raw data": (
        mlp, {"x": X * 100}, "data are scaled", "WARN", "values of size 100, ",
        "standardise them, e.g. by fn.data.StandardScaler fitted to the training part",
    ),
    "features apart": (
        mlp, {"x": X * np.logspace(-3, 0, 8, dtype=np.float32)}, "data are scaled", "WARN",
        "values of size 0.", "standardise them, e.g. by fn.data.StandardScaler fitted to the "
        "training part",
    ),
    "sorted": (
        mlp, {"x": X[SORTED], "y": Y[SORTED], "shuffle": False}, "data are shuffled", "FAIL",
        "neighbours differ in 1 %, by chance 80 %", "train with shuffle=True",
    ),
    "sorted but shuffled": (
        mlp, {"x": X[SORTED], "y": Y[SORTED]}, "data are shuffled", "WARN",
        "neighbours differ in 1 %, by chance 80 %",
        "fit shuffles, but validation_split takes the end: use fn.data.stratified_split",
    ),
    "rare class": (
        mlp, {"x": X[:201], "y": RARE}, "classes are balanced", "WARN",
        "class 4 has 0.5 % of the samples, of 20 % if equal",
        "use class_weight, or shuffle=fn.train.BalancedSampler(y), and look at F1",
    ),
    "large weights": (
        lambda: with_weights(50), {}, "initial loss", "FAIL", "",
        "initialise with smaller weights, or scale the data",
    ),
    "all zero": (
        constant, {}, "loss rises with regularisation", "FAIL",
        "1.609 without, 1.609 with l2", "see whether the weights are all 0, and which the penalty "
        "is of",
    ),
    "softmax": (
        lambda: mlp(nn.Softmax()), {}, "outputs fit the loss", "FAIL",
        "probabilities, expected logits", "take the softmax off the model",
    ),
    "ReLU at the end": (
        lambda: mlp(nn.ReLU()), {}, "outputs fit the loss", "FAIL",
        "none is negative, expected logits", "take the non-linearity off the last layer",
    ),
    "tanh at the end": (
        lambda: mlp(nn.Tanh()), {}, "outputs fit the loss", "FAIL",
        "all are in [-1, 1], expected logits", "take the non-linearity off the last layer",
    ),
    "logits to NLL": (
        mlp, {"loss": nn.NLLLoss()}, "outputs fit the loss", "FAIL", "no log-probabilities",
        "end in nn.LogSoftmax, or use CrossEntropyLoss",
    ),
    "rows mix": (
        RowsMix, {}, "evaluation is repeatable, row by row", "FAIL", "a row alone differs by ",
        "see which axis is reshaped or normalised: rows mix",
    ),
    "draws": (
        Draws, {}, "evaluation is repeatable, row by row", "FAIL", "outputs differ by ",
        "see what draws",
    ),
    "detached": (
        Detached, {}, "gradients reach every layer", "FAIL", "none at first.weight, first.bias",
        "see whether the layer is used, detached, or dead (ReLU), or all its weights are 0",
    ),
    "vanishing": (
        lambda: nn.Sequential(
            nn.Linear(8, 8), *(m for _ in range(12) for m in (nn.Sigmoid(), nn.Linear(8, 8))),
            nn.Linear(8, 5)),
        {}, "gradients reach every layer", "WARN", "relative sizes ",
        "initialise by nn.init.auto_, use ReLU, add batch norm or skip connections",
    ),
    "not all trained": (
        mlp, {"optimizer": frozen}, "optimizer holds every parameter", "FAIL",
        "not 0.weight, 0.bias", "give it model.parameters() and a rate above 0",
    ),
    "cannot learn": (
        lambda: nn.Sequential(nn.Linear(8, 1), nn.Linear(1, 5)), {"x": RNG.normal(size=(300, 8))},
        "overfits a tiny sample", "FAIL", "",
        "the model cannot learn them by heart: see its size, loss, labels and gradients",
    ),
    "batch norm does not follow": (
        lambda: nn.Sequential(nn.BatchNorm1d(8, momentum=1e-6), nn.Linear(8, 5)),
        {"x": X * 3 + 50}, "overfits a tiny sample", "FAIL", "100 % in training mode, but ",
        "see batch norm's momentum and dropout's scaling",
    ),
    "rate too high": (
        mlp, {"lr": 1e3}, "loss falls in 100 steps", "FAIL", "",
        "lower the rate; see the sign of the loss",
    ),
    "rate too low": (
        mlp, {"lr": 1e-7}, "loss falls in 100 steps", "WARN", "",
        "raise the rate; fn.train.lr_range_test suggests one",
    ),
    "overflow": (
        mlp, {"optimizer": lambda m: optim.SGD(m.parameters(), lr=1e38)}, "loss falls in 100 steps",
        "FAIL", "not finite (fit: epoch 1, step 2: ", "lower the rate of 1e+38, or clip gradients",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_each_mistake_is_named_with_its_remedy(name):
    make, options, title, status, value, remedy = SICK[name]
    options = dict(options)
    model = make()
    if "optimizer" in options:
        options["optimizer"] = options["optimizer"](model)
        report = fn.train.check(model, nn.CrossEntropyLoss(), X, Y, **options)
    else:
        report = check(model, **options)
    found = report[title]
    assert (found.status, found.remedy) == (status, remedy)
    assert found.value.startswith(value)
    assert report.ok == all(c.status != "FAIL" for c in report.checks)
    assert str(found) == f"{status}  {title}: {found.value}; {remedy}"


def test_bad_data_are_an_error():
    with pytest.raises(ValueError, match=r"^check: expected 0 <= y < 5, one class per output"):
        check(mlp(), y=Y + 1)


@pytest.mark.usefixtures("elsewhere")
def test_the_command_prints_a_line_each_and_fails_if_one_does():
    lines = run("check", "digits").stdout.splitlines()
    assert [line[:6] for line in lines] == ["PASS  "] * 11
    result = run("check", "digits", "--json", "--set", "optim.lr=1000.0", code=1)
    report = json.loads(result.stdout)
    assert not report["ok"]
    assert [c["name"] for c in report["checks"] if c["status"] == "FAIL"] == [
        "loss falls in 100 steps"
    ]
    assert result.stderr == "error: 1 of 11 checks failed\n"
