"""Dates and times in tables, which no source makes numbers of; options of tables elsewhere."""

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from fastnn import data
from fastnn.data.tables import date_columns
from test_categories import raises, write
from test_categories_cli import run


def dates_message(path, name, got):
    return (
        f"{path}: expected numbers or categories in column {name!r}, got dates or times: {got}; to "
        f"leave it out: data.drop={name}, drop=[{name!r}]; as categories: "
        f"data.categorical={name}, categorical=[{name!r}]"
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-31", "2024-02-01", ""],
        ["2024-01-31 12:30:00", "2024-02-01T00:00:00.5Z", "x"],
        ["31.1.2024", "1/2/2024", "1-2-2024"],
        ["12:30", "9:15:00.25", "7:00"],
    ],
)
def test_a_column_of_dates_is_refused_by_name(tmp_path, cells):
    path = write(tmp_path / "d.csv", list(zip([1, 2, 3], cells, "uvu", strict=True)), "a,day,kind")
    raises(dates_message(path, "day", f"{cells[0]!r} in line 2"), data.load, path, "kind")
    assert data.load(path, "kind", drop=["day"]).x.tolist() == [[1], [2], [3]]
    table = data.load(path, "kind", categorical=["day"])
    assert len(table.categories["day"]) == 3
    again = data.load(path, "kind", table.features, categories=table.categories)
    np.testing.assert_array_equal(again.x, table.x)
    frame = pa.table({"a": [1, 2, 3], "day": cells})
    raises(dates_message("frame", "day", repr(cells[0])), data.load, frame)
    assert "day" in data.load(frame, categorical=["day"]).categories


WHEN = {
    "date32[day]": pa.array([1, None], pa.date32()),
    "date64[ms]": pa.array([86_400_000, None], pa.date64()),
    "timestamp[us, tz=UTC]": pa.array([1, None], pa.timestamp("us", "UTC")),
    "time64[us]": pa.array([1, None], pa.time64("us")),
    "duration[s]": pa.array([1, None], pa.duration("s")),
}


@pytest.mark.parametrize("kind", WHEN)
def test_types_of_dates_are_refused_by_name(tmp_path, kind):
    table, path = pa.table({"a": [1, 2], "when": WHEN[kind]}), str(tmp_path / "d.feather")
    pyarrow.feather.write_feather(table, path, compression="uncompressed")
    for source, name in ((table, "frame"), (path, path)):
        raises(dates_message(name, "when", kind), data.load, source)
        assert data.load(source, drop=["when"]).x.tolist() == [[1], [2]]


def test_a_few_dates_among_texts_or_numbers_are_as_before(tmp_path):
    path = write(tmp_path / "d.csv", [("2024-01-31", 1), ("soon", 2), ("late", 3)], "when,a")
    assert data.load(path).categories == {"when": ("2024-01-31", "late", "soon")}
    path = write(tmp_path / "e.csv", [(5, 1), (6, 2), ("2024-01-31", 3)], "n,a")
    hint = "; if these are categories: data.categorical=n, categorical=['n']"
    raises(
        f"{path}: expected a number, got '2024-01-31' in line 4, column 'n'{hint}", data.load, path
    )


@pytest.mark.parametrize("option", ["drop", "categorical"])
def test_columns_of_what_is_no_table_are_refused(tmp_path, option):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    np.savez(tmp_path / "d.npz", x=np.ones((3, 2)), y=[0, 1, 0])
    rule = (
        f"expected data.{option} for the columns of a table only (.csv, .tsv, .parquet, .arrow, "
        ".feather, a data frame), got ['a', 'b']"
    )
    for source in ("digits", str(tmp_path / "x.npy"), str(tmp_path / "d.npz"), str(tmp_path)):
        raises(f"{source}: {rule}", data.load, source, **{option: ["a", "b"]})
    raises(f"pairs: {rule}", data.load, [([1], 0)], **{option: ["a", "b"]})
    # To predict from what was saved without them:
    saved = data.load(str(tmp_path / "x.npy"), None, ("a", "b"), drop=["c"], categories={})
    assert saved.x.tolist() == np.ones((3, 2)).tolist()


def test_inspection_shows_dates_and_what_to_do(tmp_path):
    rows = [(f"2024-01-{i:02}", i % 3, i % 2) for i in range(1, 29)]
    path = write(tmp_path / "d.csv", rows, "day,n,label")
    assert date_columns(path) == ["day"]
    text = "dates or times, of which you make numbers, or leave them out: --set data.drop=day"
    assert text in run("data", "inspect", path).stdout.splitlines()
    pyarrow.feather.write_feather(
        pa.table({"day": pa.array([1, 2], pa.date32()), "n": [1, 2]}), tmp_path / "d.feather"
    )
    assert text in run("data", "inspect", str(tmp_path / "d.feather")).stdout.splitlines()
    assert date_columns("digits") == []
