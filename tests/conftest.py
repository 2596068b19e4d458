"""Every test starts from the same seed and leaves the settings alone; shared fixtures."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core


@pytest.fixture(autouse=True)
def _same_start():
    threads = fn.get_num_threads()
    fn.manual_seed(0)
    yield
    fn.set_num_threads(threads)
    fn.set_float32_matmul_precision("highest")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def table(tmp_path):
    """A CSV of two classes that a line divides."""
    x = np.random.default_rng(0).normal(size=(120, 3))
    rows = [f"{a},{b},{'yes' if a > b else 'no'},{c}" for a, b, c in x]
    path = tmp_path / "table.csv"
    path.write_text("a,b,kind,c\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def calls_of(monkeypatch):
    """The arguments of each call of a function of _core from now on."""

    def watch(name):
        function, calls = getattr(_core, name), []

        def called(*args):
            calls.append(args)
            return function(*args)

        monkeypatch.setattr(_core, name, called)
        return calls

    return watch
