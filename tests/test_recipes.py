"""The default choices: what they are made of, and that they learn."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn, optim


def test_choices_have_reasons():
    lines = fn.recipes.explain().splitlines()
    assert len(lines) == len(fn.recipes.CHOICES) == len({c.what for c in fn.recipes.CHOICES})
    assert lines[1].startswith("activation: ReLU; ")
    assert all(c.take and c.because and c.source for c in fn.recipes.CHOICES)


def test_the_weights_are_hes():
    model = fn.recipes.classifier(400, 10, (300,))
    assert model[0].weight.detach().numpy().std() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    plain = fn.recipes.classifier(8, 3, (), batch_norm=False, dropout=0.0)
    assert [type(m) for m in plain] == [nn.Linear]


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", optim.AdamW), ("sgd", optim.SGD)])
def test_they_learn_digits(optimizer, kind):
    digits = fn.data.load("digits")
    train, test = fn.data.stratified_split(digits.y, 0.2, 0)
    scaler = fn.data.StandardScaler().fit(digits.x[train])
    x = scaler.transform(digits.x).astype(np.float32)
    model = fn.recipes.classifier(64, 10)
    trainer = fn.recipes.trainer(model, len(train), 20, optimizer=optimizer)
    assert type(trainer.optimizer) is kind
    logs = trainer.fit(x[train], digits.y[train], epochs=20, verbose=0).history
    assert trainer.evaluate(x[test], digits.y[test])["accuracy"] > 0.96
    assert logs["lr"][-1] < 1e-3 * logs["lr"][0]


def test_messages():
    with pytest.raises(ValueError, match=r"^classifier: expected sizes >= 1, got \[4, 0, 2\]$"):
        fn.recipes.classifier(4, 2, (0,))
    with pytest.raises(ValueError, match=r".") as error:
        fn.recipes.trainer(nn.Linear(2, 2), 10, 1, optimizer="lion")
    assert str(error.value) == "trainer: expected optimizer 'adam' or 'sgd', got 'lion'"
