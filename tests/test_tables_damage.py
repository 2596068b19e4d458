"""Damaged and hostile arrays and tables: a message with path and place, nothing unpickled."""

import io
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from fastnn import data
from source_helpers import refuses, write

# ---- NPY and NPZ --------------------


def npy(header, body=b""):
    text = header.encode().ljust(118 - 10) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def pickled():
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([print], object))
    return file.getvalue()


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"
NPY = {
    "pickled": (pickled(), "expected x to hold numbers, got dtype object"),
    "pickle alone": (
        pickle.dumps([1]),
        "expected an array in x, got a bad header: ",
    ),
    "empty": (b"", "expected an array in x, got a bad header: "),
    "records": (
        npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2, 2), }"),
        "expected x to hold numbers, got dtype [('a', '<f8')]",
    ),
    "complex": (
        npy(HEADER.format("<c8", "(2, 2)")),
        "expected x to hold numbers, got dtype complex64",
    ),
    "a name that NumPy will forget": (
        npy(HEADER.format("<a8", "(2, 2)")),
        "expected x to hold numbers, got dtype |S8",
    ),
    "long double": (
        npy(HEADER.format("<f16", "(2, 2)")),
        "expected x to hold numbers, got dtype float128",
    ),
    "truncated": (
        npy(HEADER.format("<f8", "(2, 2)"), bytes(31)),
        "expected x of shape (2, 2) and 32 bytes, got 31 bytes",
    ),
    "trailing": (
        npy(HEADER.format("<f8", "(2, 2)"), bytes(33)),
        "expected x of shape (2, 2) and 32 bytes, got 33 bytes",
    ),
    "huge": (
        npy(HEADER.format("<f8", "(99999999999, 99999999999)")),
        "expected x of shape (99999999999, 99999999999) and 79999999998400000000008 bytes, got 0 "
        "bytes",
    ),
    "negative": (
        npy(HEADER.format("<f8", "(-2, -2)"), bytes(32)),
        "expected x of shape (-2, -2) and 32 bytes, got 32 bytes",
    ),
    "keys": (
        npy("{'descr': '<f8', 'shape': (2, 2), }"),
        "expected an array in x, got a bad header: ",
    ),
    "code": (
        npy("__import__('os').getpid()"),
        "expected an array in x, got a bad header: ",
    ),
    "version": (
        b"\x93NUMPY\x09\x00" + bytes(8),
        "expected an array in x, got a bad header: 'npy version (9, 0)'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NPY)
def test_npy(tmp_path, case):
    content, message = NPY[case]
    path = write(tmp_path / "x.npy", content)
    with pytest.raises(ValueError, match=r".") as error:
        data.load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: {message}")
    assert text == f"{path}: {message}" or message.endswith(": ")


def test_npy_labels(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    write(tmp_path / "y.npy", pickled())
    refuses(
        tmp_path / "x.npy",
        f"{tmp_path / 'y.npy'}: expected y to hold integers or texts, got dtype object",
    )
    np.save(tmp_path / "y.npy", np.ones(2, int))
    refuses(
        tmp_path / "x.npy",
        "{path}: expected y of shape (3,), one label per row of x, got (2,)",
    )


@pytest.mark.parametrize("name", ["../x.npy", "/etc/x.npy", "a/x.npy", "a\\x.npy", "x\n.npy"])
def test_npz_names_are_plain(tmp_path, name):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((2, 2)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    refuses(path, f"{{path}}: expected arrays by plain names, got {name!r}")
    assert not (tmp_path.parent / "x.npy").exists()


def test_npz_holds_each_array_once(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((2, 2)))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.npy", b"")
    refuses(path, "{path}: expected each array once, got 'x.npy' twice")


def test_npz_of_many_arrays(tmp_path):
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(1025):
            archive.writestr(f"{i}.npy", b"")
    refuses(path, "{path}: expected at most 1024 arrays, got 1025")


# ---- tables --------------------


def save(path, table):
    if str(path).endswith("parquet"):
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path, compression="uncompressed")
    return path


TABLES = {
    "times": (
        {"a": pa.array([1, 2], pa.timestamp("ms")), "y": [0, 1]},
        "expected numbers or categories in column 'a', got dates or times: timestamp[ms]; to leave "
        "it out: data.drop=a, drop=['a']; as categories: data.categorical=a, categorical=['a']",
    ),
    "missing": (
        {"a": [1, None], "y": [0, 1]},
        "expected a value in each row, got a missing one in row 1, column 'a'",
    ),
    "missing label": (
        {"a": [1, 2], "y": [None, 1]},
        "expected a value in each row, got a missing one in row 0, column 'y'",
    ),
    "NaN": (
        {"a": [1.0, float("nan")], "y": [0, 1]},
        "expected finite numbers, got nan in row 1, column 'a'; to fill it: "
        "data.impute=median, missing=True",
    ),
    "float labels": (
        {"a": [1, 2], "y": [0.5, 1.5]},
        "expected texts or integers in the label column 'y', got double",
    ),
    "no label": (
        {"a": [1, 2]},
        "expected a label column 'y', got the columns ['a']; give its name: label, --label",
    ),
    "label only": ({"y": [0, 1]}, "expected columns beside the label 'y', got none"),
    "no rows": (
        {name: pa.array([], pa.int64()) for name in "ay"},
        "expected rows, got none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("case", TABLES)
def test_tables(tmp_path, case, kind):
    columns, message = TABLES[case]
    path = save(tmp_path / f"d.{kind}", pa.table(columns))
    with pytest.raises(ValueError, match=r".") as error:
        data.load(str(path), "y")
    assert str(error.value) == f"{path}: {message}"


def test_frames_say_frame():
    frame = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(ValueError, match=r"^frame: expected each column once, got 'a' twice"):
        data.load(frame)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "tail"])
def test_damaged_tables(tmp_path, kind, damage):
    path = save(tmp_path / f"d.{kind}", pa.table({"a": list(range(99)), "y": list(range(99))}))
    whole = path.read_bytes()
    content = {
        "empty": b"", "garbage": b"garbage" * 9, "cut": whole[: len(whole) // 2],
        "tail": whole[:-8] + b"\xff\xff\xff\x7f" + whole[-4:],
    }[damage]  # fmt: skip
    path.write_bytes(content)
    what = "a Parquet" if kind == "parquet" else "an Arrow IPC"
    with pytest.raises(ValueError, match=rf"d\.{kind}: expected {what} file, got a damaged one: "):
        data.load(str(path), "y")


TSV = {
    "comma": (
        b"a,b\ty\n1\tx\n1,2\tx\n",
        "expected a number, got '1,2' in line 3, column 'a,b'; if these are categories: "
        "data.categorical=a,b, categorical=['a,b']",
    ),
    "cells": (b"a\tb\ty\n1\t2\tx\n1\t2\n", "expected 3 columns, got 2 in line 3"),
    "empty": (
        b"a\tb\ty\n1\t\tx\n",
        "expected a number, got an empty cell in line 2, column 'b'; to fill it: "
        "data.impute=median, missing=True",
    ),
}


@pytest.mark.parametrize("case", TSV)
def test_tsv(tmp_path, case):
    content, message = TSV[case]
    refuses(write(tmp_path / "d.tsv", content), f"{{path}}: {message}", "y")


# ---- pairs --------------------

PAIRS = {
    "no pairs": ([1, 2], "pairs: expected (x, y), got int at 0"),
    "three": ([([1], 0), ([1], 0, 1)], "pairs: expected (x, y), got tuple at 1"),
    "shape": ([([1], 0), ([1, 2], 0)], "pairs: expected x of shape (1,), got (2,) at 1"),
    "texts": ([(["a"], 0)], "pairs: expected numbers x, got dtype <U1 at 0"),
    "float label": ([([1], 0.5)], "pairs: expected a text or an integer y, got float at 0"),
    "labels": (
        [([1], 0), ([1], "a")],
        "pairs: expected labels that are all texts or all integers, got both",
    ),
    "none": (
        [],
        "pairs: expected x of shape (n, features) or (n, channels, height, width), not empty, got "
        "(0,)",
    ),
    "infinity": (
        [([1.0], 0), ([np.inf], 1)],
        "pairs: expected finite numbers, got inf in x at row 1, column 0",
    ),
    "nothing of this": (3, "data: expected a path, a data frame or an iterable of (x, y), got int"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs(case):
    pairs, message = PAIRS[case]
    with pytest.raises((ValueError, TypeError)) as error:
        data.load(pairs)
    assert str(error.value) == message
