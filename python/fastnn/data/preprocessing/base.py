"""What all transforms share: options and fitted numbers are the fields of a dataclass.

A field with a default is an option, a field made by ``number`` is filled by ``fit``. Subclasses say
how numbers come from data (``_fit``) and what they do to data (``_apply``); checks are here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn._checks import CheckedFields

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Array", "Floats", "Transform", "number", "places", "samples"]

Array = np.ndarray[Any, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def number(*axes: str) -> Any:
    """A field that ``fit`` fills: an array with these axes, equal names for equal sizes.

    ``number("...")`` may have any shape.
    """
    return dataclasses.field(init=False, repr=False, metadata={"axes": axes})


def samples(op: str, x: ArrayLike, axes: int = 2, missing: bool = False) -> Array:
    """x as numbers of shape (n, features), or with at least so many axes if they are more than 2.

    Raises:
        TypeError: If x does not hold numbers.
        ValueError: For another shape, no samples, infinity, and NaN where none may be missing.

    Example:
        >>> from fastnn.data.preprocessing.base import samples
        >>> samples("PCA", [[1, 2]]).shape
        (1, 2)
    """
    data = np.asarray(x)
    if data.dtype.kind not in "fiub":
        raise TypeError(f"{op}: expected x to hold numbers, got dtype {data.dtype}")
    if data.ndim < axes or (axes == 2 and data.ndim > 2) or 0 in data.shape:
        rule = "(n, features)" if axes == 2 else f"(n, ...) with at least {axes} axes"
        raise ValueError(f"{op}: expected x of shape {rule}, not empty, got {data.shape}")
    if data.dtype.kind == "f":
        bad = np.isinf(data) if missing else ~np.isfinite(data)
        if bad.any():
            at = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
            rule = "x without infinity" if missing else "x without NaN or infinity"
            fix = "" if missing or np.isinf(data[at]) else "; SimpleImputer fills what is missing"
            raise ValueError(f"{op}: expected {rule}, got {data[at]} at x{list(at)}{fix}")
    return data


def places(op: str, columns: Sequence[int]) -> tuple[int, ...]:
    """Columns by their index, each once.

    Raises:
        ValueError: If they are not.

    Example:
        >>> from fastnn.data.preprocessing.base import places
        >>> places("OneHotEncoder", [2, 0])
        (2, 0)
    """
    chosen = tuple(columns)
    whole = all(type(c) is int and c >= 0 for c in chosen)
    if not whole or len(set(chosen)) < len(chosen) or not chosen:
        raise ValueError(
            f"{op}: expected columns by their index, each once, got {str(chosen)[:80]}"
        )
    return chosen


@dataclasses.dataclass(eq=False)
class Transform(CheckedFields):
    """Base of all transforms: fitted once, on the training data, then applied to any data.

    Example:
        >>> from fastnn.data import StandardScaler
        >>> scaler = StandardScaler().fit([[1.0], [3.0]])
        >>> scaler.fit([[5.0], [7.0]])
        Traceback (most recent call last):
        ...
        ValueError: StandardScaler: expected one fit, on the training data, got a second one; new() gives an unfitted copy
        >>> scaler.new().fit([[5.0], [7.0]]).mean_
        array([6.])
    """  # noqa: E501

    def __post_init__(self) -> None:
        self.is_fitted = False

    @property
    def _name(self) -> str:
        return type(self).__name__

    # ---- what subclasses define ----------------------------------------------------------------

    def _check(self, x: ArrayLike) -> Array:
        return samples(self._name, x)

    def _fit(self, x: Array) -> dict[str, Any]:
        """The fitted numbers by name."""
        raise NotImplementedError

    def _apply(self, x: Floats) -> Floats:
        raise NotImplementedError

    def _invert(self, x: Floats) -> Floats:
        raise NotImplementedError(f"{self._name}: cannot be inverted")

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What follows the axis of samples before and after the transform."""
        raise NotImplementedError

    def _check_numbers(self, numbers: Mapping[str, Floats]) -> None:
        """Raise ValueError if numbers of the right shapes are no result of a fit."""

    # ---- what users call -----------------------------------------------------------------------

    def fit(self, x: ArrayLike) -> Self:
        """Learn from the training data, once.

        Args:
            x: Samples, shape (n, features); images: (n, channels, height, width).

        Raises:
            ValueError: If this transform is fitted already, or x is not fit to learn from.
        """
        self._check_unfitted()
        return self._accept(self._fit(self._check(x)))

    def transform(self, x: ArrayLike) -> Floats:
        """Apply what was learned; float64.

        Raises:
            ValueError: If nothing was learned yet, or x is not like the training data.
        """
        return self._apply(self._like_fitted(self._check(x), 0))

    def fit_transform(self, x: ArrayLike) -> Floats:
        """Learn from the training data and transform them."""
        return self.fit(x).transform(x)

    def inverse_transform(self, x: ArrayLike) -> Floats:
        """Undo :meth:`transform`.

        Raises:
            NotImplementedError: If this transform forgets what it would need.
        """
        return self._invert(self._like_fitted(samples(self._name, x, 1), 1))

    def new(self) -> Self:
        """An unfitted transform with the same options."""
        return type(self)(**self.options())

    def options(self) -> dict[str, Any]:
        """The arguments that make a transform like this one."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}

    def state_dict(self) -> dict[str, Floats]:
        """What was learned, as arrays; they belong to the transform and cannot be written.

        Raises:
            ValueError: If nothing was learned yet.
        """
        self._check_fitted()
        return {name: getattr(self, name) for name in self._axes()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take over what another transform with these options learned.

        Raises:
            ValueError: If the state is not one of this kind; nothing is changed then.
        """
        names = list(self._axes())
        if sorted(state) != sorted(names):
            got = [str(name)[:80] for name in sorted(state)]
            raise ValueError(f"{self._name}: expected a state of {names}, got {got}")
        self._accept(state)

    # ---- how -----------------------------------------------------------------------------------

    @classmethod
    def _axes(cls) -> dict[str, tuple[str, ...]]:
        return {f.name: f.metadata["axes"] for f in dataclasses.fields(cls) if not f.init}

    def _accept(self, state: Mapping[str, ArrayLike]) -> Self:
        """Check the numbers, then keep them, read-only."""
        numbers: dict[str, Floats] = {}
        sizes: dict[str, int] = {}
        for name, axes in self._axes().items():
            value = np.array(state[name], np.float64)
            value.flags.writeable = False
            fits = axes == ("...",) or (
                value.ndim == len(axes)
                and all(sizes.setdefault(a, n) == n for a, n in zip(axes, value.shape, strict=True))
            )
            if not fits:
                raise ValueError(
                    f"{self._name}: expected {name} of shape ({', '.join(axes)}), got {value.shape}"
                )
            if not np.isfinite(value).all():
                raise ValueError(f"{self._name}: expected finite numbers in {name}")
            numbers[name] = value
        self._check_numbers(numbers)
        for name, value in numbers.items():
            setattr(self, name, value)
        self.is_fitted = True
        return self

    def _check_unfitted(self) -> None:
        if self.is_fitted:
            raise ValueError(
                f"{self._name}: expected one fit, on the training data, got a second one; "
                "new() gives an unfitted copy"
            )

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise ValueError(
                f"{self._name}: expected a fitted transform, got an unfitted one; "
                "fit it on the training data"
            )

    def _like_fitted(self, x: Array, side: int) -> Floats:
        self._check_fitted()
        shape = self._shapes()[side]
        if x.shape[1:] != shape:
            expected = ", ".join(map(str, ("n", *shape)))
            raise ValueError(f"{self._name}: expected x of shape ({expected}), got {x.shape}")
        return x.astype(np.float64, copy=False)
