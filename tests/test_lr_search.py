"""The range test and the exponential search: good suggestions, nothing left behind."""

import fastnn as fn
import numpy as np
import pytest
from checkpoint_helpers import X, Y, bits, make
from fastnn import nn, optim
from fastnn.train import lr_range_test, lr_search

RNG = np.random.default_rng(0)
XS = RNG.normal(size=(256, 10)).astype(np.float32)
YS = (XS @ RNG.normal(size=(10, 1))).astype(np.float32)


def quadratic():
    """A loss of curvature about 2: rates above 1 explode."""
    model = nn.Linear(10, 1)
    return model, nn.MSELoss(), optim.SGD(model.parameters(), lr=1e-3)


def test_range_test_finds_where_it_falls_and_stops_where_it_explodes():
    found = lr_range_test(*quadratic(), XS, YS, 1e-6, 100.0, 120)
    assert found.lrs[0] == 1e-6
    np.testing.assert_allclose(np.diff(np.log(found.lrs)), np.log(1e8) / 119)
    assert 0.003 < found.suggestion < 1
    assert found.lrs[-1] < 20
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) < 120


def test_losses_are_those_of_the_steps():
    """Without smoothing, and in epochs whose last batch is short."""
    model, loss, sgd = quadratic()
    found = lr_range_test(model, loss, sgd, XS[:70], YS[:70], 1e-4, 1e-2, 9, 16, smoothing=0.0)
    seed, expected = fn.random.get_state()["shuffle"][0], []
    for step, lr in enumerate(found.lrs):
        epoch, start = step // 5, step % 5 * 16
        rows = fn.random.permutation(70, seed, epoch)[start : start + 16]
        sgd.param_groups[0]["lr"] = lr
        sgd.zero_grad()
        value = loss(model(XS[rows]), YS[rows])
        value.backward()
        sgd.step()
        expected.append(value.item())
    np.testing.assert_allclose(found.losses, expected, rtol=1e-5)
    assert found.smoothed == found.losses


def test_no_suggestion_where_nothing_falls():
    model = nn.Linear(10, 1)
    sgd = optim.SGD(model.parameters(), maximize=True)
    found = lr_range_test(model, nn.MSELoss(), sgd, XS, YS, batch_size=256)
    assert found.suggestion is None


def test_search_takes_the_best_and_bears_those_that_explode():
    found = lr_search(*quadratic(), XS, YS, [1e-4, 1e-2, 1e2, 1e30], epochs=20, batch_size=64)
    assert found.suggestion == 1e-2
    assert found.losses[3] == np.inf
    assert [len(h.epoch) for h in found.histories[:2]] == [20, 20]
    assert lr_search(*quadratic(), XS, YS, [1e30], epochs=20).suggestion is None


def test_search_takes_multiples_and_validation():
    found = lr_search(*quadratic(), XS, YS, validation_split=0.25)
    np.testing.assert_allclose(found.lrs, [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3])
    assert found.losses[-1] == found.histories[-1].history["val_loss"][-1]


@pytest.mark.parametrize("search", [lr_range_test, lr_search])
@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD])
def test_all_is_left_as_it_was(search, optimizer):
    trainer = make(optimizer, **({"momentum": 0.9} if optimizer is optim.SGD else {}))
    trainer.fit(X, Y, verbose=0)
    before, generators = bits(trainer), fn.random.get_state()
    search(trainer.model, trainer.loss, trainer.optimizer, X, Y)
    assert (bits(trainer), fn.random.get_state()) == (before, generators)
    assert all(p.grad is None for p in trainer.model.parameters())


def test_plots():
    axes = lr_range_test(*quadratic(), XS, YS).plot()
    assert (axes.get_xscale(), len(axes.lines)) == ("log", 3)
    axes = lr_search(*quadratic(), XS, YS, [1e-3, 1e-2], epochs=3).plot()
    assert [len(line.get_ydata()) for line in axes.lines] == [3, 3]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: lr_range_test(*quadratic(), XS, YS, 1.0, 0.1),
     "lr_range_test: expected 0 < min_lr < max_lr, got 1.0, 0.1"),
    (lambda: lr_range_test(*quadratic(), XS, YS, steps=2),
     "lr_range_test: expected steps >= 3, got 2"),
    (lambda: lr_range_test(*quadratic(), XS, YS, smoothing=1.0),
     "lr_range_test: expected 0 <= smoothing < 1, got 1.0"),
    (lambda: lr_range_test(*quadratic(), XS, YS[:5]),
     "fit: expected as many labels as samples, got x (256, 10) and y (5, 1)"),
    (lambda: lr_search(*quadratic(), XS, YS, []), "lr_search: expected rates > 0, got []"),
    (lambda: lr_search(*quadratic(), XS, YS, [0.0]), "lr_search: expected rates > 0, got [0.0]"),
    (lambda: lr_search(*quadratic(), XS, YS[:5]),
     "fit: expected as many labels as samples, got x (256, 10) and y (5, 1)"),
])  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message
