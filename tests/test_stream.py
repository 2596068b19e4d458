"""A CSV in parts: the numbers of the whole, bounded memory, and the place of a bad cell."""

import csv
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from fastnn.data import _csv, load_csv, stream_csv

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


def test_categories_that_are_known(tmp_path):
    path = write(tmp_path / "d.csv")
    known = {"kind": ("k2", "k0")}
    parts = list(stream_csv(path, categories=known, block_bytes=10_000))
    whole = load_csv(path, features=("a", "b", "kind"), categories=known)
    assert whole.categories == {"kind": ("k2", "k0", "k1")}
    assert (np.concatenate([x for x, _ in parts]) == whole.x).all()
    message = f"{path}: expected a number, got 'k0' in line 2, column 'kind'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(stream_csv(path))


# ---- blocks end where rows end -----------------------------------------------------------------


def messy(seed, end):
    """A CSV of quotes, line ends in cells and empty lines, and what the csv module reads in it."""
    rng = np.random.default_rng(seed)
    cells = ["plain", '5" pipe', 'say "hi"', f"two{end}lines", f'"{end}', "a,b", "", "é", '""']
    rows = [(rng.integers(0, 99), *rng.choice(cells, 2), rng.integers(0, 9)) for _ in range(60)]
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end)
    writer.writerow(["a", "b", "c", "d"])
    for row in rows:
        if rng.random() < 0.1:
            file.write(end)
        if rng.random() < 0.2:
            row = (row[0], "x", "y", row[3])
            file.write(f'{row[0]},5" x,y,{row[3]}{end}')  # a quote that means nothing
            continue
        writer.writerow(row)
    return file.getvalue()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_whole_rows(tmp_path, seed, end):
    path = tmp_path / "d.csv"
    text = messy(seed, end)
    path.write_bytes(("\ufeff" if seed == 1 else "").encode() + text.encode())
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    numbers = [[float(row[0]), float(row[3])] for row in rows]
    whole = load_csv(str(path))
    np.testing.assert_array_equal(whole.x[:, [0, 3]], numbers)
    for i, name in ((1, "b"), (2, "c")):
        names = np.array(whole.categories[name])[whole.x[:, i].astype(int)]
        assert names.tolist() == [row[i] for row in rows]
    for size in (1, 7, 64, 300, 1000):
        parts = list(stream_csv(str(path), "b", ("a", "d"), drop=["c"], block_bytes=size))
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), numbers)
        assert np.concatenate([y for _, y in parts]).tolist() == [row[1] for row in rows]
        assert size > 300 or len(parts) > 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [5, 100, 1 << 20])
def test_lines_are_counted_through_quotes_and_blocks(tmp_path, size, end):
    lines = ["a,b", *['1,"x', 'y"', "", "2,z"] * 30, "oops,w"]
    path = tmp_path / "d.csv"
    path.write_text(end.join(lines), newline="")
    message = f"{path}: expected a number, got 'oops' in line {len(lines)}, column 'a'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(stream_csv(str(path), "b", block_bytes=size))


@pytest.mark.parametrize("text", ['"1', "1" * 200])
def test_a_row_without_an_end(tmp_path, text, monkeypatch):
    path = tmp_path / "d.csv"
    path.write_text(f"a,b\n1,2\n{text}" + ",2\n1" * (text[0] == '"') * 100)
    monkeypatch.setattr(_csv, "_LONGEST", 1 << 7)
    message = (
        f"{path}: expected rows of at most 0 MiB, got a longer one in line 3; is a quote not "
        "closed?"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(stream_csv(str(path), block_bytes=16))


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
