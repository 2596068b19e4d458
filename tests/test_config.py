"""The configuration: defaults, files, settings, and one clear line for each mistake."""

import inspect
import tomllib

import fastnn as fn
import pytest
from fastnn import optim
from fastnn.cli import config
from fastnn.testing.ops import OPTIMIZERS as ROWS


def test_defaults_are_complete_and_survive_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(config.to_toml(config.Config()))
    assert config.load(str(path)) == config.Config()


def test_settings_go_on_top_of_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[optim]\nlr = 0.5\nname = 'lion'\n[model]\nhidden = [3]\n")
    loaded = config.load(
        str(path), ["optim.lr=1e-2", "model.activation=gelu", "optim.betas=[0.5, 0.9]"]
    )
    assert (loaded.optim.lr, loaded.optim.name, loaded.model.hidden) == (0.01, "lion", [3])
    assert (loaded.model.activation, loaded.optim.betas) == ("gelu", (0.5, 0.9))


def test_every_optimizer_of_optim_can_be_named():
    """With the options and defaults of its signature, which survive TOML."""
    names = {row.name for row in ROWS}
    for name in names:
        chosen = config.load(None, [f"optim.name={name.lower()}"])
        section = chosen.optim.model_dump(exclude={"name"})
        parameters = inspect.signature(getattr(optim, name)).parameters
        assert section == {k: p.default for k, p in parameters.items() if k != "params"}
        assert config.validate("run", tomllib.loads(config.to_toml(chosen))) == chosen
        assert type(chosen.optim.build([fn.tensor([1.0], requires_grad=True)])).__name__ == name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_options_out_of_range_are_told_in_the_words_of_the_optimizer(row):
    for options, message in row.bad:
        tree = {"optim": {"name": row.name.lower(), **options}}
        with pytest.raises(ValueError, match="run: optim") as error:
            config.validate("run", tree)
        if "lr" not in options:  # which has to be above 0 here
            assert str(error.value) == f"run: optim: {message}"


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
    "option of another optimizer": (
        "optim.momentum=0.9",
        "config: unknown key 'optim.momentum'; known keys of [optim] with name = 'adam': name, lr, "
        "betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay, bias_correction, "
        "eps_mode",
    ),
    "option's type": (
        "optim.amsgrad=1",
        "config: optim.amsgrad: input should be a valid boolean, got 1",
    ),
    "option's range": (
        "optim.betas=[0.9, 1.0]",
        "config: optim: Adam: expected 0.0 <= betas[1] < 1.0, got 1.0",
    ),
    "smoothing": (
        "train.label_smoothing=1.5",
        "config: train.label_smoothing: input should be less than or equal to 1, got 1.5",
    ),
    "list": (
        "model.hidden=[8, 0]",
        "config: model.hidden.1: input should be greater than or equal to 1, got 0",
    ),
    "long": (
        f"optim.name={'z' * 200}",
        "config: optim.name: input should be one of 'adadelta', 'adagrad', 'adam', 'adamax', "
        f"'adamw', 'lion', 'nadam', 'radam', 'rmsprop', 'sgd', got '{'z' * 76}...",
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


def test_a_section_that_is_none(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("optim = 3")
    with pytest.raises(ValueError, match=r"run.toml: optim: input should be a valid dictionary .*"):
        config.load(str(path))


def test_not_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[optim\nlr = 1")
    with pytest.raises(
        ValueError, match=r"run.toml: expected TOML, got Expected .* \(at line 1, column 7\)"
    ):
        config.load(str(path))
