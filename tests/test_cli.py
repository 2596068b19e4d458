"""The commands: what is printed where, exit codes, the run folder; bad input writes nothing."""

import copy
import json
import os
import signal
import subprocess
import sys
import tomllib

import fastnn as fn
import numpy as np
import pytest
from cli_helpers import SMALL, run

pytestmark = pytest.mark.usefixtures("elsewhere")


# ---- train --------------------


def test_train_digits_leaves_a_run_folder():
    result = run("train", "digits", "-o", "out", *SMALL)
    assert result.stdout.startswith("test accuracy ")
    assert result.stdout.endswith("run folder out\n")
    assert sorted(os.listdir("out")) == [
        "best.safetensors", "config.toml", "env.json", "fit.json", "last.safetensors", "loss.png",
        "metrics.jsonl",
    ]  # fmt: skip
    with open("out/config.toml", "rb") as file:
        config = tomllib.load(file)
    assert config["data"]["source"] == "digits"
    assert config["train"] == {
        "epochs": 3, "batch_size": 32, "seed": 0, "label_smoothing": 0.0, "device": "cpu",
        "sampling": "shuffle", "accumulate_grad_batches": 1, "l1": 0.0, "l2": 0.0, "monitor": False,
            "save_last": 1, "ensemble": 1, "precision": "32-true",
    }  # fmt: skip
    with open("out/metrics.jsonl") as file:
        rows = [json.loads(line) for line in file]
    assert [(r["epoch"], r["split"]) for r in rows[:-1]] == [
        (e, s) for e in range(3) for s in ("train", "val")
    ]
    assert rows[-1]["split"] == "test"
    assert rows[0].keys() == {
        "epoch", "step", "split", "loss", "accuracy", "lr", "seconds", "samples_per_s",
    }  # fmt: skip
    with open("out/env.json") as file:
        assert json.load(file)["fastnn"] == fn.__version__
    with open("out/loss.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_progress_goes_to_stderr_and_quiet_is_quiet():
    loud = run("train", "digits", "-o", "loud", *SMALL)
    quiet = run("train", "digits", "-o", "quiet", "-q", *SMALL)
    assert [line.split()[0] for line in loud.stderr.splitlines()[1:]] == [
        "epoch",
        "1/3",
        "2/3",
        "3/3",
    ]
    assert quiet.stderr == ""
    assert len(quiet.stdout.splitlines()) == 2


def test_json_is_one_object():
    result = json.loads(run("train", "digits", "--json", "-q", *SMALL).stdout)
    assert result.keys() == {
        "run", "epochs", "best_epoch", "val_loss", "seconds", "test_loss", "test_accuracy",
        "test_samples", "plot",
    }  # fmt: skip
    assert result["run"].startswith("runs/digits-")
    assert os.path.isdir(result["run"])


def test_same_seed_same_bits_and_another_seed_others():
    def bits(out):
        with open(f"{out}/best.safetensors", "rb") as file:
            return file.read()

    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("train", "digits", "-q", "--seed", seed, "-o", out, *SMALL)
    assert bits("a") == bits("b") != bits("c")


def test_print_config_is_a_configuration():
    printed = run("train", "digits", "--set", "optim.lr=0.5", "--print-config").stdout
    with open("run.toml", "w") as file:
        file.write(printed)
    assert run("train", "-c", "run.toml", "--print-config").stdout == printed
    assert tomllib.loads(printed)["optim"]["lr"] == 0.5
    assert os.listdir() == ["run.toml"]


@pytest.mark.parametrize(
    "settings",
    [
        [
            "optim.name=sgd",
            "optim.momentum=0.9",
            "optim.nesterov=true",
            "train.max_grad_norm=1.0",
        ],
        ["optim.name=lion", "optim.betas=[0.95, 0.98]", "train.label_smoothing=0.1"],
        [
            "optim.name=adamw",
            "optim.weight_decay=0.1",
            "model.layer_norm=true",
            "model.dropout=0.0",
        ],
        ["model.activation=gelu", "data.scaling=minmax", "data.val_fraction=0.0"],
        ["model.hidden=[]", "data.scaling=none", "data.test_fraction=0.0"],
        ["schedule.name=step", "schedule.milestones=[1]", "schedule.warmup=0.5"],
        ["schedule.name=exponential", "schedule.gamma=0.9", "train.ema_decay=0.99"],
        ["schedule.name=inverse_sqrt", "schedule.warmup=1", "data.val_fraction=0.0"],
        ["schedule.name=one_cycle"],
        ["schedule.warmup=1.5", "optim.name=sgd"],
        ["schedule.name=cosine"],
        ["train.sampling=balanced", "data.whiten=zca"],
        ["train.sampling=replacement", "data.whiten=pca", "train.precision=bf16-mixed"],
    ],
)
def test_other_configurations_train(settings):
    options = [part for setting in settings for part in ("--set", setting)]
    run("train", "digits", "-q", "--set", "train.epochs=2", *options)


def test_train_and_predict_a_csv(table, tmp_path):
    run(
        "train",
        table,
        "--label",
        "kind",
        "-q",
        "-o",
        "out",
        "--set",
        "train.epochs=40",
        "--set",
        "optim.lr=0.01",
    )
    result = json.loads(run("predict", "out", table, "-o", "p.csv", "--json").stdout)
    assert result["samples"] == 120
    assert result["accuracy"] > 0.9
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "prediction,p_no,p_yes"
    name, *probabilities = lines[1].split(",")
    assert name in ("no", "yes")
    assert sum(map(float, probabilities)) == pytest.approx(1, abs=1e-5)
    (tmp_path / "new.csv").write_text("c,b,a\n0,-1,1\n0,1,-1\n")
    rows = run("predict", "out", "new.csv").stdout.splitlines()
    assert [row.split(",")[0] for row in rows] == ["prediction", "yes", "no"]


def test_train_and_predict_an_npz():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype(np.float32)
    np.savez("d.npz", x=x, y=(x[:, 0] > 0).astype(int))
    np.savez("new.npz", x=x[:7])
    run("train", "d.npz", "-q", "-o", "out", *SMALL)
    assert run("predict", "out", "new.npz", "-o", "p.csv").stdout == "7 predictions in p.csv\n"


def test_predict_repeats_what_training_saw():
    """The model, scaling and classes of the file give the accuracy that train printed."""
    result = json.loads(run("train", "digits", "-q", "--json", "-o", "out", *SMALL).stdout)
    run("predict", "out", "digits", "-o", "p.csv")
    digits = fn.data.load("digits")
    _, test = fn.data.stratified_split(digits.y, 0.2, 0)
    with open("p.csv") as file:
        predicted = np.array([int(line.split(",")[0]) for line in file.readlines()[1:]])
    assert (predicted[test] == digits.y[test]).mean() == result["test_accuracy"]


# ---- resume and interruption --------------------


def test_resume_gives_the_bits_of_a_run_in_one_go():
    run("train", "digits", "-q", "-o", "whole", *SMALL)
    run("train", "digits", "-q", "-o", "half", *SMALL, "--set", "train.epochs=1")
    run("train", "-q", "--resume", "half", "--set", "train.epochs=3")
    for name in ("best.safetensors", "last.safetensors"):
        with open(f"whole/{name}", "rb") as a, open(f"half/{name}", "rb") as b:
            assert a.read() == b.read(), name

    def losses(out):
        with open(f"{out}/metrics.jsonl") as file:
            return [(r["epoch"], r["split"], r["loss"]) for r in map(json.loads, file)]

    assert losses("half") == losses("whole")


def test_resume_restores_schedule_averages_and_patience():
    settings = (
        "schedule.name=plateau", "schedule.patience=0", "train.ema_decay=0.9", "train.patience=2",
        "optim.lr=0.3",
    )  # fmt: skip
    options = ["-q", *SMALL, *(part for setting in settings for part in ("--set", setting))]
    run("train", "digits", "-o", "whole", *options, "--set", "train.epochs=8")
    run("train", "digits", "-o", "half", *options, "--set", "train.epochs=3")
    run("train", "-q", "--resume", "half", "--set", "train.epochs=8")
    for name in ("best.safetensors", "last.safetensors"):
        with open(f"whole/{name}", "rb") as a, open(f"half/{name}", "rb") as b:
            assert a.read() == b.read(), name
    with open("half/metrics.jsonl") as file:
        rates = [r["lr"] for r in map(json.loads, file) if r["split"] == "train"]
    assert len(set(rates)) > 1


def test_a_schedule_that_makes_its_own_warm_up():
    result = run(
        "train", "digits", "--set", "schedule.name=plateau", "--set", "schedule.warmup=2", code=2
    )
    assert result.stderr == "error: schedule: expected warmup 0 with 'plateau', got 2.0\n"


def test_resuming_a_finished_run_repeats_its_result():
    first = run("train", "digits", "-q", "-o", "out", *SMALL).stdout.splitlines()[0]
    assert run("train", "-q", "--resume", "out").stdout.splitlines()[0] == first


def test_resume_refuses_other_data(table):
    run("train", table, "--label", "kind", "-q", "-o", "out", *SMALL)
    result = run("train", "digits", "--resume", "out", code=2)
    assert result.stderr.startswith("error: out: expected the data of that run, {'samples': 120, ")


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_saves_and_exits_with_its_code(number, code, word):
    command = [sys.executable, "-m", "fastnn.cli", "train", "digits", "-o", "out"]
    settings = ["--set", "train.epochs=100000", "--set", "model.hidden=[8]"]
    process = subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.strip().startswith("3/100000"):
            break
    process.send_signal(number)
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == code
    assert errors.splitlines()[-2:] == ["saved; go on with: fastnn train --resume out", word]
    assert {"best.safetensors", "last.safetensors"} <= set(os.listdir("out"))
    with open("out/metrics.jsonl") as file:
        epochs = sum(json.loads(line)["split"] == "train" for line in file)
    result = json.loads(
        run(
            "train", "-q", "--json", "--resume", "out", "--set", f"train.epochs={epochs + 2}"
        ).stdout
    )
    assert result["epochs"] == epochs + 2


def test_an_ensemble_in_a_run_folder_predicts():
    run("train", "digits", "-q", "-o", "one", *SMALL)
    model, extra = fn.train.checkpoint.read_model("one/best.safetensors")
    os.mkdir("both")
    fn.train.save_model(
        "both/best.safetensors", fn.nn.Ensemble([model, copy.deepcopy(model)]), extra
    )
    results = [run("predict", folder, "digits", "-o", f"{folder}.csv", "--json").stdout
               for folder in ("one", "both")]  # fmt: skip
    assert json.loads(results[0])["accuracy"] == json.loads(results[1])["accuracy"] > 0.2


# ---- info, and the entry point --------------------


def test_info():
    facts = json.loads(run("info", "--json").stdout)
    assert facts["fastnn"] == fn.__version__
    text = run("info").stdout
    assert [line.split()[0] for line in text.splitlines()] == [
        "fastnn", "platform", "instructions", "threads", "CUDA",
    ]  # fmt: skip
    assert facts["cpu_reason"] in text


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "fastnn.cli"]
    output = subprocess.run(
        [*command, "train", "digits", "--set", "x"], capture_output=True, text=True
    )
    assert output.returncode == 2
    assert output.stderr == "error: --set: expected section.key=value, got 'x'\n"
    assert subprocess.run([*command, "trian"], capture_output=True).returncode == 2
    assert "train" in subprocess.run([*command, "--help"], capture_output=True, text=True).stdout


def test_without_typer_the_command_names_the_extra():
    code = "import sys; sys.modules['typer'] = None; from fastnn.cli import main; main()"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (output.returncode, output.stderr) == (
        1, "error: the fastnn command needs typer; install it with: pip install 'fastnn[train]'\n",
    )  # fmt: skip


def test_training_imports_no_more_than_it_needs():
    code = (
        "import sys; sys.argv = ['fastnn', 'train', 'digits', '-q', '-o', 'out', '--set', "
        "'train.epochs=1']\n"
        "from fastnn.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = 'sklearn', 'scipy', 'pyarrow', 'pandas', 'matplotlib.pyplot'\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert output.stdout.splitlines()[-1] == "[]"
