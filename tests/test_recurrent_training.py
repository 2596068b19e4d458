"""Recurrent layers in training: the Trainer, recorded steps, wrong lengths, long sequences."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal
from recurrent_helpers import EACH, assert_same, make, normal, states_of


class Encoder(nn.Module):
    """The last state of a sequence, classified: LAY-6's encoder."""

    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(3, 16, batch_first=True, **options)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        """Logits (batch, 2)."""
        return self.head(states_of(self.rnn(x))[0].reshape(-1, 16))


def recall(n, steps, seed):
    """Noise whose first step says the class."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 0.1, (n, steps, 3)), rng.integers(0, 2, n)
    x[:, 0, 0] = 2.0 * y - 1
    return x.astype(np.float32), y


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.LayerNormLSTM, nn.GRU])
def test_the_trainer_trains_them(kind):
    results = []
    for capture in (False, True):
        fn.manual_seed(0)
        model = Encoder(kind)
        optimizer = fn.optim.Adam(model.parameters(), lr=1e-2)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, capture=capture)
        trainer.fit(*recall(300, 12, 0), epochs=6, batch_size=32, verbose=0)
        results.append([np.array(p.detach()) for p in model.parameters()])
    assert_same(results[1], results[0])
    x, y = recall(200, 12, 1)
    assert (model.predict(x).argmax(1) == y).mean() > 0.95


@EACH
def test_a_replay_is_the_eager_step_with_new_lengths(kind, options):
    results = []
    for wrap in (lambda f: f, fn.capture):
        model = make(kind, options, 3, 8, num_layers=2, bidirectional=True, dropout=0.25)
        optimizer = fn.optim.SGD(model.parameters(), lr=0.1)

        def body(x, lengths, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            y = model(x, lengths=lengths)[0]
            loss = (y * y).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = wrap(body)
        rng = np.random.default_rng(3)
        losses = []
        for _ in range(6):
            x = rng.standard_normal((5, 4, 3)).astype(np.float32)
            losses.append(step(x, rng.integers(0, 6, 4)).item())
        results.append((losses, [np.array(p.detach()) for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    assert_same(results[1][1], results[0][1])


def test_a_wrong_length_inside_a_step_changes_nothing():
    model = nn.GRU(3, 4)
    optimizer = fn.optim.SGD(model.parameters(), lr=0.1)

    def body(x, lengths):
        optimizer.zero_grad()
        loss = model(x, lengths=lengths)[0].sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = fn.capture(body)
    x = normal(5, 2, 3)
    step(x, np.array([5, 2]))
    before = np.array(model.weight_hh_l0.detach())
    with pytest.raises(ValueError, match="gru") as caught:
        step(x, np.array([5, 6]))
    assert str(caught.value) == (
        "gru: expected 0 <= lengths <= 5, the steps of input, got 6 at lengths[1]"
    )
    assert_bitwise_equal(np.array(model.weight_hh_l0.detach()), before)


def test_a_thousand_steps():
    layer = make(nn.LSTM, {}, 3, 4)
    x = fn.tensor(normal(1000, 1, 3), requires_grad=True)
    layer(x)[0].sum().backward()
    assert np.isfinite(np.array(x.grad)).all()
