"""Transforms one after another, with one fit for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastnn.data.preprocessing.base import Floats, Transform
from fastnn.data.preprocessing.decorrelate import PCA, ZCA
from fastnn.data.preprocessing.encode import OneHotEncoder
from fastnn.data.preprocessing.image import ImageNormalizer
from fastnn.data.preprocessing.missing import GaussianImputer, Imputer, SimpleImputer
from fastnn.data.preprocessing.scale import MinMaxScaler, StandardScaler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Pipeline"]

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
        self.fit_transform(x)
        return self

    def fit_transform(self, x: ArrayLike) -> Any:
        """Learn from the training data, once, and transform them.

        Raises:
            ValueError: If it is fitted already, or a step cannot learn from its data; then no step
                is fitted.
        """
        if self.is_fitted:
            raise ValueError(
                "Pipeline: expected one fit, on the training data, got a second one; "
                "new() gives an unfitted copy"
            )
        steps = tuple(step.new() for step in self.steps)
        data: Any = x
        for step in steps:
            data = step.fit_transform(data)
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
        """Whether the first step fills in what is missing."""
        return bool(self.steps) and isinstance(self.steps[0], Imputer)

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
        parts: list[dict[str, ArrayLike]] = [{} for _ in steps]
        for key, value in state.items():
            place, _, name = key.partition(".")
            if not (place.isascii() and place.isdigit() and len(place) < 3) or int(place) >= len(
                steps
            ):
                raise ValueError(f"Pipeline: expected states of its steps, got {key[:80]!r}")
            parts[int(place)][name] = value
        pipeline = cls(*steps)
        for step, part in zip(steps, parts, strict=True):
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


def _build(step: Any) -> Transform:
    if not isinstance(step, dict) or str(step.get("name")) not in _KINDS:
        names = ", ".join(_KINDS)
        raise ValueError(f"Pipeline: expected steps named {names}, got {str(step)[:80]!r}")
    try:
        return _KINDS[step["name"]](**{k: v for k, v in step.items() if k != "name"})
    except TypeError:
        raise ValueError(f"Pipeline: expected options of {step['name']}") from None
