"""A loss with penalties: its gradient, and each term in history, logs and checkpoints."""

import json

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn, optim
from fastnn.train import ActivationPenalty, Objective, WeightPenalty

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)).astype(np.float32), RNG.integers(0, 3, 60)


def make(loss, lr=0.1, **options):
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return fn.Trainer(model, loss, optim.SGD(model.parameters(), lr=lr), **options)


def objective(**more):
    return Objective(
        nn.CrossEntropyLoss(),
        l2=WeightPenalty(F.l2_penalty, 0.01),
        sparsity=ActivationPenalty("1", F.l1_penalty, 0.02),
        **more,
    )


def weights(trainer):
    return np.concatenate([v.numpy().ravel() for v in trainer.model.state_dict().values()])


def textbook(trainer):
    """(data loss, L2, L1 of the hidden activations) in float64."""
    a, b, c, d = (v.numpy().astype(np.float64) for v in trainer.model.state_dict().values())
    hidden = np.maximum(X @ a.T + b, 0)
    z = hidden @ c.T + d
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(len(Y)), Y]
    return losses.mean(), 0.01 * ((a**2).sum() + (c**2).sum()), 0.02 * hidden.sum() / len(X)


@pytest.mark.parametrize("capture", [True, False])
def test_each_term_is_reported_in_training_and_validation(capture):
    trainer = make(objective(), lr=0.0, capture=capture)
    data, l2, sparsity = textbook(trainer)
    history = trainer.fit(X, Y, batch_size=16, validation_data=(X, Y), verbose=0).history
    for prefix in ("", "val_"):
        assert history[prefix + "data_loss"] == [pytest.approx(data, rel=1e-6)]
        assert history[prefix + "l2"] == [pytest.approx(l2, rel=1e-6)]
        assert history[prefix + "sparsity"] == [pytest.approx(sparsity, rel=1e-6)]
        assert history[prefix + "loss"] == [pytest.approx(data + l2 + sparsity, rel=1e-6)]
    assert trainer.evaluate(X, Y)["sparsity"] == pytest.approx(sparsity, rel=1e-6)
    assert trainer.model[1]._forward_hooks == []


@pytest.mark.parametrize("capture", [True, False])
def test_the_gradient_is_that_of_the_sum(capture):
    ours, hand = make(objective(), capture=capture), make(nn.CrossEntropyLoss())
    ours.fit(X, Y, batch_size=60, epochs=3, shuffle=False, verbose=0)
    for _ in range(3):
        model = hand.model
        hand.optimizer.zero_grad()
        hidden = F.relu(model[0](X))
        loss = F.cross_entropy(model[2](hidden), Y)
        loss = loss + F.l2_penalty([model[0].weight, model[2].weight], 0.01)
        (loss + F.l1_penalty(hidden, 0.02) * (1 / 60)).backward()
        hand.optimizer.step()
    np.testing.assert_allclose(weights(ours), weights(hand), rtol=1e-6, atol=1e-7)


def test_l2_is_weight_decay():
    penalty = Objective(nn.CrossEntropyLoss(), l2=WeightPenalty(F.l2_penalty, 0.05, "*"))
    ours, decayed = make(penalty), make(nn.CrossEntropyLoss())
    decayed.optimizer.param_groups[0]["weight_decay"] = 0.1
    for trainer in (ours, decayed):
        trainer.fit(X, Y, epochs=3, seed=0, verbose=0)
    np.testing.assert_allclose(weights(ours), weights(decayed), rtol=1e-5, atol=1e-6)


def test_l1_on_activations_makes_them_sparse():
    active = []
    for lam in (0.0, 0.1):
        loss = Objective(nn.CrossEntropyLoss(), a=ActivationPenalty("1", F.l1_penalty, lam))
        trainer = make(loss)
        trainer.fit(X, Y, epochs=60, verbose=0)
        active.append((np.asarray(F.relu(trainer.model[0](X)).detach()) > 0).mean())
    assert active[1] < 0.6 * active[0]


def test_any_function_of_the_model_and_other_options():
    loss = objective(
        elastic=WeightPenalty(F.elastic_net_penalty, 0.01, "0.weight", beta=2.0),
        own=lambda model: (model[2].bias * model[2].bias).sum(),
    )
    trainer = make(loss, lr=0.0)
    w = trainer.model[0].weight.detach().numpy().astype(np.float64)
    logs = trainer.evaluate(X, Y)
    assert logs["elastic"] == pytest.approx(0.01 * (2 * (w**2).sum() + np.abs(w).sum()), rel=1e-6)
    bias = trainer.model[2].bias.detach().numpy().astype(np.float64)
    assert logs["own"] == pytest.approx((bias**2).sum(), rel=1e-6)


def test_weights_of_samples_are_those_of_the_data_loss():
    trainer = make(objective(), lr=0.0)
    _, l2, sparsity = textbook(trainer)
    logs = trainer.evaluate(X, Y, sample_weight=np.zeros(60))
    assert logs["data_loss"] == 0.0
    assert logs["loss"] == pytest.approx(l2 + sparsity, rel=1e-6)


def test_terms_survive_an_interruption_in_an_epoch(tmp_path):
    class Stop(fn.train.Callback):
        def on_train_batch_end(self, batch, logs):
            if (self.trainer.epoch, batch) == (1, 1):
                raise KeyboardInterrupt

    whole, first, rest = (make(objective()) for _ in range(3))
    history = whole.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, batch_size=16, epochs=2, callbacks=[Stop()], verbose=0)
    path = str(tmp_path / "last.safetensors")
    first.save(path)
    rest.load(path)
    again = rest.fit(X, Y, batch_size=16, epochs=2, initial_epoch=None, verbose=0).history
    for name in ("loss", "data_loss", "l2", "sparsity"):
        assert again[name] == history[name][1:]


def test_terms_are_in_metrics_jsonl(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logger = fn.train.JSONLogger(str(path))
    make(objective()).fit(X, Y, validation_split=0.5, callbacks=[logger], verbose=0)
    train, val = (json.loads(line) for line in path.read_text().splitlines())
    assert {"loss", "data_loss", "l2", "sparsity"} <= train.keys() & val.keys()


def test_messages():
    loss = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match=r".") as error:
        Objective(loss, lr=WeightPenalty(F.l2_penalty, 1.0))
    assert str(error.value) == (
        "Objective: expected names of penalties other than loss, data_loss, accuracy, lr, seconds, "
        "samples_per_s, epoch, step and val_..., got 'lr'"
    )
    with pytest.raises(TypeError, match=r".") as wrong:
        Objective(loss, l2=0.01)
    assert str(wrong.value) == "Objective: expected l2 to be a function of the model, got float"
    cases = {
        "WeightPenalty: expected weights to fit one of 0.weight, 0.bias, 2.weight, 2.bias, got "
        "'7.*'": WeightPenalty(F.l2_penalty, 1.0, "7.*"),
        "ActivationPenalty: expected layer to be one of '0', '1', '2', got 'x'":
            ActivationPenalty("x", F.l1_penalty, 1.0),
        "l2_penalty: expected a finite lam >= 0, got -1.0": WeightPenalty(F.l2_penalty, -1.0),
        "fit: expected a penalty 'p' that is a scalar Tensor, got float": lambda model: 1.0,
    }  # fmt: skip
    for message, penalty in cases.items():
        with pytest.raises(ValueError, match=r".") as error:
            make(Objective(loss, p=penalty)).fit(X, Y, verbose=0)
        assert str(error.value) == message
    with pytest.raises(ValueError, match=r".") as error:
        ActivationPenalty("1", F.l1_penalty, 1.0)(make(loss).model)
    assert str(error.value) == (
        "ActivationPenalty: expected outputs of layer '1', got none; call the model inside "
        "watching()"
    )
