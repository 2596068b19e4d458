"""A sweep over learning rates and seeds, all networks trained as one.

    python examples/population.py --lr 0.003 0.01 0.03 0.1 --seeds 4 --epochs 20

Every pair of a rate and a seed is a small network on scikit-learn's handwritten digits. They are
stacked (`fastnn.nn.Stacked`): one recorded step of the Trainer trains them all, each with the bits
that it would have alone. The table has the accuracy on held-out digits; the last line is that of
the ensemble of the best rate's networks, whose probabilities are averaged (Hansen, Salamon 1990,
"Neural network ensembles"). Needs scikit-learn, and seconds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence

import fastnn as fn
import numpy as np
from fastnn import nn, optim


def make_model() -> nn.Sequential:
    """An MLP from 64 pixels to 10 scores."""
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options, train, print a table."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.003, 0.01, 0.03, 0.1])
    parser.add_argument("--seeds", type=int, default=4, help="networks of each rate (default 4)")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    members = list(itertools.product(options.lr, range(options.seeds)))
    stack = nn.Stacked(make_model, len(members), seeds=[seed for _, seed in members])
    optimizer = optim.SGD(stack.param_groups(lr=[lr for lr, _ in members]), momentum=0.9)
    trainer = fn.Trainer(stack, nn.CrossEntropyLoss(), optimizer)
    start = time.perf_counter()
    trainer.fit(x, y, epochs=options.epochs, seed=0, verbose=0)
    seconds = time.perf_counter() - start
    outputs = stack.predict_proba(x_test)
    right = (outputs.argmax(axis=2) == y_test).mean(axis=1).reshape(len(options.lr), -1)
    print("rate     mean   lowest  highest")
    for lr, row in zip(options.lr, right, strict=True):
        print(f"{lr:<7g} {row.mean():6.2%} {row.min():7.2%} {row.max():8.2%}")
    best = int(right.mean(axis=1).argmax())
    of_best = outputs.reshape(*right.shape, *outputs.shape[1:])[best].mean(axis=0)
    accuracy = (of_best.argmax(axis=1) == y_test).mean()
    print(f"ensemble of rate {options.lr[best]:g}: {accuracy:.2%}")
    print(f"{len(members)} networks in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
