"""Damaged, hostile and foreign checkpoints are refused, and nothing is changed."""

import json
import os
import zlib

import fastnn as fn
import pytest
from checkpoint_helpers import X, Y, bits, make
from fastnn import optim
from fastnn.train import CheckpointError, spec
from fastnn.train.files import write_tensors

# ---- damage --------------------


@pytest.fixture
def saved(tmp_path):
    """A small checkpoint of a training, its bytes, and a trainer to load it into."""
    path = tmp_path / "last.safetensors"
    trainer = make(optim.SGD, hidden=2, momentum=0.9)
    trainer.fit(X, Y, verbose=0)
    trainer.save(str(path))
    return path, path.read_bytes(), make(optim.SGD, hidden=2, momentum=0.9)


def loads(path, trainer):
    message = ""
    try:
        trainer.load(str(path))
    except CheckpointError as error:
        message = str(error)
    if not message:
        return True
    assert message.startswith(f"{path}: ")
    assert "expected" in message
    assert len(message) < 500
    return False


def test_truncated_anywhere(saved):
    path, data, trainer = saved
    before, generators = bits(trainer), fn.random.get_state()
    for size in reversed(range(len(data))):
        os.truncate(path, size)
        assert not loads(path, trainer), size
    assert (bits(trainer), fn.random.get_state()) == (before, generators)


@pytest.mark.parametrize(("size", "message"), [
    (0, "expected a whole checkpoint, got a truncated file of 0 bytes"),
    (7, "expected a whole checkpoint, got a truncated file of 7 bytes"),
    (100, "expected a whole checkpoint, got a truncated file of 100 bytes"),
])  # fmt: skip
def test_truncated_says_so(saved, size, message):
    path, data, trainer = saved
    path.write_bytes(data[:size])
    with pytest.raises(CheckpointError) as error:
        trainer.load(str(path))
    assert str(error.value) == f"{path}: {message}"


def test_every_byte_flipped(saved):
    """One bit of each byte: only white space in the header may pass."""
    path, data, trainer = saved
    passed = []
    with open(path, "r+b", buffering=0) as file:
        for i, byte in enumerate(data):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << i % 8]), i)
            if loads(path, trainer):
                passed.append(byte)
            os.pwrite(file.fileno(), bytes([byte]), i)
    assert set(passed) <= {ord(" ")}
    assert loads(path, trainer)


def test_bytes_behind_the_end(saved):
    path, data, trainer = saved
    path.write_bytes(data + b"\0")
    assert not loads(path, trainer)


def rewrite(data, change):
    """The file with another header, its checksum made right again."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    texts = header.pop("__metadata__")
    texts.pop("header_crc32", None)
    texts["header_crc32"] = str(zlib.crc32(json.dumps([header, texts], sort_keys=True).encode()))
    text = json.dumps({"__metadata__": texts, **header}).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def in_training(**changes):
    def change(header):
        training = json.loads(header["__metadata__"]["training"])
        for path, value in changes.items():
            *parents, last = path.split("__")
            target = training
            for key in parents:
                target = target[int(key)] if isinstance(target, list) else target[key]
            target[last] = value
        header["__metadata__"]["training"] = json.dumps(training)

    return change


def renamed(old, new):
    def change(header):
        header[new] = header.pop(old)
        checksums = json.loads(header["__metadata__"]["checksums"])
        checksums[new] = checksums.pop(old)
        header["__metadata__"]["checksums"] = json.dumps(checksums)

    return change


HOSTILE = {
    "version": lambda h: h["__metadata__"].update(format_version="2"),
    "foreign": lambda h: h["__metadata__"].update(format="pt"),
    "no checksums": lambda h: h["__metadata__"].pop("checksums"),
    "deep": lambda h: h["__metadata__"].update(training="[" * 100_000),
    "extra a list": lambda h: h["__metadata__"].update(extra="[]"),
    "a model alone": lambda h: h["__metadata__"].pop("training"),
    "training of nothing": lambda h: h["__metadata__"].update(training="[]"),
    "negative epoch": in_training(position__epoch=-1),
    "epoch a float": in_training(position__epoch=1.5),
    "huge seed": in_training(position__seed=1 << 64),
    "loss a text": in_training(position__sums=[{"loss": "x", "correct": 0, "terms": {}}]),
    "other optimizer": in_training(optimizer="Adam"),
    "negative lr": in_training(param_groups__0__lr=-1.0),
    "lr a text": in_training(param_groups__0__lr="0.1"),
    "new option": in_training(param_groups__0__evil="x"),
    "other parameters": in_training(param_groups__0__params=[0]),
    "negative step": in_training(counts=[{"step": -1}] * 6),
    "too many counts": in_training(counts=[{"step": 1}] * 7),
    "huge offset": in_training(generators__dropout=[0, 1 << 60]),
    "no generators": in_training(generators={}),
    "generator a text": in_training(generators="abcd"),
    "groups a number": in_training(param_groups=3),
    "unknown tensor": renamed("0.bias", "0.bia5"),
    "slot of no parameter": renamed("optimizer:0:momentum_buffer", "optimizer:99:momentum_buffer"),
    "slot without number": renamed("optimizer:0:momentum_buffer", "optimizer:x:momentum_buffer"),
    "slot without name": renamed("optimizer:0:momentum_buffer", "optimizer:0"),
    "slot of another shape": renamed("optimizer:0:momentum_buffer", "optimizer:1:momentum_buffer"),
    "companions a list": in_training(companions=[]),
    "companion a number": in_training(companions={"callback 0 EMA": 3}),
    "scheduler of another": in_training(companions={"scheduler StepLR": {"last_epoch": 1}}),
    "tensor of no companion": renamed("optimizer:0:momentum_buffer", "companion:x:y"),
    "companion without name": renamed("optimizer:0:momentum_buffer", "companion:x"),
    "shape swapped": lambda h: h["0.weight"].update(shape=[4, 2]),
    "dtype swapped": lambda h: h["0.weight"].update(dtype="I32"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(saved, case):
    path, data, trainer = saved
    before, generators = bits(trainer), fn.random.get_state()
    path.write_bytes(rewrite(data, HOSTILE[case]))
    assert not loads(path, trainer)
    assert (bits(trainer), fn.random.get_state()) == (before, generators)


def test_the_rewritten_header_alone_is_fine(saved):
    path, data, trainer = saved
    path.write_bytes(rewrite(data, lambda header: None))
    assert loads(path, trainer)


LINEAR = {"type": "Linear", "in_features": 2, "out_features": 1, "bias": True}
BLOCK = {
    "type": "BasicBlock", "in_channels": 1, "out_channels": 1, "stride": 1, "zero_init": False,
}  # fmt: skip
DENSE = {
    "type": "DenseBlock", "num_layers": 1, "in_channels": 1, "growth_rate": 1, "bn_size": None,
    "drop_rate": 0.0,
}  # fmt: skip
SPECS = {
    "unknown layer": {"type": "os.system"},
    "a list": [],
    "unknown argument": {"type": "ReLU", "inplace": True},
    "missing argument": {"type": "Linear", "in_features": 2},
    "size a float": {"type": "Linear", "in_features": 2.0, "out_features": 1, "bias": True},
    "huge": {"type": "Linear", "in_features": 1 << 39, "out_features": 1 << 39, "bias": True},
    "negative": {"type": "Linear", "in_features": -2, "out_features": 1, "bias": True},
    "dropout": {"type": "Dropout", "p": 7},
    "not a number": {"type": "ELU", "alpha": float("nan")},
    "no layers": {"type": "Sequential", "layers": 5},
    "ensemble of none": {"type": "Ensemble", "layers": [], "average": "outputs"},
    "no groups": {
        "type": "Conv2d",
        "in_channels": 1,
        "out_channels": 3,
        "kernel_size": [1, 1],
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 0,
        "bias": False,
    },
    "residual of three": {"type": "Residual", "layers": [LINEAR] * 3, "activation": None},
    "unknown activation": {"type": "Residual", "layers": [LINEAR], "activation": "exec"},
    "activation a number": {"type": "Residual", "layers": [LINEAR], "activation": 3},
    "activation of nan": {
        "type": "Residual",
        "layers": [LINEAR],
        "activation": ["elu", float("nan")],
    },
    "activation refused": {"type": "Residual", "layers": [LINEAR], "activation": ["softplus", 0]},
    "huge block": {**BLOCK, "in_channels": 1 << 39},
    "block of nothing": {**BLOCK, "in_channels": 0, "out_channels": 0},
    "block without stride": {**BLOCK, "stride": 0},
    "block with a list": {**BLOCK, "stride": [1, 1]},
    "odd bottleneck": {**BLOCK, "type": "Bottleneck", "out_channels": 6},
    "endless dense block": {**DENSE, "num_layers": 1 << 39},
    "wide dense block": {**DENSE, "bn_size": 1 << 39},
    "dense block of nothing": {**DENSE, "num_layers": 0},
    "dense block dropping": {**DENSE, "drop_rate": 7},
    "transition to nothing": {"type": "Transition", "in_channels": 0, "out_channels": 3},
    "name a list": {"type": ["Linear"]},
    "too large for its tensors": {
        "type": "Linear",
        "in_features": 3,
        "out_features": 1,
        "bias": True,
    },
}


@pytest.mark.parametrize("case", SPECS)
def test_hostile_models_are_refused(tmp_path, case):
    path = str(tmp_path / "m.safetensors")
    texts = {"model": json.dumps(SPECS[case]), "extra": "{}"}
    write_tensors(path, {"weight": fn.zeros(1, 2), "bias": fn.zeros(1)}, texts)
    with pytest.raises(CheckpointError, match="expected"):
        fn.train.load_model(path)


@pytest.mark.parametrize(("case", "message"), [
    ("no layers", "model: expected a valid layers of Sequential, got '5'"),
    ("residual of three", "model: expected 1 to 2 layers of Residual, got 3"),
    ("unknown activation", "model: expected a valid activation of Residual, got 'exec'"),
    ("huge block", f"model: expected {10 * 2**39 + 24} parameters, got 3 in the tensors"),
    ("no groups", "model: expected a valid groups of Conv2d, got '0'"),
])  # fmt: skip
def test_hostile_models_are_refused_for_what_they_are(tmp_path, case, message):
    test_hostile_models_are_refused(tmp_path, case)
    with pytest.raises(CheckpointError) as caught:
        fn.train.load_model(str(tmp_path / "m.safetensors"))
    assert str(caught.value) == f"{tmp_path}/m.safetensors: {message}"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("block of nothing", "BasicBlock: expected channels and stride > 0, got channels 0 to 0"),
        ("block without stride", "got channels 1 to 1 and stride 0"),
        ("odd bottleneck", "expected out_channels to be a multiple of 4, got 6"),
        ("dense block of nothing", "DenseBlock: expected sizes > 0, got num_layers=0"),
        ("dense block dropping", "expected 0 <= p <= 1"),
    ],
)
def test_arguments_that_a_block_refuses(case, message):
    """Whatever the tensors are: building says so, as the constructor does."""
    with pytest.raises(ValueError, match=message):
        spec.build(SPECS[case])


def test_deeply_nested_models_are_refused(tmp_path):
    path = str(tmp_path / "m.safetensors")
    spec = {"type": "ReLU"}
    for _ in range(40):
        spec = {"type": "Sequential", "layers": [spec]}
    write_tensors(path, {}, {"model": json.dumps(spec), "extra": "{}"})
    with pytest.raises(CheckpointError, match="expected nested layers, at most 16 deep"):
        fn.train.load_model(path)


def test_another_model_names_the_tensors(saved):
    path, _, _ = saved
    with pytest.raises(CheckpointError) as error:
        make(optim.SGD, hidden=3, momentum=0.9).load(str(path))
    assert str(error.value) == (
        f"{path}: model: expected '0.weight' of shape (3, 4) and dtype float32, got (2, 4) and "
        "float32"
    )


def test_missing_file_and_pipe(tmp_path):
    path = str(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError) as error:
        make().load(path)
    assert str(error.value) == f"{path}: expected a checkpoint, found no such file"
    os.mkfifo(path)
    with pytest.raises(
        CheckpointError, match=r"expected a regular file, found another kind of entry$"
    ):
        make().load(path)


def test_nothing_here_unpickles():
    """No module of the package that reads files imports pickle, or evaluates text."""
    import ast
    import pathlib

    root = pathlib.Path(fn.__file__).parent
    for path in [*root.glob("train/*.py"), *root.glob("data/*.py"), *root.glob("cli/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, (ast.Import, ast.ImportFrom))
                else []
            )
            assert not {"pickle", "marshal", "shelve", "yaml"} & set(names), path
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in ("eval", "exec")), path
