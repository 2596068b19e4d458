"""scikit-learn: its MLPClassifier, for the whole fit only."""

from __future__ import annotations

import warnings
from typing import Any

import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from worker import serve

warnings.simplefilter("ignore", ConvergenceWarning)


def describe() -> dict[str, Any]:
    return {"version": sklearn.__version__}


def _make(case: dict[str, Any]) -> MLPClassifier:
    params = case["params"]
    return MLPClassifier(
        tuple(case["shape"][0][1:-1]),
        batch_size=params["batch"],
        max_iter=params["epochs"],
        alpha=0.0,
        tol=0.0,
        n_iter_no_change=10_000,
        random_state=0,
    )


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if case["kind"] != "fit":
        return {}
    return {"MLPClassifier": lambda: _make(case).fit(arrays["x"], arrays["y"])}


def check(case: dict[str, Any], arrays: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    model = _make(case).fit(arrays["x"], arrays["y"])
    return {"error": float(1 - model.score(arrays["x_test"], arrays["y_test"]))}


if __name__ == "__main__":
    serve(variants, describe, check=check)
