"""Modules: the tree, fusion, hooks, state, messages, inference."""

import math

import fastnn as fn
import numpy as np
import pytest
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.reference import softmax as ref_softmax

nn = fn.nn
ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.Sigmoid(), nn.Tanh(),
    nn.Softplus(2.0), nn.SiLU(), nn.Swish(0.5), nn.GELU(), nn.GELU("tanh"),
]  # fmt: skip
X = np.random.default_rng(0).standard_normal((37, 19)).astype(np.float32)


def mlp():
    return nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    )


def forward_and_gradients(model, x):
    inputs = fn.tensor(x, requires_grad=True)
    y = model(inputs)
    y.backward(np.cos(np.arange(y.detach().numpy().size, dtype=np.float32)).reshape(y.shape))
    grads = [np.array(p.grad) for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    return [np.array(y.detach()), np.array(inputs.grad), *grads]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_fused_equals_unfused_bitwise(activation):
    model = nn.Sequential(nn.Linear(19, 23), activation)
    fused = forward_and_gradients(model, X)
    remove = model[0].register_forward_hook(lambda module, inputs, output: None)
    unfused = forward_and_gradients(model, X)
    remove()
    for got, expected in zip(fused, unfused, strict=True):
        assert_bitwise_equal(got, expected)


@pytest.mark.parametrize("hooked", [0, 1])
def test_a_hook_on_either_layer_disables_the_fusion(hooked, monkeypatch):
    calls = []
    monkeypatch.setattr(
        nn.Linear, "forward",
        lambda self, x, activation=None: calls.append(activation)
        or F.linear(x, self.weight, self.bias, activation=activation),
    )  # fmt: skip
    model = nn.Sequential(nn.Linear(19, 3), nn.ReLU())
    model(X)
    seen = []
    remove = model[hooked].register_forward_hook(lambda m, i, y: seen.append(y.detach().numpy()))
    model(X)
    remove()
    model(X)
    assert calls == ["relu", None, "relu"]
    assert len(seen) == 1
    assert (seen[0].min() < 0) == (hooked == 0)


def test_a_subclass_with_a_forward_of_its_own_is_not_fused():
    class Doubled(nn.Linear):
        def forward(self, input):
            return super().forward(input) * 2

    layer = Doubled(19, 3)
    y = nn.Sequential(layer, nn.ReLU(), nn.Dropout(0.0))(X)
    assert_bitwise_equal(np.array(y.detach()), np.maximum(np.array(layer(X).detach()), 0))


def test_a_hook_may_replace_the_output():
    model = nn.Sequential(nn.Linear(19, 3), nn.ReLU())
    model[0].register_forward_hook(lambda m, i, y: y * 0.0 + 2.0)
    assert (np.array(model(X).detach()) == 2.0).all()


def test_state_dict_has_torch_keys_and_shares_memory():
    model = mlp()
    state = model.state_dict()
    assert list(state) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias", "2.1.weight", "2.1.bias"]
    assert state["0.weight"].shape == (3, 4)
    state["0.bias"].copy_(np.full(3, 7.0, np.float32))
    assert model[0].bias.detach().numpy().tolist() == [7.0] * 3


def test_load_state_dict_copies_in_place():
    a, b = mlp(), mlp()
    pointers = [fn._core.data_pointer(p) for p in b.parameters()]
    b.load_state_dict(a.state_dict())
    assert [fn._core.data_pointer(p) for p in b.parameters()] == pointers
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert_bitwise_equal(np.array(q.detach()), np.array(p.detach()))


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("0.bias"),
     "load_state_dict: expected the keys of Sequential, got missing ['0.bias'] and unknown []"),
    (lambda s: s.update(extra=np.zeros(1, np.float32)),
     "load_state_dict: expected the keys of Sequential, got missing [] and unknown ['extra']"),
    (lambda s: s.update({"2.1.bias": np.zeros(4, np.float32)}),
     "load_state_dict: expected '2.1.bias' of shape (3,) and dtype float32, got (4,) and float32"),
    (lambda s: s.update({"2.1.bias": np.zeros(3, np.int64)}),
     "load_state_dict: expected '2.1.bias' of shape (3,) and dtype float32, got (3,) and int64"),
])  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    model = mlp()
    before = [np.array(p.detach()) for p in model.parameters()]
    state = {k: np.full(v.shape, 9.0, np.float32) for k, v in model.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match="load_state_dict") as caught:
        model.load_state_dict(state)
    assert str(caught.value) == message
    for p, old in zip(model.parameters(), before, strict=True):
        assert_bitwise_equal(np.array(p.detach()), old)


def test_load_state_dict_not_strict():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": [[3.0, 4.0]], "other": [1.0]}, strict=False)
    assert model.weight.detach().numpy().tolist() == [[3.0, 4.0]]


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        return self.classifier(self.body(x))


def test_messages_name_the_layer():
    with pytest.raises(ValueError, match="linear") as caught:
        Classifier()(np.zeros((32, 5), np.float32))
    assert str(caught.value) == (
        "linear 'classifier.2': expected input.shape[-1] == 128 to fit weight (64, 128), "
        "got input (32, 8)"
    )
    with pytest.raises(ValueError, match="linear") as caught:
        Classifier()(np.zeros((32, 4), np.float32))
    assert str(caught.value) == (
        "linear 'body.0': expected input.shape[-1] == 5 to fit weight (6, 5), got input (32, 4)"
    )
    with pytest.raises(TypeError, match="linear") as caught:
        Classifier()(np.zeros((32, 5), np.int64))
    assert str(caught.value) == (
        "linear 'body.0': expected input of dtype float32 or bfloat16, got int64"
    )


def test_the_tree():
    model = Classifier()
    names = [name for name, _ in model.named_modules()]
    assert names == ["", "body", "body.0", "body.1", "classifier", "classifier.0", "classifier.1",
                     "classifier.2"]  # fmt: skip
    assert model.num_parameters() == 5 * 6 + 6 + 6 * 8 + 8 + 128 * 64 + 64
    model.eval()
    assert not any(m.training for _, m in model.named_modules())
    model.train()
    assert all(m.training for _, m in model.named_modules())


def test_shared_parameters_count_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    assert len(list(model.parameters())) == 2
    assert model.num_parameters() == 12


def test_buffers_are_state_but_not_trained():
    model = nn.Linear(2, 2)
    model.register_buffer("count", fn.tensor([0.0]))
    assert list(model.state_dict()) == ["weight", "bias", "count"]
    assert len(list(model.parameters())) == 2


def test_sequential_is_a_sequence_of_modules():
    model = mlp()
    assert len(model) == 3
    assert isinstance(model[-1], nn.Sequential)
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Sequential"]
    with pytest.raises(IndexError):
        model[3]
    with pytest.raises(TypeError) as caught:
        nn.Sequential(nn.ReLU(), F.relu)
    assert str(caught.value) == "Sequential: expected Modules, got function at position 1"


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match="Module: expected a forward method"):
        nn.Module()(1)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: nn.Dropout(1.5), "Dropout: expected 0 <= p <= 1, got 1.5"),
    (lambda: nn.Linear(-1, 2), "Linear: expected sizes >= 0, got in_features=-1, out_features=2"),
    (lambda: nn.init.kaiming_uniform_(fn.zeros(3)),
     "init: expected a tensor with at least 2 axes, got shape (3,)"),
])  # fmt: skip
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match="expected") as caught:
        call()
    assert str(caught.value) == message


def test_initialisation_is_fixed_by_the_seed():
    models = []
    for seed in (3, 3, 4):
        fn.manual_seed(seed)
        models.append([np.array(p.detach()) for p in mlp().parameters()])
    assert_bitwise_equal(models[1][0], models[0][0])
    assert (models[2][0] != models[0][0]).any()


@pytest.mark.parametrize(("init", "bound"), [
    (lambda t: nn.init.kaiming_uniform_(t), math.sqrt(6 / 200)),
    (lambda t: nn.init.kaiming_uniform_(t, math.sqrt(5)), math.sqrt(1 / 200)),
    (lambda t: nn.init.xavier_uniform_(t), math.sqrt(6 / 500)),
    (lambda t: nn.init.xavier_uniform_(t, 2.0), 2 * math.sqrt(6 / 500)),
])  # fmt: skip
def test_initialisers_have_their_variance(init, bound):
    x = init(fn.zeros(300, 200)).numpy()
    assert np.abs(x).max() <= bound
    # The mean of n uniform squares l^2 / 3 has standard deviation l^2 sqrt(4 / 45 / n).
    assert abs((x**2).mean() - bound**2 / 3) < 6 * bound**2 * math.sqrt(4 / 45 / x.size)


def test_linear_without_bias_and_of_no_features():
    assert [k for k, _ in nn.Linear(3, 2, bias=False).named_parameters()] == ["weight"]
    assert nn.Linear(0, 2)(np.zeros((3, 0), np.float32)).shape == (3, 2)


def test_layer_norm_options():
    assert [k for k, _ in nn.LayerNorm((2, 3), bias=False).named_parameters()] == ["weight"]
    assert not list(nn.LayerNorm(3, elementwise_affine=False).parameters())


def test_dropout_acts_in_training_only():
    layer = nn.Dropout(0.5)
    x = np.ones(1000, np.float32)
    assert 0 in layer(x).numpy()
    assert_bitwise_equal(layer.eval()(x).numpy(), x)


@pytest.mark.parametrize("module", ["Softmax", "LogSoftmax"])
def test_softmax_layers(module):
    function = {"Softmax": F.softmax, "LogSoftmax": F.log_softmax}[module]
    assert_bitwise_equal(np.array(getattr(nn, module)()(X)), np.array(function(X)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_loss(reduction):
    labels = np.arange(37) % 19
    got = nn.CrossEntropyLoss(reduction=reduction)(X, labels)
    expected = F.cross_entropy(X, labels, reduction=reduction)
    assert_bitwise_equal(np.array(got), np.array(expected))


@pytest.mark.parametrize("batch_size", [1, 7, 37, 1000])
def test_predict_runs_in_evaluation_mode_and_puts_it_back(batch_size):
    model = nn.Sequential(nn.Linear(19, 30), nn.Dropout(0.5), nn.ReLU(), nn.Linear(30, 4))
    model[1].eval()
    modes = [m.training for _, m in model.named_modules()]
    y = model.predict(X, batch_size)
    assert [m.training for _, m in model.named_modules()] == modes
    assert_bitwise_equal(y, np.array(model.eval()(X).detach()))
    proba = model.predict_proba(X, batch_size)
    assert proba.shape == (37, 4)
    assert np.abs(proba - ref_softmax.softmax(y.astype(np.float64))).max() <= 4 * 2.0**-24


def test_predict_of_nothing():
    assert nn.Linear(3, 2).predict(np.zeros((0, 3), np.float32)).shape == (0, 2)


def test_predict_puts_the_mode_back_after_an_error():
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="linear: expected"):
        model.predict(np.zeros((2, 4), np.float32))
    assert model.training


def test_repr_and_summary():
    assert repr(mlp()).splitlines() == [
        "Sequential(",
        "  (0): Linear(in_features=4, out_features=3)",
        "  (1): ReLU()",
        "  (2): Sequential(",
        "    (0): Linear(in_features=3, out_features=3)",
        "    (1): LayerNorm((3,), eps=1e-05)",
        "  )",
        ")",
    ]
    assert mlp().summary().splitlines()[-1].split() == ["total", "33", "(132", "bytes)"]


def test_to_a_dtype_replaces_parameters():
    model = nn.LayerNorm(4).to("bfloat16")
    assert model.weight.dtype == "bfloat16"
    assert model.weight.requires_grad
    assert model(fn.tensor(np.ones((2, 4)), "bfloat16")).dtype == "bfloat16"
