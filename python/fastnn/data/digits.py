"""The data set that is always at hand."""

from __future__ import annotations

import gzip
import importlib.util
import os

import numpy as np

from fastnn.data.dataset import Dataset

__all__ = ["load_digits"]


def load_digits() -> Dataset:
    """The 8 x 8 handwritten digits that scikit-learn ships: 1797 samples, 10 classes.

    The file is read where scikit-learn keeps it, since importing scikit-learn takes a second.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.

    Example:
        >>> import fastnn as fn
        >>> fn.data.load_digits().y[:5]
        array([0, 1, 2, 3, 4])

    Source:
        Alpaydin, Kaynak 1998, "Optical recognition of handwritten digits", UCI repository.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "data: 'digits' needs scikit-learn; install it with: pip install 'fastnn[train]'"
        )
    folder = spec.submodule_search_locations[0]
    path = os.path.join(folder, "datasets", "data", "digits.csv.gz")
    if os.path.exists(path):
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float64)
        x, y = table[:, :-1], table[:, -1].astype(np.int64)
    else:  # another layout than that of today
        from sklearn import datasets

        x, y = datasets.load_digits(return_X_y=True)
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Dataset(
        "digits", np.ascontiguousarray(x), y, tuple("0123456789"), names, "digit", (1, 8, 8)
    )
