"""The examples run, print their table, and learn."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_lenet_learns_digits():
    lines = run("lenet_digits.py", "--folds", "2", "--epochs", "2").splitlines()
    assert lines[0].split() == ["fold", "accuracy", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "mean"]
    mean = re.fullmatch(r"mean +(\d+\.\d\d)% +\d+\.\d", lines[-1])
    assert mean is not None
    assert float(mean[1]) > 85  # of two epochs on half of the data; chance is 10
