"""Columns of texts in tables: codes, names, and one-hot columns beside scaled numbers."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from fastnn import data
from fastnn.data.categories import check_categories, find_unknown, known_first
from fastnn.data.tables import mixed_columns
from sklearn import compose, impute, pipeline, preprocessing

ROWS = [
    ("Rome", 2.8, "True", "a"),
    ("Bonn", 0.3, "False", "b"),
    ("", 1.5, "False", "a"),
    ("Rome", -1.0, "True", "b"),
]
CITY, MEMBER = ("", "Bonn", "Rome"), ("false", "true")
X = [[2, 2.8, 1], [1, 0.3, 0], [0, 1.5, 0], [2, -1, 1]]


def write(path, rows, header="city,size,member,kind", comma=","):
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines).replace(",", comma) + "\n")
    return str(path)


def raises(message, function, *args, **options):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function(*args, **options)


def words(texts, index="int8"):
    """A column as pandas and polars keep categories, with one that no cell has."""
    names = [*sorted({text for text in texts if text}, reverse=True), "unused"]
    codes = [names.index(text) if text else None for text in texts]
    return pa.DictionaryArray.from_arrays(pa.array(codes, getattr(pa, index)()), pa.array(names))


def frame(city=None):
    columns = list(zip(*ROWS, strict=True))
    cities = [text or None for text in columns[0]]
    return pa.table(
        {
            "city": pa.array(cities) if city is None else city(cities),
            "size": columns[1],
            "member": [text == "True" for text in columns[2]],
            "kind": columns[3],
        }
    )


# ---- every source ------------------------------------------------------------------------------


SOURCES = {
    "csv": lambda path: write(path / "d.csv", ROWS),
    "tsv": lambda path: write(path / "d.tsv", ROWS, comma="\t"),
    "quoted": lambda path: write(path / "d.csv", [(f'"{r[0]}"', *r[1:]) for r in ROWS]),
    "frame": lambda path: frame(),
    "large": lambda path: frame(lambda c: pa.array(c, pa.large_string())),
    "view": lambda path: frame(lambda c: pa.array(c, pa.string_view())),
    "dictionary": lambda path: frame(words),
    "unsigned": lambda path: frame(lambda c: words(c, "uint32")),
    "chunks": lambda path: pa.concat_tables([frame()[:2], frame()[2:]]),
    "parquet": lambda path: save(path / "d.parquet", pyarrow.parquet.write_table),
    "arrow": lambda path: save(path / "d.arrow", pyarrow.feather.write_feather),
}


def save(path, how):
    how(frame(words), path)
    return str(path)


@pytest.mark.parametrize("kind", SOURCES)
def test_texts_and_booleans_become_categories(tmp_path, kind):
    table = data.load(SOURCES[kind](tmp_path), "kind")
    np.testing.assert_array_equal(table.x, X)
    assert table.categories == {"city": CITY, "member": MEMBER}
    assert (table.categorical, table.numeric) == ((0, 2), (1,))
    assert (table.y.tolist(), table.classes) == ([0, 1, 0, 1], ("a", "b"))


@pytest.mark.parametrize("kind", ["csv", "dictionary", "chunks"])
def test_codes_of_training_are_kept(tmp_path, kind):
    known = {"city": ("Rome", "Oslo"), "member": ("true",)}
    table = data.load(SOURCES[kind](tmp_path), "kind", ("size", "city", "member"), categories=known)
    assert table.categories == {
        "city": ("Rome", "Oslo", "", "Bonn"), "member": ("true", "false"),
    }  # fmt: skip
    np.testing.assert_array_equal(table.x, [[2.8, 0, 0], [0.3, 3, 1], [1.5, 2, 1], [-1, 0, 0]])
    found = [(u.column, u.category, u.row, u.cells) for u in find_unknown(table, known)]
    assert found == [("city", "Bonn", 1, 2), ("member", "false", 1, 2)]


def test_numbers_become_categories_where_they_are_named(tmp_path):
    rows = [(10, 1), (9, 2), ("", 3), (10, 4)]
    path = write(tmp_path / "d.csv", rows, "zip,b")
    table = data.load(path, categorical=["zip"])
    assert (table.categories, table.x[:, 0].tolist()) == ({"zip": ("", "10", "9")}, [1, 2, 0, 1])
    whole = pa.table({"zip": [10, 9, 10], "b": [1, 2, 3]})
    assert data.load(whole, categorical=["zip"]).categories == {"zip": ("9", "10")}


@pytest.mark.parametrize(
    ("cells", "categorical"),
    [(["x", "y", "1"], True), (["", "x"], True), (["", "?"], False), (["NA", " 1"], False),
     (["x", "1"], None), (["x", "1", "2"], None), (["x", "NA", "1"], None)],
)  # fmt: skip
def test_fewer_than_half_of_the_cells_are_numbers(tmp_path, cells, categorical):
    path = write(tmp_path / "d.csv", [(cell, 1) for cell in cells], "a,b")
    if categorical is None:
        message = (
            f"{path}: expected a number, got 'x' in line 2, column 'a'; if these are categories: "
            "data.categorical=a, categorical=['a']"
        )
        raises(message, data.load, path, missing=True)
    else:
        assert bool(data.load(path, missing=True).categories) == categorical


def test_columns_are_left_out(tmp_path):
    path = write(tmp_path / "d.csv", ROWS)
    table = data.load(path, "kind", drop=["member", "city"])
    assert (table.features, table.categories) == (("size",), {})
    again = data.load(path, "kind", table.features, drop=["member", "city", "gone"], categories={})
    np.testing.assert_array_equal(again.x, table.x)
    blocks = list(data.stream_csv(path, "kind", drop=("member", "city")))
    np.testing.assert_array_equal(blocks[0][0], table.x)


# ---- what is refused ---------------------------------------------------------------------------


def test_messages(tmp_path):
    path = write(tmp_path / "d.csv", [("1", 2), ("two", 3), ("3", 4)], "a,b")
    hint = "; if these are categories: data.categorical=a, categorical=['a']"
    bad = f"{path}: expected a number, got 'two' in line 3, column 'a'"
    raises(bad + hint, data.load, path)
    raises(bad, data.load, path, None, ("a", "b"), categories={})
    raises(
        "data: expected each category once, got ['x', 'x']",
        data.load, pa.table({"a": ["x"]}), None, ("a",), categories={"a": ("x", "x")},
    )  # fmt: skip
    raises(
        f"{path}: expected a column to leave out 'c', got the columns ['a', 'b']",
        data.load, path, drop=["c"],
    )  # fmt: skip
    raises(
        f"{path}: expected a column of categories 'bb', got the columns ['a', 'b']; did you mean "
        "'b'?",
        data.load, path, categorical=["bb"],
    )  # fmt: skip
    table = pa.table({"a": ["x"], "b": [1]})
    raises(
        "frame: expected numbers in column 'a', got string",
        data.load, table, None, ("a", "b"), categories={},
    )  # fmt: skip
    raises(
        f"{path}: expected the 2 columns of the training data, got missing ['c'] and unknown ['a']",
        data.load, path, None, ("b", "c"), categories={},
    )  # fmt: skip


def test_an_index_of_pandas_is_left_out(tmp_path):
    path = write(tmp_path / "d.csv", [(0, 1.5), (1, 2.5)], ",a")
    table = data.load(path)
    assert (table.features, table.x.tolist()) == (("a",), [[1.5], [2.5]])
    np.testing.assert_array_equal(data.load(path, None, ("a",), categories={}).x, table.x)
    path = write(tmp_path / "e.csv", [(0, 1.5), ("x", 2.5)], ",a")
    assert (mixed_columns(path), data.load(path).features) == ({}, ("a",))


def test_rows_to_predict_may_lack_labels():
    table = pa.table({"a": [1, 2], "y": ["p", None]})
    assert data.load(table, "y", ("a",), categories={}).y is None
    raises(
        "frame: expected a value in each row, got a missing one in row 1, column 'y'",
        data.load, table, "y",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a;b\n1;2\n", "expected cells divided by ',', got one column with ';' in its name; "
         ".tsv is for tabs, .csv for commas"),
        (b"a,b\nx,1\n\"y\nz\",2\n\xe3,3\n", "expected UTF-8, got byte 0xe3 in line 5"),
        (b"a,b\nx,1\ny\n", "expected 2 columns, got 1 in line 3"),
        (b"a,b\nx,1\n" + b"y" * 140_000 + b"\n",
         "field larger than field limit (131072)"),
    ],
)  # fmt: skip
def test_damaged_texts(tmp_path, content, message):
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    raises(f"{path}: {message}", data.load, str(path))


@pytest.mark.parametrize(
    ("rows", "categories", "most"),
    [(30, 20, None), (30, 21, 20), (60, 30, None), (60, 31, 30), (9000, 1000, None),
     (9000, 1001, 1000)],
)  # fmt: skip
def test_too_many_categories(rows, categories, most):
    names = [f"p{i % categories}" for i in range(rows)]
    table = data.load(pa.table({"id": names, "few": ["a", "b"] * (rows // 2)}))
    if most is None:
        check_categories(table)
    else:
        raises(
            f"frame: expected at most {most} categories in a column of {rows} rows, got "
            f"{categories} in 'id'; leave such columns out (data.drop=id) or make numbers of them",
            check_categories, table,
        )  # fmt: skip


# ---- preprocessing -----------------------------------------------------------------------------


RNG = np.random.default_rng(0)
N = 120
TABLE = pa.table(
    {
        "city": RNG.choice(["Rome", "Bonn", "Oslo", "Paris"], N, p=[0.5, 0.3, 0.19, 0.01]),
        "size": pa.array(RNG.normal(5, 2, N), mask=RNG.random(N) < 0.2),
        "member": RNG.random(N) < 0.3,
        "age": RNG.normal(40, 9, N),
    }
)
TRAIN = np.arange(80)


def both():
    """Our pipeline and scikit-learn's, fitted to the same rows; theirs to texts."""
    table = data.load(TABLE, missing=True)
    ours = table.pipeline(data.SimpleImputer("median", True), data.StandardScaler())
    numbers = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="median", add_indicator=True), preprocessing.StandardScaler()
    )
    theirs = compose.make_column_transformer(
        (numbers, [1, 3]),
        (preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), [0, 2]),
    )
    columns = [TABLE.column(name).to_pylist() for name in TABLE.column_names]
    texts = np.array([*zip(*columns, strict=True)], object)
    texts[:, 1] = [np.nan if value is None else value for value in texts[:, 1]]
    return table, texts, ours.fit(table.x[TRAIN]), theirs.fit(texts[TRAIN])


def test_columns_are_those_of_scikit_learn():
    table, texts, ours, theirs = both()
    np.testing.assert_allclose(
        ours.transform(table.x), theirs.transform(texts).astype(float), rtol=1e-10, atol=1e-12
    )
    assert ours.takes_missing
    assert not ours.refuses_unknown


def test_a_pipeline_of_columns_is_json_and_arrays():
    table, _, ours, _ = both()
    description = json.loads(json.dumps(ours.describe()))
    state = {name: value.tolist() for name, value in ours.state_dict().items()}
    again = data.Pipeline.build(description, state)
    np.testing.assert_array_equal(again.transform(table.x), ours.transform(table.x))
    raises(
        "Pipeline: expected one fit, on the training data, got a second one; new() gives an "
        "unfitted copy",
        ours.fit, table.x,
    )  # fmt: skip
    other = ours.new().fit(table.x[40:])
    assert not np.array_equal(other.transform(table.x), ours.transform(table.x))


def test_codes_depend_on_training_rows_alone():
    table = data.load(TABLE, missing=True)
    changed = TABLE.to_pylist()
    for row in changed[80:]:
        row.update(city="Aachen", size=1e9, member=True, age=-1.0)
    fits = []
    for source in (table, data.load(pa.Table.from_pylist(changed), missing=True)):
        dataset, known = known_first(source, TRAIN)
        columns = dataset.pipeline(data.SimpleImputer(), data.StandardScaler())
        columns.fit(dataset.x[TRAIN])
        np.testing.assert_array_equal(np.sort(source.x, axis=0)[:, 1], np.sort(dataset.x[:, 1]))
        fits.append((known, {k: v.tolist() for k, v in columns.state_dict().items()}))
    assert fits[0] == fits[1]
    names = np.array(TABLE.column("city").to_pylist())
    assert fits[0][0]["city"] == tuple(sorted(set(names[TRAIN])))


def test_column_transformer_messages():
    encoder, x = data.OneHotEncoder(), np.zeros((3, 2))
    raises("ColumnTransformer: expected 1 to 64 parts, got 0", data.ColumnTransformer)
    raises(
        "ColumnTransformer: expected columns by their index, each once, got (1, 1)",
        data.ColumnTransformer, (encoder, [1, 1]),
    )  # fmt: skip
    columns = data.ColumnTransformer((encoder, [2]))
    raises(
        "ColumnTransformer: expected columns below 2, the width of x, got 2", columns.fit, x
    )  # fmt: skip
    raises(
        "ColumnTransformer: expected a fitted transform, got an unfitted one; fit it on the "
        "training data",
        columns.transform, x,
    )  # fmt: skip
    columns = data.ColumnTransformer((encoder, [1])).fit(x)
    raises("ColumnTransformer: expected x of shape (n, 2), got (3, 3)", columns.transform,
           np.zeros((3, 3)))  # fmt: skip
    raises(
        "OneHotEncoder: expected one of the 1 codes of the training data in column 0, got 5.0 at "
        "row 1",
        columns.transform, [[0, 0], [0, 5]],
    )  # fmt: skip
    with pytest.raises(NotImplementedError, match=r"^ColumnTransformer: cannot be inverted$"):
        columns.inverse_transform(x)
    with pytest.raises(TypeError, match=r"^ColumnTransformer: expected no other Colu"):
        data.ColumnTransformer((columns.new(), [0]))
    fitted = data.Pipeline(data.StandardScaler()).fit(x)
    with pytest.raises(ValueError, match=r"^ColumnTransformer: expected unfitted parts, got Pipe"):
        data.ColumnTransformer((fitted, [0]))


STEP = {"name": "ColumnTransformer", "parts": [[[{"name": "StandardScaler"}], [1]]]}
STATE = {"0.width_": 2.0, "0.0.0.mean_": [0.0], "0.0.0.scale_": [1.0]}
DAMAGED = {
    "no parts": ({"name": "ColumnTransformer"}, STATE,
                 "Pipeline: expected parts of ColumnTransformer, got 'None'"),
    "part": ({**STEP, "parts": [[1]]}, STATE,
             "ColumnTransformer: expected steps and columns, got '[1]'"),
    "columns": ({**STEP, "parts": [[[], ["a"]]]}, STATE,
                "ColumnTransformer: expected columns by their index, each once, got ('a',)"),
    "nested": ({**STEP, "parts": [[[STEP], [1]]]}, STATE,
               "ColumnTransformer: expected no other ColumnTransformer in a part"),
    "width": (STEP, {**STATE, "0.width_": 1.0},
              "ColumnTransformer: expected width_, a whole number of at least 2"),
    "place": (STEP, {**STATE, "0.1.0.mean_": [0.0]},
              "ColumnTransformer: expected states of its parts, got '1.0.mean_'"),
    "state": (STEP, {"0.width_": 2.0},
              "StandardScaler: expected a state of ['mean_', 'scale_'], got []"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_descriptions(case):
    step, state, message = DAMAGED[case]
    data.Pipeline.build([STEP], STATE)
    raises(message, data.Pipeline.build, [step], state)
