"""Bad input to the commands: one line, exit code 2, nothing written; failing runs exit with 1."""

import errno
import os
import subprocess
import sys

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import SMALL, run

pytestmark = pytest.mark.usefixtures("elsewhere")


def fails(code, message, *args):
    """The command ends with this code, one line on stderr, and nothing on stdout."""
    result = run(*args, code=code)
    assert result.stdout == ""
    assert result.stderr == f"error: {message}\n"


# ---- bad input: one line, exit code 2, nothing written --------------------


BAD = {
    "no data": ([], "train: expected DATA: digits, a file or a folder; see fastnn train --help"),
    "unknown data": (
        ["digts"],
        "data: expected 'digits', a folder or a file (.csv, .tsv, .npz, .npy, .parquet, .arrow, "
        ".feather, .bin, .idx, -idx3-ubyte), got 'digts'",
    ),
    "missing file": (["none.csv"], "none.csv: expected a file, found nothing there"),
    "missing config": (
        ["digits", "-c", "none.toml"],
        "none.toml: expected a configuration, found no such file",
    ),
    "unknown key": (
        ["digits", "--set", "optim.lrr=1"],
        "config: unknown key 'optim.lrr'; did you mean 'optim.lr'?",
    ),
    "bad value": (
        ["digits", "--set", "optim.lr=fast"],
        "config: optim.lr: input should be a valid number, got 'fast'",
    ),
    "seed": (
        ["digits", "--seed", "-1"],
        "command line: train.seed: input should be greater than or equal to 0, got -1",
    ),
    "no label": (
        ["ok.csv"],
        "ok.csv: expected a label column 'label', got the columns ['a', 'y']; give its name: "
        "label, --label",
    ),
    "one class": (["one.csv", "--label", "y"], "one: expected at least 2 classes, got 1"),
    "too few": (
        ["ok.csv", "--label", "y", "--set", "data.test_fraction=0.1"],
        "stratified_split: expected samples in both parts, got 2 and 0 of 2 samples with fraction "
        "0.1",
    ),
    "bad cell": (
        ["bad.csv", "--label", "y"],
        "bad.csv: expected a number, got 'x' in line 3, column 'a'; if these are categories: "
        "data.categorical=a, categorical=['a']",
    ),
    "NaN": (
        ["nan.csv", "--label", "y"],
        "nan.csv: expected finite numbers, got nan in line 2, column 'a'; to fill it: "
        "data.impute=median, missing=True",
    ),
    "resume of nothing": (
        ["--resume", "none"],
        "none: expected a run folder, found no such folder",
    ),
    "resume with output": (
        ["--resume", "none", "-o", "x"],
        "train: expected --resume without -c and -o: the run has its own",
    ),
    "output in use": (
        ["digits", "-o", "full"],
        "full: expected a new or empty folder for the run, found something there",
    ),
    "device": (
        ["digits", "--device", "tpu"],
        "command line: train.device: input should be 'cpu', 'cuda' or 'cuda:N', got 'tpu'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line_and_writes_nothing(case):
    args, message = BAD[case]
    for name, text in {
        "ok.csv": "a,y\n1,p\n2,q\n",
        "one.csv": "a,y\n1,p\n2,p\n",
        "bad.csv": "a,y\n1,p\nx,q\n",
        "nan.csv": "a,y\nnan,p\n2,q\n",
    }.items():
        with open(name, "w") as file:
            file.write(text)
    os.mkdir("full")
    open("full/file", "w").close()
    before = sorted(os.walk("."))
    fails(2, message, "train", *args)
    assert sorted(os.walk(".")) == before


def test_predict_refuses_what_does_not_fit(table):
    run("train", table, "--label", "kind", "-q", "-o", "out", *SMALL)
    with open("other.csv", "w") as file:
        file.write("a,b,d\n1,2,3\n")
    np.savez("other.npz", x=np.ones((2, 5)))
    fails(
        2, "other.csv: expected the 3 columns of the training data, got missing ['c'] and unknown "
        "['d']",
        "predict", "out", "other.csv", "-o", "p.csv",
    )  # fmt: skip
    fails(
        2, "other.npz: expected 3 features as in training, got 5",
        "predict", "out", "other.npz", "-o", "p.csv",
    )  # fmt: skip
    fails(
        2, "none: expected a run folder, found no such folder",
        "predict", "none", table, "-o", "p.csv",
    )  # fmt: skip
    fails(
        2,
        "predict: expected -o FILE with --json: both would go to stdout",
        "predict",
        "out",
        table,
        "--json",
    )
    with open("out/best.safetensors", "rb") as file:
        data = file.read()
    with open("out/best.safetensors", "wb") as file:
        file.write(data[:-1])
    result = run("predict", "out", table, "-o", "p.csv", code=2)
    assert result.stderr.startswith(
        "error: out/best.safetensors: expected a fastnn checkpoint, got a truncated"
    )
    assert not os.path.exists("p.csv")


def test_a_run_that_diverges_fails_with_1_and_keeps_the_state():
    result = run(
        "train",
        "digits",
        "-q",
        "-o",
        "out",
        *SMALL,
        "--set",
        "optim.name=sgd",
        "--set",
        "optim.lr=1e30",
        code=1,
    )
    assert result.stdout == ""
    assert result.stderr.startswith("error: fit: epoch 1, step ")
    assert result.stderr.endswith(
        "; the state before that is in out, and what may help is told by: fastnn diagnose out\n"
    )
    assert "last.safetensors" in os.listdir("out")


def test_a_resumed_run_keeps_its_optimizer():
    run("train", "digits", "-q", "-o", "out", *SMALL)
    result = run("train", "-q", "--resume", "out", "--set", "optim.lr=0.5", code=2)
    assert result.stderr == (
        "error: out: expected optim.lr as it was, 0.001, got 0.5: an optimizer goes on with its "
        "state; begin a new run\n"
    )


def test_cuda_without_a_device_says_what_is_missing():
    if fn.cuda.is_available():
        run("train", "digits", "-q", "--device", "cuda", *SMALL)
    else:
        result = run("train", "digits", "--device", "cuda", code=1)
        assert fn.cuda.why_unavailable() in result.stderr
        assert os.listdir() == []


def test_a_full_disk_ends_the_run_with_code_1_and_keeps_the_checkpoints(monkeypatch):
    run("train", "digits", "-q", "-o", "out", *SMALL)
    with open("out/last.safetensors", "rb") as file:
        before = file.read()
    original = os.write

    def full(descriptor, data):
        if len(data) > 10_000:  # the checkpoints
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    result = run("train", "-q", "--resume", "out", "--set", "train.epochs=4", code=1)
    assert result.stderr.startswith("error: out/")
    assert result.stderr.endswith("got ENOSPC, No space left on device; the file is as it was\n")
    with open("out/last.safetensors", "rb") as file:
        assert file.read() == before


def test_a_reader_that_has_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fastnn.cli", "info"]
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
