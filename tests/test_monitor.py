"""Monitor: every step's own gradient norm, whichever recording it was replayed from."""

import json

import fastnn as fn
import numpy as np
import pytest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def network():
    fn.manual_seed(0)
    model = fn.nn.Sequential(fn.nn.Linear(6, 8), fn.nn.Tanh(), fn.nn.Linear(8, 2))
    return model, fn.optim.SGD(model.parameters(), lr=0.1)


def by_hand(epochs, rows):
    """Losses and norms of a loop that records nothing."""
    model, optimizer = network()
    losses, norms = [], []
    for _ in range(epochs):
        for start in range(0, len(X), rows):
            batch = slice(start, start + rows)
            optimizer.zero_grad()
            loss = fn.F.cross_entropy(model(X[batch]), Y[batch])
            loss.backward()
            norms.append(np.sqrt(sum((p.grad.numpy() ** 2).sum() for p in model.parameters())))
            losses.append(loss.item())
            optimizer.step()
    return losses, norms


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_the_norms_are_those_of_each_step(clip, tmp_path):
    model, optimizer = network()
    path = str(tmp_path / "steps.jsonl")
    monitor = fn.train.Monitor(path)
    trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer, gradient_clip_val=clip)
    options = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0}  # a ragged last batch
    trainer.fit(X, Y, callbacks=[monitor], **options)
    losses, norms = by_hand(3, 16)
    assert monitor.epoch == [e for e in range(3) for _ in range(4)]
    if clip is None:
        np.testing.assert_allclose(monitor.grad_norm, norms, rtol=1e-5)
        np.testing.assert_allclose(monitor.loss, losses, rtol=1e-4)
    else:  # before clipping; the weights hardly move
        np.testing.assert_allclose(monitor.grad_norm[0], norms[0], rtol=1e-5)
        assert min(monitor.grad_norm) > 100 * clip
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    assert [row["grad_norm"] for row in rows] == monitor.grad_norm
    assert [row["step"] for row in rows] == list(range(1, 13))


def test_watching_changes_no_bit():
    plain, watched = network(), network()
    for (model, optimizer), callbacks in ((plain, []), (watched, [fn.train.Monitor()])):
        trainer = fn.Trainer(model, fn.nn.CrossEntropyLoss(), optimizer)
        trainer.fit(X, Y, epochs=2, batch_size=16, callbacks=callbacks, verbose=0, seed=1)
    for a, b in zip(plain[0].parameters(), watched[0].parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
