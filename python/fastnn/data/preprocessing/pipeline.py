"""Transforms one after another, and side by side for different columns, with one fit for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn.data.preprocessing.base import Array, Floats, Transform, places, samples
from fastnn.data.preprocessing.decorrelate import PCA, ZCA
from fastnn.data.preprocessing.encode import OneHotEncoder
from fastnn.data.preprocessing.image import ImageNormalizer
from fastnn.data.preprocessing.missing import GaussianImputer, Imputer, SimpleImputer
from fastnn.data.preprocessing.scale import MinMaxScaler, StandardScaler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ColumnTransformer", "Pipeline"]

_KINDS: dict[str, type[Transform]] = {
    kind.__name__: kind
    for kind in (
        GaussianImputer,
        ImageNormalizer,
        MinMaxScaler,
        OneHotEncoder,
        PCA,
        SimpleImputer,
        StandardScaler,
        ZCA,
    )
}
_COLUMNS = "ColumnTransformer"
_MAX_STEPS = 64


class Pipeline:
    """Applies transforms one after another; each is fitted to what the ones before it make.

    ``describe()`` and ``state_dict()`` together are all of it: JSON and arrays, which a checkpoint
    holds, and from which :meth:`build` makes it again without scikit-learn.

    Args:
        *steps: Unfitted transforms; none at all leaves data as they are.

    Raises:
        ValueError: If a step is fitted, or stands there twice.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import PCA, Pipeline, SimpleImputer, StandardScaler
        >>> x = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 1.0], [2.0, 2.0]])
        >>> pipeline = Pipeline(SimpleImputer(), StandardScaler(), PCA(1)).fit(x[:3])
        >>> again = Pipeline.build(pipeline.describe(), pipeline.state_dict())
        >>> bool((again.transform(x) == pipeline.transform(x)).all())
        True
    """

    def __init__(self, *steps: Transform) -> None:
        for i, step in enumerate(steps):
            if not isinstance(step, Transform):
                raise TypeError(f"Pipeline: expected transforms, got {type(step).__name__}")
            if step.is_fitted or step in steps[:i]:
                raise ValueError(
                    f"Pipeline: expected unfitted steps, each once, got {type(step).__name__} at "
                    f"{i}; new() gives an unfitted copy"
                )
        self.steps = steps
        self.is_fitted = False

    def fit(self, x: ArrayLike) -> Pipeline:
        """Learn from the training data, once; see :meth:`Transform.fit`."""
        self._fit(x)
        return self

    def fit_transform(self, x: ArrayLike) -> Any:
        """Learn from the training data, once, and transform them.

        Raises:
            ValueError: If it is fitted already, or a step cannot learn from its data; then no step
                is fitted.
        """
        data = self._fit(x)
        return self.steps[-1].transform(data) if self.steps else data

    def _fit(self, x: ArrayLike) -> Any:
        """Fit all steps; what the last one learned from, since what it makes may be much larger."""
        if self.is_fitted:
            raise ValueError(
                "Pipeline: expected one fit, on the training data, got a second one; "
                "new() gives an unfitted copy"
            )
        steps = tuple(step.new() for step in self.steps)
        data: Any = x
        for i, step in enumerate(steps):
            data = steps[i - 1].transform(data) if i else data
            step.fit(data)
        self.steps, self.is_fitted = steps, True
        return data

    def transform(self, x: ArrayLike) -> Any:
        """Apply all steps.

        Raises:
            ValueError: If nothing was learned yet, or x is not like the training data.
        """
        self._check_fitted()
        data: Any = x
        for step in self.steps:
            data = step.transform(data)
        return data

    def inverse_transform(self, x: ArrayLike) -> Any:
        """Undo all steps.

        Raises:
            NotImplementedError: If one of them cannot be undone.
        """
        self._check_fitted()
        data: Any = x
        for step in reversed(self.steps):
            data = step.inverse_transform(data)
        return data

    def new(self) -> Pipeline:
        """An unfitted pipeline of the same steps."""
        return Pipeline(*(step.new() for step in self.steps))

    @property
    def takes_missing(self) -> bool:
        """Whether the first step fills in what is missing, in some columns at least."""
        first = self.steps[0] if self.steps else None
        if isinstance(first, ColumnTransformer):
            return any(pipeline.takes_missing for pipeline, _ in first.parts)
        return isinstance(first, Imputer)

    @property
    def refuses_unknown(self) -> bool:
        """Whether a code that the training data do not have is an error."""
        first = self.steps[0] if self.steps else None
        if isinstance(first, ColumnTransformer):
            return any(pipeline.refuses_unknown for pipeline, _ in first.parts)
        return isinstance(first, OneHotEncoder) and first.handle_unknown == "error"

    def describe(self) -> list[dict[str, Any]]:
        """The steps and their options; JSON holds it without loss."""
        return [{"name": type(step).__name__, **step.options()} for step in self.steps]

    def state_dict(self) -> dict[str, Floats]:
        """What the steps learned, by place and name."""
        self._check_fitted()
        return {
            f"{i}.{name}": value
            for i, step in enumerate(self.steps)
            for name, value in step.state_dict().items()
        }

    @classmethod
    def build(cls, description: Any, state: Mapping[str, ArrayLike]) -> Pipeline:
        """The fitted pipeline that a description and a state are of.

        Raises:
            ValueError: If they do not describe one.
        """
        if not isinstance(description, list) or len(description) > _MAX_STEPS:
            raise ValueError(f"Pipeline: expected a list of at most {_MAX_STEPS} steps")
        steps = [_build(step) for step in description]
        pipeline = cls(*steps)
        for step, part in zip(steps, _by_place("Pipeline", state, len(steps)), strict=True):
            step.load_state_dict(part)
        pipeline.is_fitted = True
        return pipeline

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise ValueError(
                "Pipeline: expected a fitted pipeline, got an unfitted one; "
                "fit it on the training data"
            )

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(map(repr, self.steps))})"


class ColumnTransformer(Transform):
    """Other transforms for other columns; what they make stands side by side, in their order.

    A column may be in several parts. One that is in none is left out.

    Args:
        *parts: (transform or :class:`Pipeline`, columns by their index), as for scikit-learn's
            ``make_column_transformer``.

    Attributes:
        parts: A pipeline and its columns, each.

    Raises:
        ValueError: If there are no parts, one is fitted, or columns are not given by their index,
            each once; in ``fit``, if x has no such column.
        TypeError: If a part is something else, or another ColumnTransformer is in one.

    Example:
        >>> from fastnn.data import ColumnTransformer, OneHotEncoder, StandardScaler
        >>> columns = ColumnTransformer((StandardScaler(), [1]), (OneHotEncoder(), [0]))
        >>> columns.fit_transform([[7, 0.0], [3, 4.0], [7, 2.0], [7, 2.0]]).round(3)
        array([[-1.414,  0.   ,  1.   ],
               [ 1.414,  1.   ,  0.   ],
               [ 0.   ,  0.   ,  1.   ],
               [ 0.   ,  0.   ,  1.   ]])
    """

    def __init__(self, *parts: tuple[Transform | Pipeline, Sequence[int]]) -> None:
        super().__init__()
        self.parts = tuple(self._part(*part) for part in parts)
        self._width = 0
        if not 0 < len(parts) <= _MAX_STEPS:
            raise ValueError(f"{_COLUMNS}: expected 1 to {_MAX_STEPS} parts, got {len(parts)}")

    def _part(
        self, what: Transform | Pipeline, columns: Sequence[int]
    ) -> tuple[Pipeline, tuple[int, ...]]:
        pipeline = what if isinstance(what, Pipeline) else Pipeline(what)
        if any(isinstance(step, ColumnTransformer) for step in pipeline.steps):
            raise TypeError(f"{_COLUMNS}: expected no other {_COLUMNS} in a part")
        if pipeline.is_fitted:
            raise ValueError(
                f"{_COLUMNS}: expected unfitted parts, got {pipeline}; new() gives an unfitted copy"
            )
        return pipeline, places(_COLUMNS, columns)

    def _check(self, x: ArrayLike) -> Array:
        return samples(_COLUMNS, x, missing=True)  # each part checks its own

    def fit(self, x: ArrayLike) -> Self:
        """Learn from the training data, once; no part is fitted if one cannot learn."""
        self._check_unfitted()
        data = self._check(x)
        width, last = data.shape[1], max(max(columns) for _, columns in self.parts)
        if last >= width:
            raise ValueError(
                f"{_COLUMNS}: expected columns below {width}, the width of x, got {last}"
            )
        self.parts = tuple((p.new().fit(data[:, columns]), columns) for p, columns in self.parts)
        self._width, self.is_fitted = width, True
        return self

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self._width,), ()

    def _apply(self, x: Floats) -> Floats:
        return np.concatenate([p.transform(x[:, columns]) for p, columns in self.parts], axis=1)

    def inverse_transform(self, x: ArrayLike) -> Floats:
        """Not there: a column may be in several parts, or in none.

        Raises:
            NotImplementedError: Always.
        """
        return self._invert(np.asarray(x))

    def new(self) -> Self:
        """An unfitted transform with the same parts."""
        return type(self)(*((pipeline.new(), columns) for pipeline, columns in self.parts))

    def options(self) -> dict[str, Any]:
        """The parts, as :meth:`Pipeline.describe` says them, with their columns."""
        return {"parts": [[pipeline.describe(), list(c)] for pipeline, c in self.parts]}

    def state_dict(self) -> dict[str, Floats]:
        """What the parts learned, by place and name, and the width of x."""
        self._check_fitted()
        state = {
            f"{i}.{name}": value
            for i, (pipeline, _) in enumerate(self.parts)
            for name, value in pipeline.state_dict().items()
        }
        return {"width_": np.array(self._width, np.float64), **state}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take over what another one with these parts learned.

        Raises:
            ValueError: If the state is not one of this kind; nothing is changed then.
        """
        width = np.asarray(state.get("width_", -1.0))
        most = 1 + max(max(columns) for _, columns in self.parts)
        if width.shape != () or not (width >= most and width % 1 == 0 and width < 1 << 31):
            raise ValueError(f"{_COLUMNS}: expected width_, a whole number of at least {most}")
        rest = {name: value for name, value in state.items() if name != "width_"}
        states = _by_place(_COLUMNS, rest, len(self.parts))
        self.parts = tuple(
            (Pipeline.build(pipeline.describe(), part), columns)
            for (pipeline, columns), part in zip(self.parts, states, strict=True)
        )
        self._width, self.is_fitted = int(width), True

    def __repr__(self) -> str:
        return f"{_COLUMNS}({', '.join(map(repr, self.parts))})"


def _by_place(op: str, state: Mapping[str, ArrayLike], count: int) -> list[dict[str, ArrayLike]]:
    """A state whose names begin with a place, taken apart."""
    parts: list[dict[str, ArrayLike]] = [{} for _ in range(count)]
    for key, value in state.items():
        place, _, name = key.partition(".")
        if not (place.isascii() and place.isdigit() and len(place) < 3) or int(place) >= count:
            what = "steps" if op == "Pipeline" else "parts"
            raise ValueError(f"{op}: expected states of its {what}, got {key[:80]!r}")
        parts[int(place)][name] = value
    return parts


def _parts_of(step: dict[str, Any]) -> list[Any]:
    parts = step.get("parts")
    if not isinstance(parts, list) or sorted(step) != ["name", "parts"]:
        raise ValueError(f"Pipeline: expected parts of {_COLUMNS}, got {str(parts)[:80]!r}")
    return parts


def _build_part(part: Any) -> tuple[Pipeline, list[int]]:
    if not (isinstance(part, list) and len(part) == 2 and all(isinstance(p, list) for p in part)):
        raise ValueError(f"{_COLUMNS}: expected steps and columns, got {str(part)[:80]!r}")
    steps, columns = part
    if any(isinstance(step, dict) and step.get("name") == _COLUMNS for step in steps):
        raise ValueError(f"{_COLUMNS}: expected no other {_COLUMNS} in a part")
    return Pipeline(*map(_build, steps)), columns


def _build(step: Any) -> Transform:
    if not isinstance(step, dict) or str(step.get("name")) not in (*_KINDS, _COLUMNS):
        names = ", ".join((*_KINDS, _COLUMNS))
        raise ValueError(f"Pipeline: expected steps named {names}, got {str(step)[:80]!r}")
    if step["name"] == _COLUMNS:
        return ColumnTransformer(*map(_build_part, _parts_of(step)))
    try:
        return _KINDS[step["name"]](**{k: v for k, v in step.items() if k != "name"})
    except TypeError:
        raise ValueError(f"Pipeline: expected options of {step['name']}") from None
