"""The experiments of the lectures: each reproduces a table or a figure with fastnn's kernels.

``fastnn lab list`` names them, ``fastnn lab run init-stats`` runs one; in Python
``fn.experiments.run("init-stats")``. An experiment is a module here with a function
``run(seed, quick)`` that returns a :class:`Result`; it is imported when it runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib

from fastnn.experiments.result import Number, Result
from fastnn.random import manual_seed

__all__ = ["EXPERIMENTS", "Experiment", "Number", "Result", "run"]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A line of the list.

    Attributes:
        name: Of the module too, with underscores.
        ids: What it is in docs/spec.md.
        lectures: Which lectures have it.
        line: What it shows.
    """

    name: str
    ids: str
    lectures: str
    line: str

    def run(self, seed: int = 0, quick: bool = False) -> Result:
        """Run it: with the seed, and in a smaller size if it should be quick."""
        module = importlib.import_module(f"fastnn.experiments.{self.name.replace('-', '_')}")
        manual_seed(seed)
        result: Result = module.run(seed, quick)
        return result


_TABLE = (
    ("init-stats", "X1-X5, X7", "000", "ten layers of 500: five ways to draw weights"),
    ("wrong-he", "X6", "000, 001", "two misprints of He's initialisation"),
    ("init-wide", "X8", "004", "six layers of 4096: the same, wider"),
    ("svd-spectrum", "X9", "001", "singular values of products of random matrices"),
    ("norm-concentration", "X10", "001", "all long vectors are equally long"),
    ("depth-scale", "X11", "001", "1.5^100 = 4e17: small factors, many layers"),
    ("sigmoid-saturation", "X12", "001", "sigmoids behind large weights pass no gradient"),
    ("logsumexp", "X13", "001", "exp(1000) without overflow"),
    ("initial-loss", "X14", "000, 004", "the loss before training is log C"),
    ("overfit-small", "X15", "000, 004", "a network gets 20 samples right to the last one"),
    ("dropout-masks", "X16, X17", "000, 004", "what dropout averages over"),
    ("dropout-sweep", "X18", "003", "the test error by the dropout rate"),
    ("l2-boundary", "X19", "003", "an L2 penalty smooths the decision boundary"),
    ("adam-first-step", "X20", "004", "Adam with and without bias correction"),
    ("momentum-forms", "X21", "000, 002, 004", "four ways to write momentum"),
    ("optimizer-race", "X22", "002, 004", "saddle, valley and noise; with an animation"),
    ("vanishing-rate", "X23", "000, 002, 004", "Adagrad's steps shrink for ever"),
    ("zigzag", "X24", "000, 002, 004", "momentum in an ill-conditioned bowl"),
    ("standard-scaler", "X25", "004", "the lecture's matrix, with its minus sign"),
    ("mixed-labels", "X27", "000", "CutMix's label is counted: the border cuts most boxes"),
    ("fifty-views", "X28", "000, 004", "five scales of ten crops: 50 views of an image"),
    ("conv-shapes", "X29", "002, 004", "six filters give six maps of 28 x 28"),
    ("rnn-gradients", "X30", "002", "gradients through time: RNN, LSTM, GRU"),
    ("deep-he", "X31", "003, 004", "22 and 30 layers, Xavier against He"),
    ("random-labels", "X32", "001", "a network memorises random labels"),
    ("double-descent", "X33", "000", "the test error peaks at the interpolation threshold"),
    ("lr-schedules", "X34", "000, 004", "twelve learning-rate schedules"),
    ("batchnorm-rescue", "X42", "000, 003, 004", "BatchNorm makes a bad initialisation trainable"),
    ("positive-inputs", "X43", "000", "positive inputs: gradients of one sign"),
    ("constant-init", "X44", "000, 004", "units that start equal stay equal"),
    ("max-norm", "X46", "003", "each unit's weights within a ball"),
    ("dead-relu", "ACT-4", "000, 004", "too large a step kills ReLU units"),
    ("lr-effects", "LR-1", "000, 002, 004", "what the learning rate does to the loss"),
    ("l1-path", "REG-4", "000", "coefficients against lambda, zero one after the other"),
    ("flat-minima", "OPT-17", "001", "small batches end in flatter minima"),
    ("perceptron", "LAY-14", "001", "learn from mistakes, stop when there are none"),
)

EXPERIMENTS = {e.name: e for e in (Experiment(*row) for row in _TABLE)}


def run(name: str, seed: int = 0, quick: bool = False) -> Result:
    """Run an experiment.

    Args:
        name: One of ``EXPERIMENTS``.
        seed: What its random numbers depend on.
        quick: Whether to run it in a smaller size, which shows the same.

    Returns:
        Numbers beside what they should be, and a picture.

    Raises:
        ValueError: If there is no such experiment.

    Example:
        >>> import fastnn as fn
        >>> print(fn.experiments.run("adam-first-step"))
        number                                 measured       expected
        first step / rate, bias corrected             1      1 ± 0.1 %  OK
        first step / rate, without correction   3.16228  3.162 ± 0.1 %  OK
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, 1)
        hint = f"did you mean {close[0]!r}?" if close else "'fastnn lab list' shows them"
        raise ValueError(f"experiments: expected the name of one, got {name[:80]!r}; {hint}")
    return EXPERIMENTS[name].run(seed, quick)
