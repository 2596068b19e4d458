"""Checkpoints: whole or not at all, verified before use, and a resumed run has the same bits."""

import errno
import os

import fastnn as fn
import numpy as np
import pytest
from checkpoint_helpers import X, Y, bits, make
from fastnn import nn, optim
from fastnn.train import CheckpointError, sizes, spec
from fastnn.train.files import read_tensors, write_atomically, write_tensors

IMAGES = np.random.default_rng(1).standard_normal((3, 4, 5, 2)).astype(np.float32)
LAYERS = {
    "Linear": lambda: nn.Linear(4, 4),
    "Linear without bias": lambda: nn.Linear(4, 4, bias=False),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "LayerNorm without bias": lambda: nn.LayerNorm(4, 1e-3, bias=False),
    "LayerNorm without affine": lambda: nn.LayerNorm((4,), elementwise_affine=False),
    "RMSNorm": lambda: nn.RMSNorm(4),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4, momentum=None),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4, 1e-3, affine=False),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(4, track_running_stats=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(4, affine=True),
    "Dropout": lambda: nn.Dropout(0.25),
    "vanilla Dropout": lambda: nn.Dropout(0.25, mode="vanilla"),
    "Dropout1d": lambda: nn.Dropout1d(0.25),
    "Dropout2d": lambda: nn.Dropout2d(0.25),
    "AlphaDropout": lambda: nn.AlphaDropout(0.25),
    "GaussianDropout": lambda: nn.GaussianDropout(0.25),
    "PoissonDropout": lambda: nn.PoissonDropout(0.25),
    "StochasticDepth": lambda: nn.StochasticDepth(0.25, "row", scaling="vanilla"),
    "DropConnect": lambda: nn.DropConnect(4, 3, p=0.25, mode="vanilla"),
    "Embedding": lambda: nn.Embedding(9, 3, padding_idx=-1),
    "MaxPool1d": lambda: nn.MaxPool1d(2, 1, ceil_mode=True),
    "MaxPool2d": lambda: nn.MaxPool2d((1, 2), padding=(0, 1)),
    "AvgPool1d": lambda: nn.AvgPool1d(3, padding=1, count_include_pad=False),
    "AvgPool2d": lambda: nn.AvgPool2d((1, 2), divisor_override=3),
    "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(2),
    "AdaptiveMaxPool1d": lambda: nn.AdaptiveMaxPool1d((2,), return_indices=False),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d((1, None)),
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(1),
    "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(1, (1, 4)),
    "Conv1d": lambda: nn.Conv1d(1, 3, 2, padding="same", bias=False),
    "Conv2d": lambda: nn.Conv2d(4, 6, (2, 1), stride=(1, 2), padding=1, dilation=2, groups=2),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=(1, 0)),
    "Flatten": lambda: nn.Flatten(1, 2),
    "ReLU": nn.ReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "ELU": lambda: nn.ELU(0.5),
    "SELU": nn.SELU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Softplus": lambda: nn.Softplus(2.0),
    "SiLU": nn.SiLU,
    "Swish": lambda: nn.Swish(1.5),
    "trained Swish": lambda: nn.Swish(1.5, trainable=True),
    "PReLU": lambda: nn.PReLU(4, 0.1),
    "Maxout": lambda: nn.Maxout(4, 3, 2, bias=False),
    "ReLU6": nn.ReLU6,
    "Hardsigmoid": nn.Hardsigmoid,
    "Hardswish": nn.Hardswish,
    "Hardtanh": lambda: nn.Hardtanh(-0.5, 2.0),
    "GELU": lambda: nn.GELU("tanh"),
    "Softmax": nn.Softmax,
    "LogSoftmax": nn.LogSoftmax,
    "RNN": lambda: nn.RNN(4, 3, nonlinearity="relu", bias=False),
    "LSTM": lambda: nn.LSTM(4, 3, 3, batch_first=True, dropout=0.5, bidirectional=True),
    "GRU": lambda: nn.GRU(4, 3, 2, convention="cho"),
    "RNNCell": lambda: nn.RNNCell(4, 3),
    "LSTMCell": lambda: nn.LSTMCell(4, 3, bias=False),
    "GRUCell": lambda: nn.GRUCell(4, 3, convention="lectures"),
    "LayerNormLSTM": lambda: nn.LayerNormLSTM(4, 3, 2, bidirectional=True, eps=1e-3),
    "LayerNormLSTM without bias": lambda: nn.LayerNormLSTM(4, 3, bias=False),
    "LayerNormLSTMCell": lambda: nn.LayerNormLSTMCell(4, 3),
    "BasicBlock": lambda: nn.BasicBlock(4, 6, 2, zero_init=True),
    "BasicBlock without shortcut": lambda: nn.BasicBlock(4, 4),
    "Bottleneck": lambda: nn.Bottleneck(4, 8),
    "Bottleneck with stride": lambda: nn.Bottleneck(4, 4, 2),
    "DenseBlock": lambda: nn.DenseBlock(3, 4, 5, 2, drop_rate=0.25),
    "DenseBlock without bottlenecks": lambda: nn.DenseBlock(4, 4, 3, None),
    "Transition": lambda: nn.Transition(4, 6),
    "Residual": lambda: nn.Residual(
        nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), nn.Linear(4, 2), "gelu"
    ),
    "Residual with slope": lambda: nn.Residual(nn.Linear(4, 4), activation=("leaky_relu", 0.2)),
    "Ensemble": lambda: nn.Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)]),
    "Ensemble of outputs": lambda: nn.Ensemble([nn.Linear(4, 1)], "outputs"),
    "nested": lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4))),
}


# Where rows of features are not the input.
INPUTS = {
    "BatchNorm1d": X,
    "BatchNorm2d": IMAGES,
    "InstanceNorm1d": IMAGES[..., 0],
    "InstanceNorm2d": IMAGES,
    "Conv2d": IMAGES,
    "ConvTranspose2d": IMAGES,
    "Flatten": IMAGES,
    "Embedding": Y,
    **dict.fromkeys(("BasicBlock", "Bottleneck", "DenseBlock", "Transition"), IMAGES),
    "1d": X[:, None],
    "2d": X[:, None, None],
}


# ---- models --------------------


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_comes_back(tmp_path, name):
    path = str(tmp_path / "m.safetensors")
    model = nn.Sequential(LAYERS[name]())
    generators = fn.random.get_state()
    fn.train.save_model(path, model)
    again = fn.train.load_model(path)
    assert repr(again) == repr(model)
    assert fn.random.get_state() == generators
    x = INPUTS.get(name, INPUTS.get(name.split()[0], INPUTS.get(name[-2:], X)))
    for got, expected in zip(outputs(again, x), outputs(model, x), strict=True):
        np.testing.assert_array_equal(got, expected)


def outputs(model, x):
    """What the model returns in evaluation mode: one array, or all of a recurrent layer's."""
    parts = [model.eval()(x)]
    while any(isinstance(p, tuple) for p in parts):
        parts = [q for p in parts for q in (p if isinstance(p, tuple) else (p,))]
    return [np.array(p.detach()) for p in parts]


def test_every_layer_of_nn_can_be_saved():
    kinds = {
        type(module) for make_layer in LAYERS.values() for _, module in make_layer().named_modules()
    }
    layers = {getattr(nn, name) for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    losses = {layer for layer in layers if layer.__name__.endswith("Loss")}
    members = {nn.Stacked}  # whose models are saved one by one
    assert layers - kinds - losses == {nn.Module} | members


@pytest.mark.parametrize("make_block", [
    lambda: nn.Residual(nn.Linear(4, 4)), lambda: nn.BasicBlock(4, 4), nn.Sequential,
])  # fmt: skip
def test_a_hook_makes_a_model_one_of_its_own(make_block):
    """What it does is in no file; on any layer of a block too."""
    for i in range(len(list(make_block().named_modules()))):
        block = make_block()
        assert spec.describe(block) is not None
        _, layer = list(block.named_modules())[i]
        layer.register_forward_hook(lambda module, x, y: y)
        assert spec.describe(block) is None


def test_sizes_are_those_of_the_tensors_in_any_block():
    for strides in (1, 2):
        for channels in (4, 8):
            for block in (nn.BasicBlock, nn.Bottleneck):
                assert_counted(block(8, channels, strides))
    for layers in (1, 2, 5):
        for bottleneck in (None, 1, 3):
            assert_counted(nn.DenseBlock(layers, 3, 2, bottleneck))


def assert_counted(model):
    count = sum(v.numpy().size for v in model.state_dict().values())
    assert sizes.num_parameters(spec.describe(model)) == count


def test_torch_and_others_can_read_it(tmp_path):
    from safetensors import numpy as theirs

    path, model = str(tmp_path / "m.safetensors"), nn.Linear(3, 2)
    fn.train.save_model(path, model)
    loaded = theirs.load_file(path)
    assert sorted(loaded) == ["bias", "weight"]
    np.testing.assert_array_equal(loaded["weight"], model.weight.detach().numpy())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8"])
def test_every_dtype_comes_back(tmp_path, dtype):
    path = str(tmp_path / "t.safetensors")
    if dtype in ("int64", "uint8"):
        value = fn.tensor(np.arange(6, dtype=dtype).reshape(2, 3))
    else:
        value = fn.tensor([[1.5, -np.inf, np.nan], [3e-39, 0.1, -0.0]], dtype=dtype)
    write_tensors(path, {"a": value, "empty": fn.zeros(0, 2), "scalar": fn.zeros()}, {})
    tensors, _ = read_tensors(path)
    assert (tensors["a"].dtype, tensors["a"].shape) == (dtype, (2, 3))
    np.testing.assert_array_equal(np.asarray(tensors["a"]), np.asarray(value))
    assert (tensors["empty"].shape, tensors["scalar"].shape) == ((0, 2), ())


def test_custom_layers_are_saved_as_tensors_only(tmp_path):
    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

    path = str(tmp_path / "m.safetensors")
    fn.train.save_model(path, Custom())
    assert sorted(read_tensors(path)[0]) == ["layer.bias", "layer.weight"]
    with pytest.raises(
        CheckpointError, match=r"expected layers of fastnn.nn only, got a model of custom"
    ):
        fn.train.load_model(path)


# ---- resuming --------------------


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (optim.Adam, {"weight_decay": 0.1}),
        (optim.AdamW, {"betas": (0.8, 0.9)}),
        (optim.SGD, {}),
        (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ],
)
@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_resuming_after_an_epoch_gives_the_same_bits(tmp_path, optimizer, options, epoch):
    path = str(tmp_path / "last.safetensors")
    whole = make(optimizer, **options)
    history = whole.fit(X, Y, batch_size=16, epochs=4, verbose=0)
    expected = bits(whole)
    first = make(optimizer, **options)
    first.fit(X, Y, batch_size=16, epochs=epoch, verbose=0)
    first.save(path, {"note": [1, "two"]})
    resumed = make(optimizer, **options)
    fn.manual_seed(99)
    assert resumed.load(path) == {"note": [1, "two"]}
    assert resumed.epoch == epoch
    rest = resumed.fit(X, Y, batch_size=16, epochs=4, initial_epoch=None, verbose=0)
    assert bits(resumed) == expected
    assert rest.history.get("loss", []) == history.history["loss"][epoch:]


@pytest.mark.parametrize("batch", [0, 2, 4])
def test_resuming_inside_an_epoch_gives_the_same_bits(tmp_path, batch):
    class Stop(fn.train.Callback):
        def on_train_batch_end(self, index, logs):
            if (self.trainer.epoch, index) == (1, batch):
                raise KeyboardInterrupt

    path = str(tmp_path / "last.safetensors")
    whole = make()
    history = whole.fit(X, Y, batch_size=16, epochs=3, verbose=0)
    expected = bits(whole)
    first = make()
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, batch_size=16, epochs=3, callbacks=[Stop()], verbose=0)
    first.save(path)
    resumed = make()
    resumed.load(path)
    rest = resumed.fit(X, Y, batch_size=16, epochs=3, initial_epoch=None, verbose=0)
    assert bits(resumed) == expected
    assert rest.history["loss"] == history.history["loss"][1:]
    assert rest.history["accuracy"] == history.history["accuracy"][1:]


# ---- writing --------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomically(str(path), b"old")

    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(fn.train.StorageError, match=r".") as error:
        write_atomically(str(path), b"newer")
    assert str(error.value) == (
        f"{path}: expected to write 5 bytes, got ENOSPC, No space left on device; the file is as "
        "it was"
    )
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_writing_goes_through_a_synced_temporary_file(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os,
            name,
            lambda *args, name=name, original=original: (calls.append(name), original(*args)),
        )
    write_atomically(str(tmp_path / "file"), b"data")
    assert calls == ["fsync", "replace", "fsync"]
