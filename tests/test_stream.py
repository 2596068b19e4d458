"""A CSV in parts: the numbers of the whole, bounded memory, and the place of a bad cell."""

import re
import subprocess
import sys

import numpy as np
import pytest
from fastnn.data import load_csv, stream_csv

ROWS = 20_000


def write(path, bad=None):
    rng = np.random.default_rng(0)
    lines = [
        f"{a:.6f},{b},k{b % 3}" for a, b in zip(rng.normal(size=ROWS), range(ROWS), strict=True)
    ]
    if bad is not None:
        lines[bad[0]] = bad[1]
    path.write_text("a,b,kind\n" + "\n".join(lines) + "\n")
    return str(path)


def test_parts_are_the_whole(tmp_path):
    path = write(tmp_path / "d.csv")
    parts = list(stream_csv(path, "kind", block_bytes=10_000))
    whole = load_csv(path, "kind")
    assert len(parts) > 20
    assert (np.concatenate([x for x, _ in parts]) == whole.x).all()
    labels = np.concatenate([y for _, y in parts])
    assert (labels == np.array(whole.classes)[whole.y]).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.5,oops,k1", "expected a number, got 'oops' in line 15002, column 'b'"),
        ("1.5,inf,k1", "expected finite numbers, got inf in line 15002, column 'b'"),
        ("1.5,k1", "expected 3 columns, got 2 in line 15002"),
    ],
)
def test_a_bad_cell_is_named(tmp_path, row, message):
    path = write(tmp_path / "d.csv", (15_000, row))
    seen = []
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        seen.extend(len(x) for x, _ in stream_csv(path, "kind", block_bytes=10_000))
    assert 10_000 < sum(seen) <= 15_000


def test_no_rows(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a,b\n")
    message = f"{path}: expected rows below the header, got none"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(stream_csv(str(path)))


MEMORY = """
import resource, sys
from fastnn.data import stream_csv
seen = 0
first = None
for x, _ in stream_csv(sys.argv[1]):
    seen += len(x)
    first = first or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(seen, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "d.csv"
    with open(path, "w") as file:
        file.write("a,b,c,d\n")
        for _ in range(60):
            file.write("0.123456789,1.23456789,12.3456789,123.456789\n" * 25_000)
    run = [sys.executable, "-c", MEMORY, str(path)]
    rows, grown = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert int(rows) == 1_500_000
    assert int(grown) < 40_000  # kB, of a file of 68 MB
