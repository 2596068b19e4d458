"""Arguments of the wrong kind: what a message says of them."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import F, nn, optim
from fastnn.data import augment, preprocessing
from fastnn.train import EarlyStopping, lr_range_test, metrics, save_model


def parameter():
    return fn.tensor([1.0], requires_grad=True)


def trainer(**changes):
    model = nn.Linear(2, 2)
    given = {
        "model": model,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optim.SGD(model.parameters()),
        **changes,
    }
    return fn.Trainer(**given)


def fit(**options):
    return trainer().fit(np.zeros((2, 2)), [0, 1], verbose=0, **options)


CASES = {
    "nothing for an array": (
        lambda: F.relu(None),
        TypeError,
        "tensor: expected an array, got None",
    ),
    "one array to put together": (
        lambda: F.cat(fn.ones(2, 3)),
        TypeError,
        "cat: expected tensors to be a sequence of arrays, got one Tensor",
    ),
    "a text to put together": (
        lambda: F.stack("ab"),
        TypeError,
        "stack: expected tensors to be a sequence of arrays, got 'ab'",
    ),
    "an axis by name": (
        lambda: F.cat([fn.ones(2), fn.ones(2)], dim="rows"),
        TypeError,
        "cat: expected dim to be a whole number, got 'rows'",
    ),
    "half a part": (
        lambda: F.split(fn.ones(3), 1.5),
        TypeError,
        "split: expected split_size_or_sections to be a whole number, got 1.5",
    ),
    "halves of parts": (
        lambda: F.split(fn.ones(3), [1.5, 1.5]),
        TypeError,
        "split: expected split_size_or_sections to be whole numbers, got [1.5, 1.5]",
    ),
    "no widths": (
        lambda: F.pad(fn.ones(2), None),
        TypeError,
        "pad: expected pad to be whole numbers, got None",
    ),
    "widths that are a text": (
        lambda: F.pad(fn.ones(2), "ab"),
        TypeError,
        "pad: expected pad to be whole numbers, got 'ab'",
    ),
    "padding with a text": (
        lambda: F.pad(fn.ones(2), (1, 1), value="x"),
        TypeError,
        "pad: expected value to be a number, got 'x'",
    ),
    "a size that is no whole number": (
        lambda: nn.Linear(2.5, 3),
        TypeError,
        "Linear: expected in_features to be a whole number, got 2.5",
    ),
    "labels that are floats": (
        lambda: F.cross_entropy([[0.0, 1.0]], [1.0]),
        ValueError,
        "cross_entropy: expected target probabilities of shape (1, 2) like input, got (1,); class "
        "indices are integers",
    ),
    "a target of another shape": (
        lambda: F.multilabel_soft_margin_loss([[0.0, 1.0]], [[1.0]]),
        ValueError,
        "multilabel_soft_margin_loss: expected target of shape (1, 2) like input, got (1, 1)",
    ),
    "one beta": (
        lambda: optim.Adam([parameter()], betas=(0.9,)),
        ValueError,
        "Adam: expected betas to be two numbers, got (0.9,)",
    ),
    "a rate that is a text": (
        lambda: optim.SGD([parameter()], lr="fast"),
        TypeError,
        "SGD: expected lr to be a number, got 'fast'",
    ),
    "one Tensor for the parameters": (
        lambda: optim.SGD(parameter()),
        TypeError,
        "SGD: expected Tensors or groups of them, got one Tensor; put it into a list",
    ),
    "a group without parameters": (
        lambda: optim.SGD([{"param": [parameter()]}]),
        ValueError,
        "SGD: expected a group to be a dictionary with 'params', got ['param']",
    ),
    "a Tensor among groups": (
        lambda: optim.SGD([{"params": [parameter()]}, parameter()]),
        ValueError,
        "SGD: expected a group to be a dictionary with 'params', got Tensor",
    ),
    "an option that no optimizer has": (
        lambda: optim.SGD([{"params": [parameter()], "weigth_decay": 0.1}]),
        ValueError,
        "SGD: expected options of a group to be of 'lr', 'momentum', 'dampening', 'weight_decay', "
        "'nesterov', 'maximize', 'form', got 'weigth_decay'",
    ),
    "no parameters for an optimizer": (
        lambda: optim.SGD(nn.Linear(2, 2)),
        TypeError,
        "SGD: expected Tensors or groups of them, got Linear; a model's are model.parameters()",
    ),
    "a device that is a number": (
        lambda: X.to(3),
        TypeError,
        "to: expected a device or a dtype by its name, got 3",
    ),
    "a number for a window": (
        lambda: F.max_pool2d(fn.ones(1, 1, 4, 4), None),
        ValueError,
        "max_pool2d: expected kernel_size to be 2 numbers or one, got None",
    ),
    "a text for a window": (
        lambda: nn.Conv2d(1, 2, "a"),
        TypeError,
        "Conv2d: expected kernel_size to be a whole number or whole numbers, got 'a'",
    ),
    "a text for a flag": (
        lambda: F.avg_pool1d(fn.ones(1, 4), 2, ceil_mode="yes"),
        TypeError,
        "avg_pool1d: expected ceil_mode to be True or False, got 'yes'",
    ),
    "a text for an op's number": (
        lambda: F.layer_norm(X, 2, eps="a"),
        TypeError,
        "layer_norm: expected eps to be a number, got 'a'",
    ),
    "several names for an activation": (
        lambda: F.linear(X, X, activation=["relu"]),
        ValueError,
        "linear: expected activation to be one of "
        + ", ".join(k for k in fn._core.ACTIVATIONS if k != "identity")
        + ", got ['relu']",
    ),
    "a text for a transform's number": (
        lambda: augment.RandomHorizontalFlip("a"),
        TypeError,
        "RandomHorizontalFlip: expected p to be a number, got 'a'",
    ),
    "a number for a transform's range": (
        lambda: augment.RandomResizedCrop(4, scale=3),
        TypeError,
        "RandomResizedCrop: expected scale to be numbers, got 3",
    ),
    "a text for a callback's number": (
        lambda: EarlyStopping(patience="a"),
        TypeError,
        "EarlyStopping: expected patience to be a whole number, got 'a'",
    ),
    "a text for what is learned from data": (
        lambda: preprocessing.PCA(eps="a"),
        TypeError,
        "PCA: expected eps to be a number, got 'a'",
    ),
    "a text for a sweep's rate": (
        lambda: lr_range_test(nn.ReLU(), None, optim.SGD([parameter()]), X, X, min_lr="a"),
        TypeError,
        "lr_range_test: expected min_lr to be a number, got 'a'",
    ),
    "no model to save": (
        lambda: save_model("nowhere.safetensors", 3),
        TypeError,
        "save_model: expected model to be a Module, got 3",
    ),
    "no Tensor to fill": (
        lambda: nn.init.zeros_([1.0]),
        TypeError,
        "zeros_: expected tensor to be a Tensor, got [1.0]",
    ),
    "a seed that is a text": (
        lambda: fit(seed="a"),
        ValueError,
        "fit: expected 0 <= seed < 2**64, got 'a'",
    ),
    "validation data without labels": (
        lambda: fit(validation_data=np.zeros((2, 2))),
        ValueError,
        "fit: expected validation_data (x, y) or (x, y, sample_weight), got ndarray",
    ),
    "a share that is a text": (
        lambda: fit(validation_split="a"),
        ValueError,
        "fit: expected 0 <= validation_split < 1, got 'a'",
    ),
    "weights of classes in a list": (
        lambda: fit(class_weight=[1.0, 2.0]),
        TypeError,
        "fit: expected class_weight to be a dictionary of weights by class, got list",
    ),
    "another state": (
        lambda: optim.SGD([parameter()]).load_state_dict({"weight": 1}),
        ValueError,
        "SGD: expected 'param_groups' and 'state', got ['weight']",
    ),
    "no model": (
        lambda: trainer(model=3),
        TypeError,
        "Trainer: expected model of class Module, got int",
    ),
    "an optimizer's name": (
        lambda: trainer(optimizer="adam"),
        TypeError,
        "Trainer: expected optimizer of class Optimizer, got str",
    ),
    "no loss": (
        lambda: trainer(loss=None),
        TypeError,
        "Trainer: expected loss to be a function of (outputs, y), got None",
    ),
    "a scheduler that is none": (
        lambda: trainer(scheduler=3),
        TypeError,
        "Trainer: expected scheduler to be a scheduler of fastnn.optim.lr_scheduler, got int",
    ),
    "a metric's name": (
        lambda: trainer(metrics="accuracy"),
        ValueError,
        "Trainer: expected metrics ('accuracy',) or (), got 'accuracy'",
    ),
    "a callback": (
        lambda: fit(callbacks=EarlyStopping()),
        TypeError,
        "fit: expected a list of Callbacks, got EarlyStopping",
    ),
    "a callback's class": (
        lambda: fit(callbacks=[EarlyStopping]),
        TypeError,
        "fit: expected a list of Callbacks, got [type]",
    ),
    "an order by name": (
        lambda: fit(shuffle="no"),
        ValueError,
        "fit: expected shuffle to be True, False or a sampler, got 'no'",
    ),
    "no batch": (
        lambda: nn.Linear(2, 2).predict(np.zeros((3, 2)), batch_size=0),
        ValueError,
        "predict: expected batch_size >= 1, got 0",
    ),
    "checking several models": (
        lambda: fn.train.check(nn.Stacked(lambda: nn.Linear(2, 2), 2), F.mse_loss, [[0.0]], [0]),
        TypeError,
        "check: expected one model, got Stacked; check one of stack.unstack()",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(name):
    call, kind, message = CASES[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_ragged_rows_are_refused():
    with pytest.raises(ValueError, match="tensor: expected an array, or nested sequences of equal"):
        fn.tensor([[1, 2], [3]])


def test_sizes_may_be_numpys():
    parts = F.split(fn.ones(5, 2), np.int64(2))
    assert [p.shape for p in parts] == [(2, 2), (2, 2), (1, 2)]
    assert len(F.split(fn.ones(5), np.array([2, 3]), dim=np.int64(0))) == 2


@pytest.mark.parametrize("metric", [metrics.Accuracy, metrics.ConfusionMatrix, metrics.F1Score])
def test_no_samples_change_no_metric(metric):
    own = metric()
    own.update(np.zeros((0, 3)), np.zeros(0, int))
    assert np.isnan(own.compute())
    own.update([[0.0, 1.0, 0.0]], [1])
    value = own.compute()
    own.update(np.zeros((0, 3)), np.zeros(0, int))
    assert own.compute() == value


@pytest.mark.parametrize("make", [fn.zeros, fn.ones])
def test_a_shape_is_sizes_or_a_sequence(make):
    assert make((2, 3)).shape == make([2, 3]).shape == make(2, 3).shape == (2, 3)
    assert make().shape == make(()).shape == ()


X = fn.ones(2, 3)
NO_NUMBERS = {
    "dropout": (lambda: F.dropout(X, p="a"), "p"),
    "Dropout": (lambda: nn.Dropout("a"), "p"),
    "alpha_dropout": (lambda: F.alpha_dropout(X, p="a"), "p"),
    "gaussian_dropout": (lambda: F.gaussian_dropout(X, p="a"), "p"),
    "poisson_dropout": (lambda: F.poisson_dropout(X, p="a"), "p"),
    "cross_entropy": (lambda: F.cross_entropy(X, [0, 1], label_smoothing="a"), "label_smoothing"),
    "smooth_l1_loss": (lambda: F.smooth_l1_loss(X, X, beta="a"), "beta"),
    "huber_loss": (lambda: F.huber_loss(X, X, delta="a"), "delta"),
    "l1_penalty": (lambda: F.l1_penalty(X, "a"), "lam"),
    "leaky_relu": (lambda: F.leaky_relu(X, "a"), "negative_slope"),
    "elu": (lambda: F.elu(X, alpha="a"), "alpha"),
    "softplus": (lambda: F.softplus(X, "a"), "beta"),
    "swish": (lambda: F.swish(X, "a"), "beta"),
    "linear": (lambda: F.linear(X, X, activation=("elu", "a")), "the parameter of elu"),
    "clip_grad_norm_": (lambda: nn.utils.clip_grad_norm_([parameter()], "a"), "max_norm"),
    "clip_grad_value_": (lambda: nn.utils.clip_grad_value_([parameter()], "a"), "clip_value"),
    "LayerNorm": (lambda: nn.LayerNorm(3, eps="a"), "eps"),
    "LSTM": (lambda: nn.LSTM(3, 4, dropout="a"), "dropout"),
}
NO_NUMBERS_OR_NONE = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3, momentum="a"), "momentum"),
}
NO_WHOLE_NUMBERS = {
    "Linear": (lambda: nn.Linear(3, "a"), "out_features"),
    "Embedding": (lambda: nn.Embedding("a", 3), "num_embeddings"),
    "BatchNorm2d": (lambda: nn.BatchNorm2d("a"), "num_features"),
    "Conv2d": (lambda: nn.Conv2d(1, 2, 3, groups="a"), "groups"),
    "GRU": (lambda: nn.GRU(3, 4, num_layers="a"), "num_layers"),
    "LSTMCell": (lambda: nn.LSTMCell("a", 4), "input_size"),
    "one_hot": (lambda: F.one_hot([1], "a"), "num_classes"),
    "manual_seed": (lambda: fn.manual_seed("a"), "seed"),
    "set_num_threads": (lambda: fn.set_num_threads("a"), "threads"),
}


@pytest.mark.parametrize(
    ("op", "call", "argument", "kind"),
    [
        pytest.param(op, *case, kind, id=op)
        for cases, kind in (
            (NO_NUMBERS, "a number"),
            (NO_NUMBERS_OR_NONE, "a number or None"),
            (NO_WHOLE_NUMBERS, "a whole number"),
        )
        for op, case in cases.items()
    ],
)
def test_a_text_is_no_number(op, call, argument, kind):
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value) == f"{op}: expected {argument} to be {kind}, got 'a'"


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.array(0.5), True])
def test_numbers_of_numpy_are_numbers(number):
    assert F.leaky_relu([-1.0], number).item() == -float(number)
