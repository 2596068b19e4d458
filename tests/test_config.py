"""The configuration: defaults, files, settings, and one clear line for each mistake."""

import pytest
from fastnn.cli import config


def test_defaults_are_complete_and_survive_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(config.to_toml(config.Config()))
    assert config.load(str(path)) == config.Config()


def test_settings_go_on_top_of_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[optim]\nlr = 0.5\nname = 'sgd'\n[model]\nhidden = [3]\n")
    loaded = config.load(
        str(path), ["optim.lr=1e-2", "model.activation=gelu", "optim.betas=[0.5, 0.9]"]
    )
    assert (loaded.optim.lr, loaded.optim.name, loaded.model.hidden) == (0.01, "sgd", [3])
    assert (loaded.model.activation, loaded.optim.betas) == ("gelu", (0.5, 0.9))


ERRORS = {
    "misspelled": ("optim.lrr=1", "config: unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
    "other section": (
        "optim.epochs=1",
        "config: unknown key 'optim.epochs'; did you mean 'train.epochs'?",
    ),
    "nothing near": (
        "model.qqq=1",
        "config: unknown key 'model.qqq'; known keys of [model]: hidden, activation, dropout, "
        "layer_norm",
    ),
    "section": (
        "zzz.a=1",
        "config: unknown key 'zzz'; known sections: model, optim, data, train, schedule",
    ),
    "misspelled section": ("optm.lr=1", "config: unknown key 'optm'; did you mean 'optim'?"),
    "range": ("optim.lr=-1", "config: optim.lr: input should be greater than 0, got -1"),
    "infinite": ("optim.lr=inf", "config: optim.lr: input should be a finite number, got inf"),
    "type": (
        "train.epochs=many",
        "config: train.epochs: input should be a valid integer, got 'many'",
    ),
    "fraction": (
        "train.epochs=1.5",
        "config: train.epochs: input should be a valid integer, got 1.5",
    ),
    "choice": (
        "model.activation=relo",
        "config: model.activation: input should be 'relu', 'leaky_relu', 'elu', 'selu', 'sigmoid', "
        "'tanh', 'softplus', 'silu' or 'gelu', got 'relo'",
    ),
    "list": (
        "model.hidden=[8, 0]",
        "config: model.hidden.1: input should be greater than or equal to 1, got 0",
    ),
    "long": (
        f"optim.name={'z' * 200}",
        f"config: optim.name: input should be 'adam', 'adamw' or 'sgd', got '{'z' * 76}...",
    ),
    "no value": ("optim.lr", "--set: expected section.key=value, got 'optim.lr'"),
    "no section": ("lr=1", "--set: expected section.key=value, got 'lr=1'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_are_told_in_one_line(case):
    setting, message = ERRORS[case]
    with pytest.raises(ValueError, match=r".") as error:
        config.load(None, [setting])
    assert str(error.value) == message


def test_missing_file(tmp_path):
    path = str(tmp_path / "none.toml")
    with pytest.raises(FileNotFoundError) as error:
        config.load(path)
    assert str(error.value) == f"{path}: expected a configuration, found no such file"


def test_not_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[optim\nlr = 1")
    with pytest.raises(
        ValueError, match=r"run.toml: expected TOML, got Expected .* \(at line 1, column 7\)"
    ):
        config.load(str(path))
