"""fn.inspect: statistics against NumPy's, gradients against finite differences, nothing changed."""

import json

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.inspect.summary import summarize
from fastnn.testing.compare import assert_bitwise_equal
from matplotlib.figure import Figure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 3


def network():
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3), nn.Tanh()
    )


def array(x):
    return np.array(x.detach(), np.float64)


def test_rows_are_the_layers_and_their_statistics_numpys():
    model = network()
    stats = fn.inspect.activation_stats(model, X)
    rows = [(layer.name, layer.kind) for layer in stats.layers]
    assert rows == [
        ("input", "input"), ("0", "Linear"), ("1", "ReLU"), ("2", "BatchNorm1d"), ("3", "Dropout"),
        ("4", "Linear"), ("5", "Tanh"),
    ]  # fmt: skip
    z = X.astype(np.float64) @ array(model[0].weight).T + array(model[0].bias)
    for name, values in (("0", z), ("1", np.maximum(z, 0))):
        f = stats[name].forward
        expected = (values.mean(), values.std(), values.min(), values.max(), (values == 0).mean())
        assert (f.mean, f.std, f.min, f.max, f.zeros) == pytest.approx(expected, abs=1e-6)
        assert f.counts.sum() == values.size
        assert f.nonfinite == 0
    assert stats["1"].slope.mean == pytest.approx((z > 0).mean())
    assert stats["1"].saturated == pytest.approx((z <= 0).mean())
    assert stats["1"].dead == pytest.approx((z <= 0).all(0).mean())
    assert stats["0"].slope is stats["0"].saturated is stats["0"].dead is None
    assert all(layer.backward is None for layer in stats.layers)
    assert stats.gradients == {}


@pytest.mark.parametrize("given", ["loss", "gradient"])
def test_gradients_are_those_of_the_outputs(given):
    """Of the mean squared error, or of the gradient that it has: known in closed form here."""
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    w, v = array(model[0].weight), array(model[2].weight)
    x, y = X.astype(np.float64), RNG.normal(size=(40, 2))
    h = np.tanh(x @ w.T)
    d_out = 2 * (h @ v.T - y) / y.size
    if given == "loss":
        stats = fn.inspect.activation_stats(model, X, loss=nn.MSELoss(), y=y.astype(np.float32))
    else:
        stats = fn.inspect.activation_stats(model, X, gradient=d_out.astype(np.float32))
    d_h = d_out @ v
    d_z = d_h * (1 - h**2)
    for name, expected in (("2", d_out), ("1", d_h), ("0", d_z), ("input", d_z @ w)):
        got = stats[name].backward
        assert (got.mean, got.std) == pytest.approx((expected.mean(), expected.std()), rel=1e-4)
    assert stats.gradients["0.weight"].std == pytest.approx((d_z.T @ x).std(), rel=1e-4)
    assert list(stats.gradients) == ["0.weight", "2.weight"]


def test_nothing_is_changed():
    model = network()
    nn.CrossEntropyLoss()(model(X), Y).backward()
    model[0].bias.grad = None
    grads = [None if p.grad is None else np.array(p.grad) for p in model.parameters()]
    state = {k: np.array(v) for k, v in model.state_dict().items()}
    generators = fn.random.get_state()
    fn.inspect.activation_stats(model, X, loss=nn.CrossEntropyLoss(), y=Y)
    with pytest.raises(ValueError, match="linear"):
        fn.inspect.activation_stats(model, X[:, :4])
    assert fn.random.get_state() == generators
    for key, value in model.state_dict().items():
        assert_bitwise_equal(np.array(value), state[key])
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert (p.grad is None) == (grad is None)
        if grad is not None:
            assert_bitwise_equal(np.array(p.grad), grad)
    assert all(not m._forward_hooks for _, m in model.named_modules())
    assert model.training


def test_statistics_inside_no_grad_and_of_whole_numbers():
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2))
    with fn.no_grad():
        stats = fn.inspect.activation_stats(
            model, [[0, 1], [3, 2]], gradient=np.ones((2, 2, 2), np.float32)
        )
    assert stats["input"].backward is None
    assert stats["0"].backward.std > 0
    assert stats.gradients["1.bias"].mean == 4
    assert stats["input"].forward.max == 3


@pytest.mark.parametrize("kind", [nn.LSTM, nn.LayerNormLSTM])
def test_recurrent_layers_shared_layers_and_single_layers(kind):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.act = kind(5, 4, batch_first=True), nn.PReLU()

        def forward(self, x):
            y, (h, _) = self.rnn(self.act(x))
            return self.act(y[:, -1] if isinstance(y, np.ndarray) else y), h

    x = X.reshape(8, 5, 5)
    stats = fn.inspect.activation_stats(Model(), x, gradient=np.ones((8, 5, 4), np.float32))
    assert [s.name for s in stats.layers] == ["input", "act", "rnn", "act (2)"]
    assert stats["rnn"].forward.counts.sum() == 8 * 5 * 4
    assert stats["rnn"].backward.mean > 0
    single = fn.inspect.activation_stats(nn.Linear(5, 2), X)
    assert [s.name for s in single.layers] == ["input", "Linear"]
    assert set(single["Linear"].to_dict()) == {
        "name", "kind", "forward", "backward", "slope", "saturated", "dead"
    }  # fmt: skip
    with pytest.raises(KeyError, match=r"'0'; there are \['input', 'Linear'\]"):
        single["0"]


def test_dead_units_of_convolutions_are_channels():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.LeakyReLU())
    bias = np.array(model[0].bias.detach())
    bias[1] = -100
    model[0].bias.detach().copy_(bias)
    x = RNG.uniform(1, 2, (4, 1, 6, 6)).astype(np.float32)
    for w, value in ((model[0].weight, 1.0), (model[2].weight, -1.0)):
        nn.init.constant_(w.detach(), value)
    assert fn.inspect.dead_relu_fraction(model, x) == {"1": 1 / 3, "3": 0}


def test_a_saturated_tanh_is_beyond_099():
    x = np.float32([[np.arctanh(0.9899), np.arctanh(0.9901), -4.0, 0.0]]).T
    stats = fn.inspect.activation_stats(nn.Tanh(), x)
    assert stats["Tanh"].saturated == 0.5
    assert stats["Tanh"].dead == 0


def test_values_that_are_not_finite_are_counted_and_left_out_of_the_histogram():
    s = summarize(np.float32([1, 2, np.inf, -np.inf, np.nan, 3]), bins=4)
    assert s.nonfinite == 0.5
    assert s.counts.sum() == 3
    assert (s.edges[0], s.edges[-1]) == (1, 3)
    assert np.isnan(s.mean)
    assert summarize(np.zeros((0, 2))).counts.sum() == 0


def test_the_table_and_the_json():
    stats = fn.inspect.activation_stats(network(), X, loss=nn.CrossEntropyLoss(), y=Y, bins=7)
    lines = str(stats).splitlines()
    assert lines[0].split()[-3:] == ["dead", "gradient", "std"]
    assert len(lines) == 8
    facts = json.loads(json.dumps(stats.to_dict()))
    assert [layer["name"] for layer in facts["layers"]] == ["input", *"012345"]
    assert len(facts["layers"][1]["backward"]["counts"]) == 7
    assert set(facts["gradients"]) == {n for n, _ in network().named_parameters()}


def test_singular_values_are_numpys():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(6, 3))
    spectra = fn.inspect.singular_values(model)
    assert list(spectra.values) == ["0.weight", "3.weight"]
    for name, p in (("0.weight", model[0].weight), ("3.weight", model[3].weight)):
        s = np.linalg.svd(array(p).reshape(p.shape[0], -1), compute_uv=False)
        np.testing.assert_allclose(spectra.values[name], s, rtol=1e-12)
        assert spectra.stable_rank(name) == pytest.approx((s**2).sum() / s[0] ** 2)
        assert spectra.condition(name) == pytest.approx(s[0] / s[-1])
    nn.init.zeros_(model[3].weight.detach())
    empty = fn.inspect.singular_values(model)
    assert (empty.stable_rank("3.weight"), empty.condition("3.weight")) == (0, np.inf)


def test_gradient_flow_tells_what_no_gradient_reaches():
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].weight.requires_grad = False
    model(X).sum().backward()
    flow = fn.inspect.gradient_flow(model)
    assert flow.gradients["0.weight"] is None
    assert flow.gradients["2.bias"] == pytest.approx(40 * np.sqrt(2))
    assert flow.weights["0.weight"] == pytest.approx(np.linalg.norm(array(model[0].weight)))
    assert str(flow).splitlines()[1].split()[2:] == ["-", "-"]
    assert json.loads(json.dumps(flow.to_dict()))["gradients"]["0.weight"] is None


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5, 6, 7, 8]), (3, [3, 6])])
def test_update_ratios_are_those_of_the_steps(every, steps):
    """By hand: the same training, one step after the other."""

    def start():
        fn.manual_seed(0)
        model = nn.Linear(5, 3)
        return model, fn.optim.SGD(model.parameters(), lr=0.1)

    model, optimizer = start()
    watch = fn.inspect.UpdateRatio(every)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)
    trainer.fit(X, Y, batch_size=10, epochs=2, callbacks=[watch], verbose=0, shuffle=False)
    assert watch.steps == steps
    model, optimizer = start()
    expected = []
    for step in range(8):
        before = array(model.weight)
        rows = slice(10 * (step % 4), 10 * (step % 4 + 1))
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(X[rows]), Y[rows]).backward()
        optimizer.step()
        change = np.linalg.norm(array(model.weight) - before)
        expected.append(change / np.linalg.norm(before))
    np.testing.assert_allclose(watch.ratios["weight"], [expected[s - 1] for s in steps], rtol=1e-6)
    assert list(watch.ratios) == ["weight"]
    trainer.fit(X, Y, batch_size=40, epochs=1, callbacks=[watch], verbose=0)
    assert watch.steps == [1][: 2 - every]


def test_pictures():
    layers = [m for _ in range(10) for m in (nn.Linear(5, 5), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(5, 3))
    stats = fn.inspect.activation_stats(model, X, loss=nn.CrossEntropyLoss(), y=Y)
    assert len(stats.plot().axes) == 2 * 12
    assert len(fn.inspect.activation_stats(model[0], X).plot().axes) == 2
    nn.CrossEntropyLoss()(model(X), Y).backward()
    axes = fn.inspect.gradient_flow(model).plot()
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        n for n, _ in model.named_parameters()
    ]
    own = Figure().add_subplot()
    assert fn.inspect.singular_values(model).plot(own) is own
    assert len(own.lines) == 11
    watch = fn.inspect.UpdateRatio()
    watch.steps, watch.ratios = [1, 2], {"0.weight": [1e-3, 2e-3]}
    assert watch.plot().lines[0].get_ydata().tolist() == [1e-3, 2e-3]


def nan_weight():
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight.detach(), float("nan"))
    return nn.Sequential(layer)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fn.inspect.activation_stats(network(), X, loss=nn.MSELoss(), gradient=X),
     "activation_stats: expected a loss or a gradient, got both"),
    (lambda: fn.inspect.activation_stats(network(), X, bins=0),
     "activation_stats: expected bins >= 1, got 0"),
    (lambda: fn.inspect.singular_values(nan_weight()),
     "singular_values: expected finite weights, got others in '0.weight'"),
    (lambda: fn.inspect.UpdateRatio(0), "UpdateRatio: expected every >= 1, got 0"),
])  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message
