"""The configuration of a run: TOML, validated by pydantic, unknown keys refused by name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

__all__ = ["Config", "load", "to_toml", "validate"]

Activation = Literal[
    "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "silu", "gelu"
]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, validate_default=True)


class ModelConfig(_Section):
    """A multilayer perceptron."""

    hidden: list[Size] = [256]
    activation: Activation = "relu"
    dropout: Fraction = 0.2
    layer_norm: bool = False


class OptimConfig(_Section):
    """The optimizer; options of another one than ``name`` do nothing."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), strict=False)
    eps: Positive = 1e-8
    momentum: Decay = 0.9
    nesterov: bool = False


class DataConfig(_Section):
    """The data, and how they are split and scaled."""

    source: str = ""
    label: str = "label"
    test_fraction: Fraction = 0.2
    val_fraction: Fraction = 0.1
    scaling: Literal["standard", "minmax", "none"] = "standard"


class ScheduleConfig(_Section):
    """The learning rate in the course of training; times are in epochs, fractions of them too.

    ``gamma`` and ``milestones`` are of step, ``gamma`` of exponential (for each epoch) and of
    plateau, ``patience`` of plateau.
    """

    name: Literal[
        "constant",
        "linear",
        "cosine",
        "step",
        "exponential",
        "inverse_sqrt",
        "one_cycle",
        "plateau",
    ] = "constant"
    warmup: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    milestones: list[Size] = [30, 60, 90]
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0, le=1_000_000)] = 10


class TrainConfig(_Section):
    """How long, in which steps, from which seed."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    batch_size: Size = 32
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    max_grad_norm: Positive | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    patience: Size | None = None  # epochs without a better validation loss, then it stops
    ema_decay: Fraction | None = None  # of an average of the weights, which is what is kept


class Config(_Section):
    """All of a run."""

    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    schedule: ScheduleConfig = ScheduleConfig()


def load(path: str | None, settings: Iterable[str] = ()) -> Config:
    """The configuration in a file, with ``section.key=value`` settings on top.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not TOML, a key is unknown, or a value is not allowed; one line.

    Example:
        >>> from fastnn.cli import config
        >>> config.load(None, ["optim.lr=1e-2"]).optim.lr
        0.01
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            with open(path, "rb") as file:
                tree = tomllib.load(file)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{path}: expected a configuration, found no such file"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: expected TOML, got {error}") from None
    for setting in settings:
        _apply(tree, setting)
    return validate(path or "config", tree)


def validate(where: str, tree: dict[str, Any]) -> Config:
    """The configuration in nested dictionaries.

    Raises:
        ValueError: See :func:`load`.
    """
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ValueError(_one_line(where, error)) from None


def to_toml(config: Config) -> str:
    """The configuration as TOML; keys without a value are left out.

    Example:
        >>> from fastnn.cli import config
        >>> print(config.to_toml(config.Config()).split()[0])
        [model]
    """
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _apply(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise ValueError(f"--set: expected section.key=value, got {setting[:80]!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()
    section = tree.setdefault(parts[0], {})
    if not isinstance(section, dict):
        raise ValueError(f"--set: expected a section {parts[0]!r}, got a value in its place")
    section[parts[1]] = value


def _one_line(where: str, error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key[:80]!r}{_suggestion(path)}"
    value = repr(first["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    return f"{where}: {key}: {_lower(first['msg'])}, got {shown}"


def _suggestion(path: list[str]) -> str:
    """The nearest known key, or those of the section."""
    known = {
        f"{name}.{key}" for name, section in _sections().items() for key in section.model_fields
    }
    names = sorted(known | set(_sections()))
    close = [name for name in sorted(known) if name.endswith(f".{path[-1]}")]
    close = close or difflib.get_close_matches(".".join(path), names, 1, cutoff=0.75)
    if close:
        return f"; did you mean {close[0]!r}?"
    section = _sections().get(path[0])
    if section is None:
        return f"; known sections: {', '.join(_sections())}"
    return f"; known keys of [{path[0]}]: {', '.join(section.model_fields)}"


def _sections() -> dict[str, type[pydantic.BaseModel]]:
    return {
        "model": ModelConfig,
        "optim": OptimConfig,
        "data": DataConfig,
        "train": TrainConfig,
        "schedule": ScheduleConfig,
    }


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
