"""The last K checkpoints: which are kept, what a crash leaves, what resuming does with damage."""

import os

import fastnn as fn
import pytest
from checkpoint_helpers import X, Y, bits, make
from cli_helpers import run
from fastnn.train.files import read_tensors
from fastnn.train.last import LastCheckpoints, load_last
from test_crash import may_trace, run_killed

STEPS = 3  # of 70 samples, in batches of 32


def damage(path):
    """One bit of the data, in a file of its own: others may have the same one."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[-5] ^= 4
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(data)


def train(folder, epochs, keep=3, **options):
    best = fn.train.ModelCheckpoint(f"{folder}/best.safetensors", "loss", save_last=keep)
    trainer = make()
    trainer.fit(X, Y, epochs=epochs, callbacks=[best], seed=2, verbose=0, **options)
    return trainer


def go_on(trainer, folder, epochs, keep=3):
    best = fn.train.ModelCheckpoint(f"{folder}/best.safetensors", "loss", save_last=keep)
    trainer.fit(X, Y, epochs=epochs, callbacks=[best], seed=2, verbose=0, initial_epoch=None)


@pytest.mark.parametrize(("keep", "names"), [
    (1, ["last.safetensors"]),
    (3, ["last-12.safetensors", "last-9.safetensors", "last.safetensors"]),
])  # fmt: skip
def test_the_last_ones_are_kept(tmp_path, keep, names):
    (tmp_path / "last-notes.safetensors").touch()  # not ours
    trainer = train(tmp_path, 5, keep)
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", *names[:-1],
                                            "last-notes.safetensors", names[-1]]  # fmt: skip
    for name in names:
        other = make()
        other.load(str(tmp_path / name))
        assert other.optimizer.step_count == int(name[5:-12] or 5 * STEPS)
    assert bits(other) == bits(trainer)


def test_those_of_another_training_are_removed(tmp_path):
    train(tmp_path, 5)
    train(tmp_path, 2)
    assert sorted(os.listdir(tmp_path))[1:] == ["last-3.safetensors", "last.safetensors"]


def test_going_on_counts_on(tmp_path):
    whole = train(tmp_path / ".", 6)
    names = sorted(os.listdir(tmp_path))
    train(tmp_path, 3)
    again = make()
    load_last(again, str(tmp_path / "last.safetensors"))
    go_on(again, tmp_path, 6)
    assert sorted(os.listdir(tmp_path)) == names
    assert bits(again) == bits(whole)


@pytest.mark.parametrize("bad", [1, 2])
def test_the_newest_that_is_whole_goes_on_with_the_same_bits(tmp_path, bad):
    whole = train(tmp_path, 6)
    train(tmp_path, 4)
    names = ["last.safetensors", "last-9.safetensors", "last-6.safetensors"]
    for name in names[:bad]:
        damage(tmp_path / name)
    again = make()
    with pytest.warns(RuntimeWarning, match="expected tensor") as told:
        load_last(again, str(tmp_path / "last.safetensors"))
    assert len(told) == bad
    assert str(told[-1].message).startswith(f"{tmp_path / names[bad - 1]}: expected tensor ")
    assert str(told[-1].message).endswith(
        f" intact, got a wrong checksum; going on with {names[bad]}"
    )
    assert again.epoch == 4 - bad
    go_on(again, tmp_path, 6)
    assert bits(again) == bits(whole)
    for name in os.listdir(tmp_path):
        read_tensors(str(tmp_path / name))  # nothing damaged is left


def test_without_any_that_is_whole_the_newest_is_told_of(tmp_path):
    path = str(tmp_path / "last.safetensors")
    trainer = make()
    with pytest.raises(FileNotFoundError) as missing:
        load_last(trainer, path)
    assert str(missing.value) == f"{path}: expected a checkpoint, found no such file"
    train(tmp_path, 2, 2)
    for name in ("last.safetensors", "last-3.safetensors"):
        damage(tmp_path / name)
    before = bits(trainer)
    with pytest.raises(fn.train.CheckpointError, match=r"last\.safetensors: expected tensor"):
        load_last(trainer, path)
    assert bits(trainer) == before


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^ModelCheckpoint: expected save_last >= 0, got -1$"):
        fn.train.ModelCheckpoint("x", save_last=-1)


# ---- in this order, whatever happens --------------------


def prepared(folder):
    trainer = make()
    last = LastCheckpoints(str(folder / "last.safetensors"), keep=2)
    for epoch in (1, 2):
        trainer.fit(X, Y, epochs=epoch, initial_epoch=None, seed=2, verbose=0)
        last.save(trainer)
    trainer.fit(X, Y, epochs=3, initial_epoch=None, seed=2, verbose=0)
    return trainer, last


def test_the_oldest_goes_when_the_new_one_is_durable(tmp_path, monkeypatch):
    trainer, last = prepared(tmp_path)
    calls = []
    for name in ("link", "replace", "fsync", "unlink"):
        original = getattr(os, name)

        def note(*args, name=name, original=original):
            calls.append((name, *(os.path.basename(a) for a in args if isinstance(a, str))))
            return original(*args)

        monkeypatch.setattr(os, name, note)
    last.save(trainer)
    calls = [c for c in calls if c != ("unlink", "last-6.safetensors")]  # which was not there
    assert [c[0] for c in calls] == ["link", "fsync", "replace", "fsync", "unlink"]
    assert calls[0] == ("link", "last.safetensors", "last-6.safetensors")
    assert calls[-1] == ("unlink", "last-3.safetensors")


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def no_links(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    trainer, last = prepared(tmp_path)
    last.save(trainer)
    assert sorted(os.listdir(tmp_path)) == ["last-6.safetensors", "last.safetensors"]
    read_tensors(str(tmp_path / "last-6.safetensors"))


def test_a_save_that_fails_leaves_the_old_ones(tmp_path, monkeypatch):
    trainer, last = prepared(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(fn.train.StorageError, match="the file is as it was"):
            last.save(trainer)
    again = make()
    load_last(again, last.path)
    assert again.epoch == 2
    assert "last-3.safetensors" in os.listdir(tmp_path)
    last.save(trainer)
    assert sorted(os.listdir(tmp_path)) == ["last-6.safetensors", "last.safetensors"]


@pytest.mark.skipif(not may_trace(), reason="no permission to trace a child")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_killed_at_each_system_call_two_whole_ones_are_left(tmp_path):
    trainer, last = prepared(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    epochs, stop = set(), 1
    while (renamed := run_killed(lambda: last.save(trainer), stop)) is not None:
        names = [n for n in os.listdir(tmp_path) if n.endswith(".safetensors") and n[0] != "."]
        for name in names:
            read_tensors(str(tmp_path / name))
        assert len({(tmp_path / name).stat().st_ino for name in names}) >= 2, stop
        again = make()
        load_last(again, last.path)
        assert again.epoch == (3 if renamed else 2), stop
        epochs.add(again.epoch)
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        for name, data in before.items():
            (tmp_path / name).write_bytes(data)
        stop += 4
    assert epochs == {2, 3}


# ---- the run folder --------------------


@pytest.mark.usefixtures("elsewhere")
def test_the_command_goes_on_from_the_newest_that_is_whole(monkeypatch):
    monkeypatch.setattr("fastnn.cli.runfolder._FLUSH_SECONDS", 0.0)
    small = ["--set", "model.hidden=[8]", "--set", "train.save_last=3"]
    run("train", "digits", "-q", "-o", "whole", *small, "--set", "train.epochs=6")
    run("train", "digits", "-q", "-o", "out", *small, "--set", "train.epochs=4")
    older = sorted(n for n in os.listdir("out") if n.startswith("last-"))
    assert older == ["last-123.safetensors", "last-82.safetensors"]
    damage("out/last.safetensors")
    result = run("train", "-q", "--resume", "out", "--set", "train.epochs=6")
    first, *rest = result.stderr.splitlines()
    assert first.startswith("warning: out/last.safetensors: expected tensor ")
    assert first.endswith(" intact, got a wrong checksum; going on with last-123.safetensors")
    assert rest == []
    for name in ("best.safetensors", "last.safetensors"):
        assert read_tensors(f"out/{name}")[1]["training" if name[0] == "l" else "model"]
    whole, again = (
        {k: v.numpy().tobytes() for k, v in read_tensors(f"{f}/last.safetensors")[0].items()
         if isinstance(v, fn.Tensor)}
        for f in ("whole", "out")
    )  # fmt: skip
    assert whole == again


@pytest.mark.usefixtures("elsewhere")
def test_a_best_model_that_is_damaged_is_looked_for_anew():
    small = ["--set", "model.hidden=[8]"]
    run("train", "digits", "-q", "-o", "out", *small, "--set", "train.epochs=2")
    damage("out/best.safetensors")
    result = run("train", "-q", "--resume", "out", "--set", "train.epochs=3")
    assert result.stderr.startswith("warning: out/best.safetensors: expected ")
    assert result.stderr.endswith("; the best is looked for anew\n")
    assert run("predict", "out", "digits", "-o", "p.csv").exit_code == 0
