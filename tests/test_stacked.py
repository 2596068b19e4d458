"""nn.Stacked: every model has the bits of its training alone."""

import copy

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core, nn, optim
from fastnn.testing.compare import assert_bitwise_equal

ROWS, FEATURES, CLASSES = 33, 20, 5


def make_mlp(p=0.25):
    return nn.Sequential(
        nn.Linear(FEATURES, 70), nn.ReLU(), nn.Dropout(p),
        nn.Sequential(nn.Linear(70, 12), nn.GELU()), nn.LayerNorm(12), nn.Tanh(),
        nn.Linear(12, CLASSES, bias=False),
    )  # fmt: skip


def make_convolutional():
    return nn.Sequential(
        nn.Conv1d(1, 3, 5), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, CLASSES)
    )


def batches(shape=(ROWS, FEATURES), steps=6):
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal(shape).astype(np.float32), rng.integers(0, CLASSES, shape[0]))
        for _ in range(steps)
    ]


def train_alone(make, seed, data, lr):
    fn.manual_seed(seed)
    model = make()
    optimizer = optim.Adam(model.parameters(), lr=lr)
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def train_stacked(stack, data, rates, capture, shared=True):
    optimizer = optim.Adam(stack.param_groups(lr=rates))
    optimizer.prepare()

    def step(x, y):
        optimizer.zero_grad()
        losses = stack.losses(nn.CrossEntropyLoss(), stack(x, shared=shared), y, shared=shared)
        losses.sum().backward()
        optimizer.step()
        return losses.detach()

    run = fn.capture(step) if capture else step
    return [np.array(run(x, y)) for x, y in data]


def assert_same_model(got, expected):
    own, other = got.state_dict(), expected.state_dict()
    assert own.keys() == other.keys()
    for name, value in own.items():
        assert_bitwise_equal(np.array(value), np.array(other[name]), name)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_model_in_the_stack_has_the_bits_of_the_model_alone(capture, threads):
    fn.set_num_threads(threads)
    seeds, rates, data = [3, 1, 4], [1e-2, 3e-3, 1e-3], batches()
    stack = nn.Stacked(make_mlp, 3, seeds=seeds)
    losses = train_stacked(stack, data, rates, capture)
    for i, model in enumerate(stack.unstack()):
        alone, expected = train_alone(make_mlp, seeds[i], data, rates[i])
        assert [float(step[i]) for step in losses] == expected
        assert_same_model(model, alone)
        assert_bitwise_equal(
            model.predict(data[0][0]), np.array(stack.eval()(data[0][0]).detach())[i]
        )


def test_other_layers_run_model_by_model():
    data = batches((ROWS, 1, 20))
    stack = nn.Stacked(make_convolutional, 2)
    train_stacked(stack, data, [1e-2, 1e-3], capture=True)
    for i, model in enumerate(stack.unstack()):
        assert_same_model(model, train_alone(make_convolutional, i, data, [1e-2, 1e-3][i])[0])


def test_data_of_each_model():
    data = batches((2, ROWS, FEATURES))
    data = [(x, np.tile(np.arange(ROWS) % CLASSES, (2, 1))) for x, _ in data]
    stack = nn.Stacked(make_mlp, 2)
    train_stacked(stack, data, [1e-2, 1e-2], capture=True, shared=False)
    for i, model in enumerate(stack.unstack()):
        own = [(x[i], y[i]) for x, y in data]
        assert_same_model(model, train_alone(make_mlp, i, own, 1e-2)[0])


def test_models_may_differ_in_dropout():
    models = []
    for seed, p in enumerate((0.0, 0.5)):
        fn.manual_seed(seed)
        models.append(make_mlp(p))
    stack, data = nn.Stacked(models), batches()
    train_stacked(stack, data, [1e-2, 1e-2], capture=False)
    for i, p in enumerate((0.0, 0.5)):
        alone, _ = train_alone(lambda p=p: make_mlp(p), i, data, 1e-2)
        assert_same_model(stack.unstack()[i], alone)


def test_a_stack_is_saved_and_goes_on_with_the_same_bits():
    data = batches()
    whole = nn.Stacked(make_mlp, 2)
    optimizer = optim.SGD(whole.parameters(), lr=0.1)

    def step(stack, optimizer, x, y):
        optimizer.zero_grad()
        stack.losses(nn.CrossEntropyLoss(), stack(x), y).sum().backward()
        optimizer.step()

    for x, y in data[:3]:
        step(whole, optimizer, x, y)
    state = {k: np.array(v) for k, v in whole.state_dict().items()}
    assert set(state) == {
        "generators",
        *(f"{i}.{k}" for i in "01" for k in make_mlp().state_dict()),
    }
    other = nn.Stacked(make_mlp, 2, seeds=[8, 9])
    other.load_state_dict(state)
    for x, y in data[3:]:
        step(whole, optimizer, x, y)
        step(other, optim.SGD(other.parameters(), lr=0.1), x, y)
    assert_same_model(other, whole)


def test_a_hook_on_one_layer_is_called():
    stack = nn.Stacked(make_mlp, 2).eval()
    x = batches()[0][0]
    before = np.array(stack(x).detach())
    seen = []
    first = stack.unstack()[1][0]
    first.register_forward_hook(lambda module, inputs, y: seen.append(y.shape))
    assert_bitwise_equal(np.array(stack(x).detach()), before)
    assert seen == [(ROWS, 70)]


def test_writing_a_part_before_backward_is_found():
    stack = nn.Stacked(lambda: nn.Linear(3, 2), 2)
    y = stack(fn.tensor(np.ones((4, 3)), requires_grad=True)).sum()
    stack.unstack()[1].weight.copy_(fn.ones(2, 3))
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_copy_has_memory_of_its_own():
    stack, data = nn.Stacked(make_mlp, 2), batches()
    other = copy.deepcopy(stack)
    for copied in (stack, other):
        train_stacked(copied, data, [1e-2, 1e-2], capture=False)
    assert_same_model(other, stack)
    x = data[0][0]
    assert_bitwise_equal(np.array(other.eval()(x).detach()), other.predict(x))


def test_making_a_stack_leaves_the_generators_alone():
    fn.manual_seed(5)
    before = fn.random.get_state()
    nn.Stacked(make_mlp, 2)
    assert fn.random.get_state() == before


def test_a_replay_allocates_nothing_and_is_recorded_once():
    stack, data = nn.Stacked(make_mlp, 2), batches(steps=1)
    optimizer = optim.SGD(stack.parameters(), lr=0.1)
    optimizer.prepare()
    count = 0

    @fn.capture
    def step(x, y):
        nonlocal count
        count += 1
        optimizer.zero_grad()
        losses = stack.losses(nn.CrossEntropyLoss(), stack(x), y)
        losses.sum().backward()
        optimizer.step()
        return losses.detach()

    x, y = (fn.tensor(v) for v in data[0])
    step(x, y)
    before = _core.memory_stats()
    for _ in range(3):
        step(x, y)
    assert count == 1
    assert _core.memory_stats() == before


def message(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


def test_predict_is_that_of_each_model_in_parts_of_any_size():
    stack = nn.Stacked(make_mlp, 3)
    x = np.random.default_rng(1).standard_normal((50, FEATURES)).astype(np.float32)
    expected = np.stack([model.predict(x) for model in stack.unstack()])
    for batch_size in (7, 1024):
        assert_bitwise_equal(stack.predict(x, batch_size), expected)
    assert_bitwise_equal(stack.eval()(x).detach().numpy(), expected)


def test_errors():
    linear = nn.Linear(3, 2)
    assert message(lambda: nn.Stacked([])) == "Stacked: expected at least one model, got none"
    assert message(lambda: nn.Stacked(make_mlp)) == (
        "Stacked: expected k or seeds, to know how many models to make"
    )
    assert message(lambda: nn.Stacked(make_mlp, 2, seeds=[1])) == "Stacked: expected 2 seeds, got 1"
    assert message(lambda: nn.Stacked([linear], seeds=[1, 2])) == "Stacked: expected 1 seeds, got 2"
    assert message(lambda: nn.Stacked([linear, 3])) == "Stacked: expected Modules, got int"
    assert message(lambda: nn.Stacked([linear, linear])) == (
        "Stacked: expected models with parameters of their own, got shared ones"
    )
    assert message(lambda: nn.Stacked([linear, nn.Linear(3, 1)])) == (
        "Stacked: expected models of one architecture, got\n"
        "Linear(in_features=3, out_features=2)\nand, as model 1,\n"
        "Linear(in_features=3, out_features=1)"
    )
    stack = nn.Stacked(lambda: nn.Linear(3, 2), 2)
    assert message(lambda: stack(np.zeros((5, 4, 3), np.float32))) == (
        "Stacked: expected input of shape (2, ...), an item for each model, got (5, 4, 3)"
    )
    assert message(lambda: stack.param_groups(lr=[0.1])) == (
        "Stacked: expected 2 values of lr, got 1"
    )
    assert message(lambda: stack.to("cuda")) == ("Stacked: expected float32 on cpu, got to('cuda')")
    stack.unstack()[1].weight = nn.parameter(np.zeros((2, 3)))
    assert message(lambda: stack(np.zeros((4, 3), np.float32))) == (
        "Stacked: expected the parameters that it has stacked, got another of model 1; write "
        "values with copy_ or load_state_dict"
    )
