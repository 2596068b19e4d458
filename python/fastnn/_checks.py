"""What arguments that are no arrays have to be, in the words of every message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import cache, partial, wraps
from types import FrameType
from typing import Any, SupportsFloat, SupportsIndex, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def check_number(op: str, name: str, value: Any) -> None:
    """Refuse what is no number."""
    if not isinstance(value, (float, int)) and not _is_number(value):
        raise TypeError(f"{op}: expected {name} to be a number, got {value!r}")


def check_whole(op: str, **values: Any) -> None:
    """Refuse what is no whole number."""
    for name, value in values.items():
        if not isinstance(value, int) and not isinstance(value, SupportsIndex):
            raise TypeError(f"{op}: expected {name} to be a whole number, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (float, int)) or (
        isinstance(value, SupportsFloat) and getattr(value, "ndim", 0) == 0
    )


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, (int, SupportsIndex))


def _all_are(is_such: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, Iterable) and (isinstance(value, Iterator) or all(map(is_such, value)))


def _is_named(name: str, value: Any) -> bool:
    return any(base.__name__ == name for base in type(value).__mro__)


Kind = tuple[str, Callable[[Any], bool]]  # the words, and whether a value is such a thing

# What the names in an annotation ask for.
_KINDS: dict[str, Kind] = {
    "int": ("a whole number", _is_whole),
    "float": ("a number", _is_number),
    "bool": ("True or False", _is_number),
    "str": ("a string", lambda value: isinstance(value, str)),
    "None": ("None", lambda value: value is None),
}
_ELEMENTS: dict[str, Kind] = {
    "int": ("whole numbers", partial(_all_are, _is_whole)),
    "float": ("numbers", partial(_all_are, _is_number)),
    "Tensor": ("Tensors", partial(_all_are, partial(_is_named, "Tensor"))),
}


_ALIASES = {"nn.Module": "Module", "Size": "int | Sequence[int]", "Range": "tuple[float, float]"}


def _kind(name: str) -> Kind | None:
    outer, _, inner = name.partition("[")
    if name in _KINDS:
        return _KINDS[name]
    if outer in ("Optimizer", "Module", "Tensor"):
        return f"an {name}" if name[0] in "AEIO" else f"a {name}", partial(_is_named, name)
    if outer == "Callable":
        return "a function", callable
    if outer in ("Sequence", "Iterable", "tuple", "list"):
        of = _ELEMENTS.get(inner.partition(",")[0].rstrip("]"))
        if of is not None:
            return of
        return "a sequence", lambda v: isinstance(v, Iterable) and not isinstance(v, (str, bytes))
    return None


@cache
def _kinds(annotation: str) -> list[Kind]:
    """Those of an annotation as it is written; none, if it names anything else."""
    for alias, meant in _ALIASES.items():
        annotation = annotation.replace(alias, meant)
    kinds = [_kind(name) for name in annotation.split(" | ")]
    return [] if None in kinds else [kind for kind in kinds if kind]


def check_kind(op: str, name: str, value: Any, annotation: str) -> None:
    """Refuse what is not what an annotation says."""
    kinds = _kinds(annotation)
    if kinds and not any(is_such(value) for _, is_such in kinds):
        words = " or ".join(dict.fromkeys(words for words, _ in kinds))
        shown = repr(value)
        got = shown if len(shown) <= 60 and "\n" not in shown else type(value).__name__
        raise TypeError(f"{op}: expected {name} to be {words}, got {got}")


def checked(function: F) -> F:
    """A function, or a constructor, that refuses arguments that are not what annotations say.

    It takes microseconds: not for what is called at every step.
    """
    code, annotations = function.__code__, function.__annotations__
    names = code.co_varnames[: code.co_argcount]
    is_init = code.co_name == "__init__"

    @wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        op = type(args[0]).__name__ if is_init else function.__name__
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if name in annotations:
                check_kind(op, name, value, annotations[name])
        return function(*args, **kwargs)

    return cast("F", checking)


def refuse_caller() -> None:
    """Say which argument an op could not take: one that is not what the annotation says.

    Called where an op has failed, so that none has to check what fits. The functions that called it
    are looked at from the inside out.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("fastnn."):
        op = frame.f_code.co_name
        function = frame.f_globals.get(op)
        annotations = getattr(function, "__annotations__", {})
        if getattr(function, "__code__", None) is frame.f_code and not op.startswith("_"):
            for name in annotations.keys() & frame.f_locals.keys():
                check_kind(op, name, frame.f_locals[name], annotations[name])
        frame = frame.f_back


class CheckedFields:
    """Base of dataclasses of fastnn that check their options by the annotations."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        after = cls.__dict__.get("__post_init__")
        if after is not None:

            @wraps(after)
            def checking(self: Any) -> None:
                CheckedFields.__post_init__(self)
                after(self)

            cls.__post_init__ = checking  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if field.init:
                value, annotation = getattr(self, field.name), str(field.type)
                check_kind(type(self).__name__, field.name, value, annotation)


class Checked:
    """Base of classes of fastnn whose constructors check their arguments by the annotations."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        init = cls.__dict__.get("__init__")
        if init is not None and cls.__module__.startswith("fastnn."):
            cls.__init__ = checked(init)  # type: ignore[method-assign]
