"""fastnn data inspect: the table, the JSON and the picture."""

import io
import json
import os

import numpy as np
import pytest
from cli_helpers import run
from fastnn import data
from PIL import Image
from source_helpers import folder

pytestmark = pytest.mark.usefixtures("elsewhere")
CSV = "alpha,b,c,kind\n1,,3,cat\n2,5,3,dog\n4,6,3,cat\n"


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


def test_the_table():
    write("d.csv", CSV)
    lines = run("data", "inspect", "d.csv", "--label", "kind").stdout.splitlines()
    assert [line.rstrip() for line in lines] == [
        "d: 3 samples, 3 features, float64",
        "missing: 1 of 9 values (11.11 %); --set data.impute=median",
        "constant features: 1",
        "label: kind, 2 classes, the largest 2.00 times the smallest",
        "",
        "class  samples   share",
        "cat          2  66.7 %  ████████████████████████",
        "dog          1  33.3 %  ████████████",
        "",
        "feature  minimum   mean    std  maximum  missing",
        "alpha          1  2.333  1.247        4        0",
        "b              5    5.5    0.5        6        1",
        "c              3      3      0        3        0",
    ]


def test_json():
    write("d.csv", CSV)
    facts = json.loads(run("data", "inspect", "d.csv", "--label", "kind", "--json").stdout)
    assert facts == {
        "name": "d", "samples": 3, "dtype": "float64", "image": None, "missing": 1, "constant": 1,
        "label": "kind", "classes": {"cat": 2, "dog": 1},
        "features": [
            {"name": "alpha", "minimum": 1, "mean": 7 / 3, "std": np.std([1, 2, 4]), "maximum": 4,
             "missing": 0},
            {"name": "b", "minimum": 5, "mean": 5.5, "std": 0.5, "maximum": 6, "missing": 1},
            {"name": "c", "minimum": 3, "mean": 3, "std": 0, "maximum": 3, "missing": 0},
        ],
        "notes": {"texts_among_numbers": {}, "dates": [], "too_many_categories": [],
                  "row_numbers": []},
    }  # fmt: skip


def test_a_column_without_values_and_no_labels():
    write("d.csv", "a,b\n1,\n2,NA\n")
    facts = json.loads(run("data", "inspect", "d.csv", "--json").stdout)
    assert facts["features"][1] == {
        "name": "b", "minimum": None, "mean": None, "std": None, "maximum": None, "missing": 2,
    }  # fmt: skip
    assert facts["classes"] is None
    text = run("data", "inspect", "d.csv").stdout
    assert "label: none; to name a column of a table: --label\n" in text
    assert text.splitlines()[-1].split() == ["b", "-", "-", "-", "-", "2"]


def test_long_lists_are_cut_and_names_cannot_move_the_cursor():
    names = [f"f{i}" for i in range(24)] + ["\x1b[31mred" + "x" * 50]
    write("d.csv", ",".join(reversed(names)) + "\n" + ",".join("1" for _ in names) + "\n")
    text = run("data", "inspect", "d.csv").stdout
    assert "\x1b" not in text
    assert "\ufffd[31mredxx" in text
    assert text.endswith("... and 5 more features; --json has them all\n")


def test_statistics_are_those_of_numpy():
    digits = data.load("digits")
    facts = data.summarize(digits)
    for key, values in {
        "mean": digits.x.mean(0), "std": digits.x.std(0), "minimum": digits.x.min(0),
        "maximum": digits.x.max(0),
    }.items():  # fmt: skip
        np.testing.assert_allclose([f[key] for f in facts["features"]], values, rtol=1e-12)
    assert facts["classes"] == {str(i): int((digits.y == i).sum()) for i in range(10)}


def test_the_grid_has_a_row_for_each_class(tmp_path):
    path = folder(tmp_path / "d", images=3, size=(24, 24), seed=1)
    text = run("data", "inspect", path, "-o", "grid.png").stdout
    assert text.splitlines()[0] == "d: 6 samples, images of 24 x 24 pixels (RGB), uint8"
    assert "images: grid.png" in text
    with open("grid.png", "rb") as file:
        grid = np.asarray(Image.open(io.BytesIO(file.read())))
    assert grid.shape == (2 * 50 + 2, 10 * 50 + 2, 3)
    pixels = np.asarray(Image.open(path / "dog" / "1.png")).astype(float)
    every = data.load(str(path)).x
    expected = 255 * (pixels - every.min()) / float(every.max() - every.min())
    tile = grid[52:100, 52:100]
    np.testing.assert_array_equal(tile[::2, ::2], expected.round())
    np.testing.assert_array_equal(tile[1::2, 1::2], tile[::2, ::2])
    assert (grid[:, -40:] == 255).all()


def test_a_grid_without_labels():
    np.savez("d.npz", x=np.random.default_rng(0).normal(size=(12, 1, 6, 8)))
    run("data", "inspect", "d.npz", "-o", "grid.png")
    with Image.open("grid.png") as grid:
        assert grid.size == (10 * 50 + 2, 2 * 38 + 2)


BAD = {
    "no images": (["d.csv", "-o", "grid.png"], "d: expected images, got rows of 3 numbers"),
    "no PNG": (["digits", "-o", "grid.jpg"], "grid.jpg: expected a name that ends in .png"),
    "channels": (
        ["d.npz", "-o", "grid.png"],
        "d: expected images of 1 or 3 channels, got 2",
    ),
    "no file": (["none.csv"], "none.csv: expected a file, found nothing there"),
    "label": (
        ["d.csv", "--label", "kin"],
        "d.csv: expected a label column 'kin', got the columns ['a', 'kind', 'b', 'c']; did you "
        "mean 'kind'?",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    args, message = BAD[case]
    write("d.csv", "a,kind,b,c\n1,2,3,4\n")
    if case == "no images":
        args = [*args, "--label", "kind"]
    np.savez("d.npz", x=np.ones((2, 2, 3, 3)))
    result = run("data", "inspect", *args, code=2)
    assert result.stderr == f"error: {message}\n"
    assert result.stdout == ""
    assert not os.path.exists("grid.png")
