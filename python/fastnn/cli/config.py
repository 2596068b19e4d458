"""The configuration of a run: TOML, validated by pydantic, unknown keys refused by name.

What [optim] may hold depends on its name: an optimizer's section is made from its signature.
"""

from __future__ import annotations

import difflib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_type_hints

import pydantic
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from fastnn import optim, tensor
from fastnn.cli import LABEL

__all__ = ["Config", "load", "to_toml", "validate"]

Activation = Literal[
    "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "silu", "gelu"
]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = Annotated[
    list[str], BeforeValidator(lambda v: v.split(",") if isinstance(v, str) and v else v)
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _device(name: str) -> str:
    if re.fullmatch("cpu|cuda(:[0-9]+)?", name):
        return name
    raise PydanticCustomError("device", "input should be 'cpu', 'cuda' or 'cuda:N'")


Device = Annotated[str, AfterValidator(_device)]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, validate_default=True)


class ModelConfig(_Section):
    """A multilayer perceptron."""

    hidden: list[Size] = [256]
    activation: Activation = "relu"
    dropout: Fraction = 0.2
    layer_norm: bool = False


class OptimConfig(_Section):
    """The optimizer; what it is named by, its learning rate, and in subclasses its options."""

    name: str
    lr: Positive

    def build(self, params: optim.optimizer.Params) -> optim.Optimizer:
        """The optimizer of these parameters."""
        return _CLASSES[self.name](params, **self.model_dump(exclude={"name"}))

    @pydantic.model_validator(mode="after")
    def _options_in_range(self) -> OptimConfig:
        """The ranges are those that the optimizer itself checks."""
        self.build([tensor([0.0], requires_grad=True)])
        return self


_CLASSES: dict[str, Callable[..., optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in vars(optim).items()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
}
_DEFAULT_OPTIMIZER = "adam"


def _section_of(name: str, kind: Any) -> type[OptimConfig]:
    """A section with the options of an optimizer, from its signature."""
    hints = get_type_hints(kind.__init__, vars(optim.optimizer))
    options: dict[str, Any] = {"name": (Literal[name], name)}
    for option, parameter in inspect.signature(kind).parameters.items():
        if option != "params":
            hint = Positive if option == "lr" else hints[option]
            # TOML has lists, options are tuples.
            strict = None if hint in (Positive, float, bool, str) else False
            options[option] = (hint, Field(default=parameter.default, strict=strict))
    return pydantic.create_model(kind.__name__, __base__=OptimConfig, **options)


_OPTIMIZERS = {name: _section_of(name, kind) for name, kind in sorted(_CLASSES.items())}


def _name_of(section: Any) -> Any:
    if isinstance(section, dict):
        return section.get("name", _DEFAULT_OPTIMIZER)
    return getattr(section, "name", _DEFAULT_OPTIMIZER)


if TYPE_CHECKING:
    AnyOptimizer = OptimConfig
else:
    AnyOptimizer = Annotated[
        Union[tuple(Annotated[s, Tag(name)] for name, s in _OPTIMIZERS.items())],  # noqa: UP007
        Discriminator(_name_of),
    ]


class DataConfig(_Section):
    """The data, and how they are split and preprocessed: impute, then scaling, then whiten.

    These are of numbers; categories of a table become a column of 0 and 1 for each.
    """

    source: str = ""
    label: str = LABEL
    test_fraction: Fraction = 0.2
    val_fraction: Fraction = 0.1
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None  # of the split; None: train.seed
    drop: Names = []  # columns of a table to leave out
    categorical: Names = []  # columns that hold categories though they look like numbers
    unknown: Literal["ignore", "error"] = "ignore"  # categories that training does not have
    impute: Literal["mean", "median", "most_frequent", "gaussian", "none"] = "none"  # numbers
    missing_indicators: bool = False  # columns that say what was imputed
    scaling: Literal["standard", "minmax", "none"] = "standard"  # images: by channel
    whiten: Literal["pca", "zca", "none"] = "none"
    augment: list[str | dict[str, Any]] = []  # of training images: names, or {name, options}


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
    accumulate_grad_batches: Size = 1  # of each step
    l1: NonNegative = 0.0  # penalties on the weights, reported each by itself
    l2: NonNegative = 0.0
    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0
    device: Device = "cpu"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    sampling: Literal["shuffle", "replacement", "balanced"] = "shuffle"
    patience: Size | None = None  # epochs without a better validation loss, then it stops
    ema_decay: Fraction | None = None  # of an average of the weights, which is what is kept
    ensemble: Annotated[int, Field(ge=1, le=1000)] = 1  # models, of seeds one after the other
    save_last: Annotated[int, Field(ge=1, le=1000)] = 1  # checkpoints to keep, besides the best
    monitor: bool = False  # loss and gradient norm of every step, in steps.jsonl


class Config(_Section):
    """All of a run."""

    model: ModelConfig = ModelConfig()
    optim: AnyOptimizer = _OPTIMIZERS[_DEFAULT_OPTIMIZER].model_validate({})
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
        raise ValueError(_one_line(where, error, _name_of(tree.get("optim", {})))) from None


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


def _one_line(where: str, error: pydantic.ValidationError, optimizer: Any) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if path[0] == "optim" and path[1:2] == [optimizer]:
        del path[1]  # the tag of the section that the name chose
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key[:80]!r}{_suggestion(path, optimizer)}"
    if first["type"] == "value_error":  # the optimizer's own words
        return f"{where}: {key}: {first['ctx']['error']}"
    if first["type"] == "union_tag_invalid":
        names = ", ".join(map(repr, _OPTIMIZERS))
        return f"{where}: {key}.name: input should be one of {names}, got {_shown(optimizer)}"
    return f"{where}: {key}: {_lower(first['msg'])}, got {_shown(first['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _suggestion(path: list[str], optimizer: Any) -> str:
    """The nearest known key, or those of the section."""
    sections = _sections(optimizer)
    known = {f"{name}.{key}" for name, section in sections.items() for key in section.model_fields}
    names = sorted(known | set(sections))
    close = [name for name in sorted(known) if name.endswith(f".{path[-1]}")]
    close = close or difflib.get_close_matches(".".join(path), names, 1, cutoff=0.75)
    if close:
        return f"; did you mean {close[0]!r}?"
    section = sections.get(path[0])
    if section is None:
        return f"; known sections: {', '.join(sections)}"
    whose = f" with name = {optimizer!r}" if path[0] == "optim" else ""
    return f"; known keys of [{path[0]}]{whose}: {', '.join(section.model_fields)}"


def _sections(optimizer: Any) -> dict[str, type[pydantic.BaseModel]]:
    return {
        "model": ModelConfig,
        "optim": _OPTIMIZERS.get(optimizer, OptimConfig),
        "data": DataConfig,
        "train": TrainConfig,
        "schedule": ScheduleConfig,
    }


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
