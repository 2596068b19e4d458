"""The examples run, say what they should, and learn."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "LSTM"),
        (["--layer-norm"], "LayerNormLSTM"),
        (["--cell", "gru"], "GRU"),
        (["--cell", "rnn"], "RNN"),
    ],
)
def test_char_lstm_learns_a_text_and_writes(options, name, tmp_path, capsys):
    rng = np.random.default_rng(0)
    words = ["the cat ", "sat on ", "a mat. ", "and then\n"]
    path = tmp_path / "text.txt"
    path.write_text("".join(rng.choice(words, 800)))
    arguments = [str(path), *options, "--hidden", "32", "--batch", "8", "--length", "20"]
    arguments += ["--steps", "120", "--every", "40", "--lr", "0.01", "--sample", "60"]
    assert load("char_lstm").main(arguments) == 0
    header, *progress, written = capsys.readouterr().out.split("\n", 4)
    assert f"; {name} with " in header
    bits = [float(line.split(" bits")[0].split()[-1]) for line in progress]
    assert len(bits) == 3
    # Two bits choose the next of the four words, which have 7.75 characters on average.
    assert 0.2 < bits[2] < 0.4 < 1 < bits[0]
    sample = written.partition("\n")[2]
    assert len(sample) == 61
    assert any(word.strip() in sample for word in words)


def test_char_lstm_says_when_a_text_is_too_short(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("short")
    with pytest.raises(SystemExit) as caught:
        load("char_lstm").main([str(path)])
    assert str(caught.value) == (
        "char_lstm: expected at least 2049 characters for --batch 32 and --length 64, got 5"
    )


def test_char_lstm_has_norms_for_the_lstm_only(capsys):
    with pytest.raises(SystemExit):
        load("char_lstm").main(["text.txt", "--cell", "gru", "--layer-norm"])
    assert capsys.readouterr().err.endswith("error: --layer-norm: expected --cell lstm, got gru\n")


def test_lstm_or_gru_compares_them(capsys):
    assert load("lstm_or_gru").main(["--hidden", "8", "--rounds", "2", "--length", "3"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["hidden", "cell", "parameters"]
    assert [line.split()[1] for line in lines] == ["LSTM", "GRU", "RNN"]
    assert [line.split()[3] for line in lines] == ["100%", "75%", "25%"]


def test_lenet_learns_digits(capsys):
    assert load("lenet_digits").main(["--folds", "2", "--epochs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fold", "accuracy", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "mean"]
    mean = re.fullmatch(r"mean +(\d+\.\d\d)% +\d+\.\d", lines[-1])
    assert mean is not None
    assert float(mean[1]) > 85  # of two epochs on half of the data; chance is 10


@pytest.mark.parametrize("name", ["resnet_digits", "densenet_digits"])
def test_networks_of_blocks_learn_digits(name, capsys, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    assert load(name).main(["--epochs", "2"]) == 0
    parameters, accuracy, seconds = capsys.readouterr().out.splitlines()
    assert parameters.split()[0] == "parameters"
    assert seconds.split()[0] == "seconds"
    assert float(re.fullmatch(r"accuracy +(\d+\.\d\d)%", accuracy)[1]) > 80  # chance is 10


def test_population_sweeps_rates_and_seeds(capsys):
    arguments = ["--lr", "1e-6", "0.05", "--seeds", "2", "--epochs", "3"]
    assert load("population").main(arguments) == 0
    header, slow, fast, ensemble, count = capsys.readouterr().out.splitlines()
    assert header.split() == ["rate", "mean", "lowest", "highest"]
    means = [float(line.split()[1].rstrip("%")) for line in (slow, fast)]
    assert means[0] < 40 < 85 < means[1]
    assert float(re.fullmatch(r"ensemble of rate 0.05: (\d+\.\d\d)%", ensemble)[1]) > 85
    assert count.startswith("4 networks in ")
