"""Tables, NPZ and splits; every bad file has its message, with the place in it."""

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from fastnn import data
from fastnn.data.preprocessing.encode import encode


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_digits_are_those_of_scikit_learn():
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    digits = data.load("digits")
    np.testing.assert_array_equal(digits.x, x)
    np.testing.assert_array_equal(digits.y, y)
    assert digits.features[:2] == ("pixel_0_0", "pixel_0_1")


def test_digits_do_not_import_scikit_learn():
    code = "import sys, fastnn as fn; fn.data.load('digits'); print('sklearn' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert output.stdout == "False\n"


# ---- CSV --------------------


def test_csv_reads_numbers_and_labels(tmp_path):
    path = write(tmp_path / "d.csv", "\ufeffa,kind,b\r\n1,cat,2.5\r\n-3e2,dog,.5\r\n4, cat,1.\r\n")
    loaded = data.load(path, "kind")
    np.testing.assert_array_equal(loaded.x, [[1, 2.5], [-300, 0.5], [4, 1]])
    assert loaded.classes == (" cat", "cat", "dog")
    assert loaded.y.tolist() == [1, 2, 0]
    assert (loaded.features, loaded.label, loaded.name) == (("a", "b"), "kind", "d")


def test_csv_takes_the_columns_of_training_in_their_order(tmp_path):
    path = write(tmp_path / "d.csv", "b,a\n1,2\n")
    loaded = data.load_csv(path, "kind", ("a", "b"))
    np.testing.assert_array_equal(loaded.x, [[2, 1]])
    assert loaded.y is None


CSV_ERRORS = {
    "bad cell": (
        "a,b,y\n1,2,x\n3,four,y\n",
        "expected a number, got 'four' in line 3, column 'b'; if these are categories: "
        "data.categorical=b, categorical=['b']",
    ),
    "after a blank line": (
        "a,b,y\n1,2,x\n\n3,four,y\n",
        "expected a number, got 'four' in line 4, column 'b'; if these are categories: "
        "data.categorical=b, categorical=['b']",
    ),
    "empty cell": (
        "a,b,y\n1,,x\n",
        "expected a number, got an empty cell in line 2, column 'b'; to fill it: "
        "data.impute=median, missing=True",
    ),
    **{
        name: (
            f"a,b,y\n1,2,x\n{cell},2,x\n",
            f"expected a number, got '{shown}' in line 3, column 'a'; if these are categories: "
            "data.categorical=a, categorical=['a']",
        )
        for name, cell, shown in (
            ("underscore", "1_0", "1_0"),
            ("hexadecimal", "0x1", "0x1"),
            ("other digits", "٣", "٣"),
            ("long cell", "z" * 500, "z" * 77 + "..."),
        )
    },
    "NaN": (
        "a,b,y\n1,2,x\n1,nan,x\n",
        "expected finite numbers, got nan in line 3, column 'b'; to fill it: "
        "data.impute=median, missing=True",
    ),
    "infinity": ("a,b,y\n-inf,2,x\n", "expected finite numbers, got -inf in line 2, column 'a'"),
    "beyond float64": (
        "a,b,y\n1e999,2,x\n",
        "expected finite numbers, got inf in line 2, column 'a'",
    ),
    "too many cells": ("a,b,y\n1,2,x\n1,2,x,4\n", "expected 3 columns, got 4 in line 3"),
    "too few cells": ("a,b,y\n1,2\n", "expected 3 columns, got 2 in line 2"),
    "no rows": ("a,b,y\n", "expected rows below the header, got none"),
    "empty": ("", "expected a header line, got an empty file"),
    "label only": ("y\nx\n", "expected columns beside the label 'y', got none"),
    "column twice": ("a,a,y\n1,2,x\n", "expected each column once, got 'a' twice in line 1"),
    "no label": (
        "a,b,Y\n1,2,x\n",
        "expected a label column 'y', got the columns ['a', 'b', 'Y']; give its name: label, "
        "--label",
    ),
    "not UTF-8": (b"a,b\xff,y\n1,2,x\n", "expected UTF-8, got byte 0xff"),
}


@pytest.mark.parametrize("case", CSV_ERRORS)
def test_csv_errors_name_the_place(tmp_path, case):
    text, message = CSV_ERRORS[case]
    path = write(tmp_path / "d.csv", text)
    with pytest.raises(ValueError, match=r".") as error:
        data.load(path, "y")
    assert str(error.value) == f"{path}: {message}"


def test_csv_suggests_the_label(tmp_path):
    path = write(tmp_path / "d.csv", "a,labels\n1,x\n")
    with pytest.raises(ValueError, match=r"\['a', 'labels'\]; did you mean 'labels'\?$"):
        data.load(path, "label")


def test_csv_refuses_other_columns_than_those_of_training(tmp_path):
    path = write(tmp_path / "d.csv", "a,c,y\n1,2,x\n")
    with pytest.raises(ValueError, match=r".") as error:
        data.load_csv(path, "y", ("a", "b"))
    assert str(error.value) == (
        f"{path}: expected the 2 columns of the training data, got missing ['b'] and unknown ['c']"
    )


# ---- NPZ --------------------


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz_reads_x_and_y(tmp_path):
    x = np.arange(6.0, dtype=">f8").reshape(3, 2, order="F")
    loaded = data.load(npz(tmp_path / "d.npz", x=x, y=np.array([7, 5, 7])))
    np.testing.assert_array_equal(loaded.x, x)
    assert loaded.y.tolist() == [1, 0, 1]
    assert (loaded.classes, loaded.features) == (("5", "7"), ("x0", "x1"))


def test_npz_reads_texts_as_classes(tmp_path):
    loaded = data.load(npz(tmp_path / "d.npz", x=np.ones((2, 1)), y=np.array(["b", "a"])))
    assert (loaded.y.tolist(), loaded.classes) == ([1, 0], ("a", "b"))


SHAPES = "expected x of shape (n, features) or (n, channels, height, width), not empty"
NPZ_ERRORS = {
    "no x": ({"z": np.ones(2)}, "expected an array x, found 'z.npy'"),
    "shape": ({"x": np.ones(2)}, f"{SHAPES}, got (2,)"),
    "empty": ({"x": np.ones((0, 2))}, f"{SHAPES}, got (0, 2)"),
    "length": (
        {"x": np.ones((3, 2)), "y": np.ones(2, int)},
        "expected y of shape (3,), one label per row of x, got (2,)",
    ),
    "NaN": (
        {"x": np.array([[1, 2], [3, np.nan]])},
        "expected finite numbers, got nan in x at row 1, column 1; to fill it: "
        "data.impute=median, missing=True",
    ),
    "complex": (
        {"x": np.ones((2, 2), complex)},
        "expected x to hold numbers, got dtype complex128",
    ),
    "float labels": (
        {"x": np.ones((2, 2)), "y": np.ones(2)},
        "expected y to hold integers or texts, got dtype float64",
    ),
    "objects": (
        {"x": np.array([[print]], object)},
        "expected x to hold numbers, got dtype object",
    ),
}


@pytest.mark.parametrize("case", NPZ_ERRORS)
def test_npz_errors_say_what_is_wrong(tmp_path, case):
    arrays, message = NPZ_ERRORS[case]
    path = npz(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=r".") as error:
        data.load(path)
    assert str(error.value) == f"{path}: {message}"


def npz_with_header(path, header, body=b""):
    member = io.BytesIO()
    text = header.encode().ljust(118 - 10) + b"\n"
    member.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member.getvalue())
    return str(path)


def test_npz_does_not_allocate_what_a_header_claims(tmp_path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    path = npz_with_header(tmp_path / "d.npz", header, b"\0" * 8)
    with pytest.raises(ValueError, match=r"and 8000000000000000 bytes, got 8 bytes$"):
        data.load(path)


@pytest.mark.parametrize("shape", ["(-1, 2)", "(2.0, 2)", "(True, 2)", "__import__('os')"])
def test_npz_refuses_strange_shapes(tmp_path, shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(ValueError, match="expected"):
        data.load(npz_with_header(tmp_path / "d.npz", header))


def test_npz_refuses_bombs(tmp_path):
    path = str(tmp_path / "d.npz")
    np.savez_compressed(path, x=np.zeros((1 << 20, 2), np.float32))
    with pytest.raises(
        ValueError, match=r"compressed at most 200:1, got .*; store it uncompressed$"
    ):
        data.load(path)


def test_npz_truncated_anywhere_is_an_error(tmp_path):
    path = npz(tmp_path / "d.npz", x=np.ones((2, 3)), y=np.arange(2))
    for size in reversed(range(os.path.getsize(path))):
        os.truncate(path, size)
        with pytest.raises(ValueError, match="expected an NPZ file"):
            data.load(path)


# ---- what is no data file --------------------


def test_missing_file(tmp_path):
    path = str(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError) as error:
        data.load(path, "y")
    assert str(error.value) == f"{path}: expected a file, found nothing there"


def test_not_a_regular_file(tmp_path):
    path = str(tmp_path / "pipe.csv")
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"expected a regular file, found another kind of entry$"):
        data.load(path, "y")


def test_unknown_kind():
    with pytest.raises(ValueError, match=r".") as error:
        data.load("digts")
    assert str(error.value) == (
        "data: expected 'digits', a folder or a file (.csv, .tsv, .npz, .npy, .parquet, .arrow, "
        ".feather, .bin, .idx, -idx3-ubyte), got 'digts'"
    )


# ---- labels and splits --------------------


def test_integer_labels_sort_as_numbers():
    y, classes = encode(np.array(["10", "-2", "9", "10"]))
    assert (y.tolist(), classes) == ([2, 0, 1, 2], ("-2", "9", "10"))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_split_keeps_the_shares_of_classes(fraction):
    y = np.repeat([0, 1, 2], [100, 37, 11])
    first, second = data.stratified_split(y, fraction, seed=3)
    assert sorted([*first, *second]) == list(range(148))
    assert len(second) == round(148 * fraction)
    for label in range(3):
        assert abs((y[second] == label).sum() - fraction * (y == label).sum()) < 1


def test_split_depends_on_the_seed_alone():
    y = np.arange(100) % 2
    a, b, c = (data.stratified_split(y, 0.3, seed)[1].tolist() for seed in (1, 1, 2))
    assert a == b != c


@pytest.mark.parametrize(
    ("n", "fraction", "message"),
    [
        (10, 1.0, r"expected 0 <= fraction < 1, got 1.0$"),
        (2, 0.1, r"expected samples in both parts, got 2 and 0 of 2 samples with fraction 0.1$"),
    ],
)
def test_split_refuses(n, fraction, message):
    with pytest.raises(ValueError, match=message):
        data.stratified_split(np.zeros(n), fraction)
