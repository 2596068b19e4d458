"""A table of numbers and texts on the command line: inspect, train, report, predict."""

import json
import os

import numpy as np
import pytest
from cli_helpers import SMALL, run
from fastnn.train.checkpoint import read_model, save_model

HEADER = "id,age,income,city,member,country,plan"
OPTIONS = [*SMALL[:2], "--set", "data.impute=median", "--set", "data.drop=id"]
PLANS = ["basic", "pro", "team"]
NOT_THERE = (
    "expected one of the {} categories of the training data in column 'city', got 'Oslo' in line 3"
)


def rows(n=200, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(n):
        age, plan = rng.normal(40, 12), rng.choice(PLANS)
        income = "" if i % 17 == 3 else f"{rng.lognormal(10, 0.5):.2f}"
        city = "" if i % 29 == 5 else rng.choice(["Rome", "Bonn", "São Paulo"])
        churn = "yes" if (city == "Rome") + (plan == "pro") + (age > 40) > 1 else "no"
        yield [f"c{i}", f"{age:.1f}", income, city, bool(i % 3), "DE", plan, churn]


def write(name, table, label="churn"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(f"{HEADER},{label}\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in table)
    return name


def fails(message, *args):
    result = run(*args, code=2)
    assert (result.stdout, result.stderr) == ("", f"error: {message}\n")


@pytest.fixture
def table(elsewhere):
    return write("d.csv", rows())


def train(*args):
    run("train", "d.csv", "--label", "churn", "-q", "-o", "out", *OPTIONS, *args)


def test_from_inspection_to_prediction(table):
    shown = run("data", "inspect", table).stdout
    assert "too many categories to train on: --set data.drop=id\n" in shown
    assert "label: none; to name a column of a table: --label\n" in shown
    facts = json.loads(run("data", "inspect", table, "--label", "churn", "--json").stdout)
    city = next(feature for feature in facts["features"] if feature["name"] == "city")
    assert (city["categories"], city["missing"], facts["notes"]["too_many_categories"]) == (
        4,
        7,
        ["id"],
    )
    assert facts["missing"] == 7 + 12
    train("--set", "train.epochs=60", "--set", "optim.lr=0.01")
    _, extra = read_model("out/best.safetensors")
    assert extra["drop"] == ["id"]
    assert extra["categories"]["city"] == ["", "Bonn", "Rome", "São Paulo"]
    assert extra["categories"]["member"] == ["false", "true"]
    assert list(extra["categories"]) == ["city", "member", "country", "plan"]
    write("new.csv", rows(100, seed=1))
    result = json.loads(run("predict", "out", "new.csv", "-o", "p.csv", "--json").stdout)
    assert result["accuracy"] > 0.9
    assert os.path.exists(run("report", "out").stdout.strip())
    with open("out/report.html", encoding="utf-8") as file:
        assert "Not shown" not in file.read()


@pytest.mark.usefixtures("elsewhere")
def test_inspection_shows_texts_among_numbers():
    with open("d.csv", "w") as file:
        file.write("a,b,n,label\n1,x,7,0\n2,y,8,z\n\nthree,x,9,1\n4,5,10,1\n")
        file.writelines(f"{i},x,{i + 6},1\n" for i in range(5, 21))
    shown = run("data", "inspect", "d.csv").stdout.splitlines()
    assert shown[3:5] == [
        "numbers of the rows, which say nothing of others: --set data.drop=n",
        "texts among numbers: a has 'three' in line 5; if it holds categories: --set "
        "data.categorical=a",
    ]
    assert [line.split()[:3] for line in shown[12:16]] == [
        ["category", "categories", "most"], ["a", "20", "1"], ["b", "3", "x"], []
    ]  # fmt: skip
    facts = json.loads(run("data", "inspect", "d.csv", "--json").stdout)
    assert facts["notes"]["texts_among_numbers"] == {"a": ["three", 5]}


def test_predictions_do_not_depend_on_the_order_of_columns_and_other_rows(table):
    train("--set", "train.epochs=3")
    run("predict", "out", table, "-o", "whole.csv")
    with open(table, encoding="utf-8") as file:
        lines = [line.strip().split(",")[1:-1] for line in file]
    with open("new.csv", "w", encoding="utf-8") as file:
        file.writelines(",".join(reversed(line)) + "\n" for line in [lines[0], *lines[3:1:-1]])
    with open("whole.csv") as file:
        expected = file.read().splitlines()
    said = run("predict", "out", "new.csv")
    assert said.stdout.splitlines() == [expected[0], expected[3], expected[2]]
    assert said.stderr == ""


def test_a_category_that_training_does_not_have(table):
    new = list(rows(4, seed=2))
    new[1][3] = new[3][3] = "Oslo"
    write("new.csv", new)
    train("--set", "train.epochs=3")
    result = run("predict", "out", "new.csv", "-o", "p.csv")
    assert result.stderr == (
        f"warning: new.csv: {NOT_THERE.format(4)}; such cells, which count as none of them: 2\n"
    )
    run("train", table, "--label", "churn", "-q", "-o", "strict", *OPTIONS, *SMALL[2:], "--set",
        "data.unknown=error")  # fmt: skip
    fails(f"new.csv: {NOT_THERE.format(4)}", "predict", "strict", "new.csv", "-o", "q.csv")
    assert not os.path.exists("q.csv")


def test_a_category_that_only_other_parts_have(elsewhere):
    table = list(rows(60))
    for row in table:
        row[3] = "Bonn"
    options = ["--label", "churn", "-q", *OPTIONS, *SMALL[2:], "--set", "data.unknown=error"]
    for i in range(60):  # until the row is not one to train on
        table[i][3] = "Oslo"
        write("d.csv", table)
        table[i][3] = "Bonn"
        result = run("train", "d.csv", "-o", f"out{i}", *options, code=None)
        if result.exit_code:
            break
    assert result.stderr == (
        "error: d.csv: expected one of the 1 categories of the training data in column 'city', got "
        f"'Oslo' in line {i + 2}, which is for validation or the test; data.unknown=ignore makes "
        "zeros of it\n"
    )
    assert not os.path.exists(f"out{i}")
    run("train", "d.csv", "-o", "ignored", *options, "--set", "data.unknown=ignore")


def test_messages(table):
    fails(
        "d: expected at most 100 categories in a column of 200 rows, got 200 in 'id'; leave "
        "such columns out (data.drop=id) or make numbers of them",
        "train", table, "--label", "churn", *OPTIONS[:4],
    )  # fmt: skip
    fails(
        "d.csv: expected a column to leave out 'idd', got the columns ['id', 'age', 'income', "
        "'city', 'member'] and 3 more; did you mean 'id'?",
        "train", table, "--label", "churn", "--set", "data.drop=idd",
    )  # fmt: skip
    fails(
        "d: expected at most 100 classes for 200 samples, got 157 in column 'age'; is it a "
        "quantity?",
        "train", table, "--label", "age", *OPTIONS,
    )  # fmt: skip
    train("--set", "train.epochs=3")
    columns = HEADER.split(",")
    for name, change, message in (
        ("age", "old", "expected a number, got 'old' in line 2, column 'age'"),
        ("income", "-", "expected a number, got '-' in line 2, column 'income'"),
    ):
        new = list(rows(2))
        new[0][columns.index(name)] = change
        write("new.csv", new)
        fails(f"new.csv: {message}", "predict", "out", "new.csv")
    with open("new.csv", "w") as file:
        file.write("age,income,town,member,country,plan\n1,2,Rome,true,DE,pro\n")
    fails(
        "new.csv: expected the 6 columns of the training data, got missing ['city'] and unknown "
        "['town']",
        "predict", "out", "new.csv",
    )  # fmt: skip
    np.savez("new.npz", x=np.ones((2, 6)))
    fails(
        "new.npz: expected a table with columns of categories, got numbers",
        "predict", "out", "new.npz",
    )  # fmt: skip


def test_a_checkpoint_with_other_categories(table):
    train("--set", "train.epochs=3")
    path = "out/best.safetensors"
    model, extra = read_model(path)
    for categories in ({"city": "abc"}, {"city": [1]}, ["city"]):
        save_model(path, model, {**extra, "categories": categories})
        result = run("predict", "out", table, code=2)
        assert result.stderr.startswith(f"error: {path}: expected the classes, features and prepr")
    save_model(path, model, {**extra, "categories": {**extra["categories"], "city": ["x", "x"]}})
    fails("data: expected each category once, got ['x', 'x']", "predict", "out", table)


def test_rows_without_a_label(table):
    train("--set", "train.epochs=3")
    new = list(rows(9))
    new[4][-1] = ""
    write("new.csv", new)
    message = "new.csv: expected a label in each row, got an empty cell in line 6, column 'churn'"
    fails(message, "train", "new.csv", "--label", "churn", *OPTIONS)
    assert run("predict", "out", "new.csv", "-o", "p.csv").stdout == "9 predictions in p.csv\n"


@pytest.mark.usefixtures("elsewhere")
def test_a_label_of_numbers_and_columns_of_texts_alone():
    with open("d.csv", "w") as file:
        file.write("city,zip,label\n" + "Rome,10,1\nBonn,20,0\nOslo,,0\n" * 20)
    assert "label: label, 2 classes" in run("data", "inspect", "d.csv").stdout
    for name in ("out", "again"):
        run("train", "d.csv", "-q", "-o", name, *SMALL, "--set", "data.categorical=zip", "--set",
            "data.whiten=pca")  # fmt: skip
    _, extra = read_model("out/best.safetensors")
    assert extra["categories"] == {"city": ["Bonn", "Oslo", "Rome"], "zip": ["", "10", "20"]}
    assert run("predict", "out", "d.csv").stdout.startswith("prediction,p_0,p_1\n")
    run("train", "--resume", "out", "-q", "--set", "train.epochs=4")
