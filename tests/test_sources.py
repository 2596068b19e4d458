"""Every source gives the numbers that were written, through the one function that train uses."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from cli_helpers import SMALL, run
from fastnn import data
from PIL import Image
from source_helpers import CODES, cifar, folder, idx, write

RNG = np.random.default_rng(0)
FRAME = pa.table(
    {"a": [1, 2, 3], "kind": ["cat", "dog", "cat"], "b": [0.5, 1.5, -2.0], "c": [True, False, True]}
)
X = [[1, 0.5, 1], [2, 1.5, 0], [3, -2.0, 1]]


# ---- IDX --------------------


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("name", ["d.idx", "d.idx.gz", "d-idx3-ubyte", "d.idx3-ubyte.gz"])
def test_idx(tmp_path, name, dtype):
    x = RNG.integers(0, 100, (5, 3, 2))
    loaded = data.load(write(tmp_path / name, idx(x, dtype)))
    np.testing.assert_array_equal(loaded.images, x[:, None])
    assert loaded.x.dtype.isnative
    assert (loaded.shape, loaded.y, loaded.features[5]) == ((1, 3, 2), None, "pixel_2_1")


@pytest.mark.parametrize("suffixes", [("", ""), (".gz", ".gz"), (".gz", ""), ("", ".gz")])
def test_idx_finds_the_labels_of_mnist(tmp_path, suffixes):
    x, y = RNG.integers(0, 256, (4, 2, 2)), np.array([7, 1, 7, 3])
    path = write(tmp_path / f"t10k-images-idx3-ubyte{suffixes[0]}", idx(x))
    write(tmp_path / f"t10k-labels-idx1-ubyte{suffixes[1]}", idx(y))
    loaded = data.load(path)
    assert (loaded.y.tolist(), loaded.classes) == ([2, 0, 2, 1], ("1", "3", "7"))


# ---- CIFAR --------------------


@pytest.mark.parametrize("labels", [(10,), (20, 100)])
def test_cifar_file(tmp_path, labels):
    y, x, content = cifar(6, labels)
    loaded = data.load(write(tmp_path / "data.bin", content))
    np.testing.assert_array_equal(loaded.x, x)
    np.testing.assert_array_equal(loaded.y, y[:, -1])
    assert (loaded.shape, len(loaded.classes)) == ((3, 32, 32), labels[-1])


def test_cifar_folder(tmp_path):
    parts = [cifar(3, (10,), seed) for seed in range(3)]
    for i, part in enumerate(parts[:2]):
        write(tmp_path / f"data_batch_{i + 1}.bin", part[2])
    write(tmp_path / "test_batch.bin", parts[2][2])
    names = [f"animal {i}" for i in range(10)]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    loaded = data.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.x, np.concatenate([part[1] for part in parts[:2]]))
    assert loaded.classes == tuple(names)


# ---- folders of images --------------------


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_folder_of_images(tmp_path, mode):
    path = str(folder(tmp_path / "d", mode=mode))
    (tmp_path / "d" / ".hidden").write_text("")
    images = data.ImageFolder(path)
    assert (len(images), images.classes, images.y.tolist()) == (4, ("cat", "dog"), [0, 0, 1, 1])
    for i, file in enumerate(images.paths):
        pixels = np.asarray(Image.open(file))
        expected = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
        np.testing.assert_array_equal(images[i], expected)
    loaded = data.load(path)
    np.testing.assert_array_equal(loaded.images, np.stack([images[i] for i in range(4)]))
    assert loaded.name == "d"


def test_images_are_read_when_they_are_asked_for(tmp_path):
    path = folder(tmp_path / "d")
    images = data.ImageFolder(str(path))
    (path / "dog" / "1.png").write_bytes(b"gone")
    assert images[2].shape == (3, 4, 5)
    with pytest.raises(ValueError, match="got a damaged one"):
        images[3]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_become_one(tmp_path, mode):
    path = folder(tmp_path / "d")
    Image.new("L", (5, 4), 255).convert(mode).save(path / "cat" / "0.png")
    grey = mode in ("1", "L", "LA")
    assert data.ImageFolder(str(path)).shape == (1 if grey else 3, 4, 5)
    assert (data.ImageFolder(str(path), "RGB")[0] == 255).all()


# ---- arrays and tables --------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "<i8", "?"])
def test_npy_is_mapped(tmp_path, order, dtype):
    x = np.asarray(RNG.integers(0, 2, (6, 3)), dtype, order=order)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(6) % 2)
    loaded = data.load(str(tmp_path / "x.npy"))
    assert isinstance(loaded.x, np.memmap)
    np.testing.assert_array_equal(loaded.x, x)
    assert loaded.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert not loaded.x.flags.writeable


def test_npz_of_images(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3, 4, 5)), y=[0, 1])
    assert data.load(str(tmp_path / "d.npz")).shape == (3, 4, 5)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather", "csv", "tsv"])
def test_tables(tmp_path, kind):
    path = str(tmp_path / f"d.{kind}")
    if kind == "parquet":
        pyarrow.parquet.write_table(FRAME, path)
    elif kind in ("csv", "tsv"):
        text = "a,kind,b,c\n1,cat,.5,1\n2,dog,1.5,0\n3,cat,-2,1\n"
        write(path, text.replace(",", "," if kind == "csv" else "\t").encode())
    else:
        pyarrow.feather.write_feather(FRAME, path, compression="zstd" if kind == "arrow" else "lz4")
    loaded = data.load(path, "kind")
    np.testing.assert_array_equal(loaded.x, X)
    assert (loaded.y.tolist(), loaded.classes) == ([0, 1, 0], ("cat", "dog"))
    again = data.load(path, "kind", ("c", "a", "b"))
    np.testing.assert_array_equal(again.x, np.array(X)[:, [2, 0, 1]])


class Frame:
    """What pandas and polars are to us."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_frames():
    indexed = FRAME.append_column("__index_level_0__", pa.array([5, 6, 7]))
    loaded = data.load(Frame(indexed), "kind")
    np.testing.assert_array_equal(loaded.x, X)
    assert loaded.features == ("a", "b", "c")
    for texts in (pa.string(), pa.large_string(), pa.string_view()):  # of pandas and of polars
        names = pa.array(["cat", "dog"], texts)
        words = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.uint32()), names)
        loaded = data.load(Frame(FRAME.set_column(1, "kind", words)), "kind")
        assert (loaded.classes, loaded.y.tolist()) == (("cat", "dog"), [0, 1, 0])


def test_pairs():
    images = RNG.integers(0, 256, (4, 1, 2, 3)).astype(np.uint8)
    loaded = data.load(zip(images, [3, 1, 3, 1], strict=True))
    np.testing.assert_array_equal(loaded.images, images)
    assert (loaded.y.tolist(), loaded.classes) == ([1, 0, 1, 0], ("1", "3"))


# ---- missing cells --------------------


def test_missing_cells_are_nan_where_they_may_be(tmp_path):
    write(tmp_path / "d.csv", b"a,b,y\n1,,p\nNA,2,q\n?,nan,p\n")
    expected = [[1, np.nan], [np.nan, 2], [np.nan, np.nan]]
    np.testing.assert_array_equal(data.load(str(tmp_path / "d.csv"), "y", missing=True).x, expected)
    frame = pa.table({"a": [1, None, None], "b": [None, 2.0, float("nan")], "y": ["p", "q", "p"]})
    np.testing.assert_array_equal(data.load(frame, "y", missing=True).x, expected)
    np.savez(tmp_path / "d.npz", x=expected)
    np.testing.assert_array_equal(data.load(str(tmp_path / "d.npz"), missing=True).x, expected)


@pytest.mark.usefixtures("elsewhere")
def test_train_and_predict_with_missing_cells():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    rows = [[f"{v:.4f}" for v in row] + ["yes" if row[0] > row[1] else "no"] for row in x]
    for i in range(0, 200, 9):
        rows[i][2] = ""
    with open("d.csv", "w") as file:
        file.write("a,b,c,label\n" + "".join(",".join(row) + "\n" for row in rows))
    options = ["data.impute=median", "data.missing_indicators=true", "data.whiten=pca"]
    settings = [part for option in options for part in ("--set", option)]
    options = ["train.epochs=40", "optim.lr=0.01"]
    settings += [part for option in options for part in ("--set", option)]
    run("train", "d.csv", "-q", "-o", "out", *settings)
    result = json.loads(run("predict", "out", "d.csv", "-o", "p.csv", "--json").stdout)
    assert result["accuracy"] > 0.9


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("kind", ["idx", "cifar", "folder", "parquet", "npy"])
def test_every_source_trains(tmp_path, kind):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    if kind == "idx":
        source = write(tmp_path / "train-images-idx3-ubyte.gz", idx(rng.integers(0, 9, (40, 4, 4))))
        write(tmp_path / "train-labels-idx1-ubyte.gz", idx(y))
    elif kind == "cifar":
        source = write(tmp_path / "data_batch_1.bin", cifar(200, (10,))[2])
    elif kind == "folder":
        source = folder(tmp_path / "d", images=20)
    elif kind == "npy":
        np.save("x.npy", rng.normal(size=(40, 3)))
        np.save("y.npy", y)
        source = "x.npy"
    else:
        source = "d.parquet"
        pyarrow.parquet.write_table(pa.table({"a": rng.normal(size=40), "label": y}), source)
    run("train", source, "-q", "-o", "out", *SMALL)
    assert "predictions in p.csv" in run("predict", "out", source, "-o", "p.csv").stdout
