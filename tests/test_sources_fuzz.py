"""Files with a few bytes changed: they load, or are refused in one line that names the file."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from fastnn import data
from source_helpers import cifar, folder, idx, write

# Of each kind. The full lane: 33,334 of each of our own parsers; the long one: 3,333,334.
FILES = int(os.environ.get("FASTNN_FUZZ", "300"))
TABLE = pa.table({"a": np.arange(40.0), "b": np.arange(40), "y": ["p", "q"] * 20})


def make(path, kind):
    """A small file of a kind, and what to load."""
    if kind in ("idx", "idx.gz"):
        return write(path / f"d.{kind}", idx(np.arange(60).reshape(5, 4, 3)))
    if kind == "bin":
        return write(path / "d.bin", cifar(2, (10,))[2])
    if kind == "npy":
        np.save(path / "d.npy", np.arange(12.0).reshape(4, 3))
    elif kind == "npz":
        np.savez_compressed(path / "d.npz", x=np.arange(12.0).reshape(4, 3), y=np.arange(4))
    elif kind == "parquet":
        pyarrow.parquet.write_table(TABLE, path / "d.parquet")
    elif kind == "arrow":
        pyarrow.feather.write_feather(TABLE, path / "d.arrow", compression="lz4")
    elif kind in ("csv", "tsv"):
        text = "a,b,y\n" + "".join(f"{i},{i}.5,p\n" for i in range(9))
        write(path / f"d.{kind}", text.replace(",", "\t" if kind == "tsv" else ",").encode())
    elif kind == "png":
        folder(path / "d", images=1)
        return str(path / "d" / "cat" / "0.png")
    return str(path / f"d.{kind}")


@pytest.mark.parametrize(
    "kind",
    ["arrow", "bin", "csv", "idx", "idx.gz", "npy", "npz", "parquet", "png", "tsv"],
)
def test_changed_bytes(tmp_path, kind):
    path = make(tmp_path, kind)
    with open(path, "rb") as file:
        whole = file.read()
    source = str(tmp_path / "d") if kind == "png" else path
    rng = np.random.default_rng(0)
    for _ in range(FILES):
        content = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(0, len(content), rng.integers(1, 4))
        content[at] = rng.integers(0, 256, len(at))
        if rng.random() < 0.2:
            content = np.roll(content, int(rng.integers(1, 9)))
        with open(path, "wb") as file:
            file.write(content.tobytes())
        try:
            loaded = data.load(source, "y" if kind in ("arrow", "csv", "parquet", "tsv") else None)
        except ValueError as error:
            text = str(error)
            assert text.startswith(path)
            assert text.isprintable()
            assert len(text) < len(path) + 400
        else:
            assert loaded.x.ndim == 2
            assert loaded.x.size < 1 << 16
    assert os.path.exists(path)
