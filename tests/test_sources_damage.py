"""Damaged and hostile images: a message with path and place, no memory taken, nothing half read."""

import os

import numpy as np
import pytest
from fastnn import data
from PIL import Image
from source_helpers import cifar, folder, idx, refuses, write

GOOD = idx(np.arange(24).reshape(4, 3, 2))
HUGE = bytes([0, 0, 8, 3]) + b"\xff" * 12


# ---- IDX --------------------

IDX = {
    "empty": (b"", "expected an IDX file, which begins with 00 00, got nothing"),
    "short magic": (b"\0\0\x08", "expected an IDX file, which begins with 00 00, got 00 00 08"),
    "magic": (
        b"\x1f\x8b" + GOOD[2:],
        "expected an IDX file, which begins with 00 00, got 1f 8b 08 03",
    ),
    "little-endian magic": (
        b"\x03\x08\0\0" + GOOD[4:],
        "expected an IDX file, which begins with 00 00, got 03 08 00 00",
    ),
    "dtype": (
        b"\0\0\x07" + GOOD[3:],
        "expected a dtype of 0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e, got 0x07 at byte 2",
    ),
    "no axes": (b"\0\0\x08\0", "expected 1 to 8 axes, got 0 at byte 3"),
    "axes": (b"\0\0\x08\xff" + GOOD[4:], "expected 1 to 8 axes, got 255 at byte 3"),
    "header": (GOOD[:14], "expected 3 sizes in the header, got its end at byte 14"),
    "truncated": (
        GOOD[:-1],
        "expected shape (4, 3, 2) and 24 bytes from byte 16 on, got 23 bytes",
    ),
    "no data": (GOOD[:16], "expected shape (4, 3, 2) and 24 bytes from byte 16 on, got 0 bytes"),
    "trailing": (
        GOOD + b"\0",
        "expected shape (4, 3, 2) and 24 bytes from byte 16 on, got 25 bytes",
    ),
    "huge": (
        HUGE,
        "expected shape (4294967295, 4294967295, 4294967295) and "
        f"{(2**32 - 1) ** 3} bytes from byte 16 on, got 0 bytes",
    ),
    "too few for the dtype": (
        b"\0\0\x0e\x03" + GOOD[4:],
        "expected shape (4, 3, 2) and 192 bytes from byte 16 on, got 24 bytes",
    ),
    "no images": (
        idx(np.zeros((0, 3, 2))),
        "expected x of shape (n, features) or (n, channels, height, width), not empty, got "
        "(0, 1, 3, 2)",
    ),
    "labels alone": (
        idx(np.zeros(5)),
        "expected x of shape (n, features) or (n, channels, height, width), not empty, got (5,)",
    ),
    "NaN": (
        idx(np.array([[0.0, np.nan]]), ">f4"),
        "expected finite numbers, got nan in x at row 0, column 1; to fill it: "
        "data.impute=median, missing=True",
    ),
}


@pytest.mark.parametrize("case", IDX)
def test_idx(tmp_path, case):
    content, message = IDX[case]
    refuses(write(tmp_path / "d.idx", content), f"{{path}}: {message}")


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_idx_truncated_anywhere(tmp_path, at):
    path = write(tmp_path / "d.idx", GOOD[:at])
    with pytest.raises(ValueError, match=r"d\.idx: expected"):
        data.load(path)


IDX_GZ = {
    "truncated inside": (
        GOOD[:-1],
        "expected shape (4, 3, 2) and 24 bytes from byte 16 on, got 23 bytes",
    ),
    "trailing inside": (
        GOOD + b"\0",
        "expected shape (4, 3, 2) and 24 bytes from byte 16 on, got more bytes",
    ),
    "huge": (
        HUGE,
        f"expected data of at most {8 << 30} bytes, got {(2**32 - 1) ** 3}",
    ),
}


@pytest.mark.parametrize("case", IDX_GZ)
def test_idx_gz(tmp_path, case):
    content, message = IDX_GZ[case]
    refuses(write(tmp_path / "d.idx.gz", content), f"{{path}}: {message}")


def test_idx_gz_refuses_bombs(tmp_path):
    content = bytes([0, 0, 8, 2]) + (1 << 12).to_bytes(4, "big") * 2 + bytes(1 << 24)
    path = write(tmp_path / "d.idx.gz", content)
    size = os.path.getsize(path)
    refuses(
        path,
        f"{{path}}: expected data compressed at most 200:1, got {1 << 24}:{size}; store it "
        "uncompressed",
    )


@pytest.mark.parametrize("garbage", [b"", b"garbage", GOOD, b"\x1f\x8b\x08"])
def test_idx_gz_garbage(tmp_path, garbage):
    path = tmp_path / "d.idx.gz"
    path.write_bytes(garbage)
    with pytest.raises(ValueError, match=r"d\.idx\.gz: expected (gzip data, got damaged|an IDX)"):
        data.load(str(path))


def test_idx_gz_truncated_anywhere(tmp_path):
    path = tmp_path / "d.idx.gz"
    write(path, GOOD)
    for size in reversed(range(os.path.getsize(path))):
        os.truncate(path, size)
        with pytest.raises(ValueError, match=r"d\.idx\.gz: expected"):
            data.load(str(path))


IDX_LABELS = {
    "count": (
        idx(np.zeros(3)),
        "expected labels of shape (4,) for train-images-idx3-ubyte, got (3,)",
    ),
    "axes": (
        idx(np.zeros((4, 1))),
        "expected labels of shape (4,) for train-images-idx3-ubyte, got (4, 1)",
    ),
    "floats": (idx(np.zeros(4), ">f4"), "expected integers as labels, got dtype float32"),
    "damaged": (
        idx(np.zeros(4))[:-1],
        "expected shape (4,) and 4 bytes from byte 8 on, got 3 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IDX_LABELS)
def test_idx_labels(tmp_path, case):
    content, message = IDX_LABELS[case]
    path = write(tmp_path / "train-images-idx3-ubyte", GOOD)
    labels = write(tmp_path / "train-labels-idx1-ubyte", content)
    refuses(path, f"{labels}: {message}")


# ---- CIFAR --------------------

RECORDS = "expected whole records of 3073 or 3074 bytes (CIFAR-10 or CIFAR-100), got"
CIFAR = {
    "empty": (b"", f"{RECORDS} 0 bytes"),
    "truncated": (cifar(3, (10,))[2][:-1], f"{RECORDS} {3 * 3073 - 1} bytes"),
    "trailing": (cifar(3, (10,))[2] + b"\0", f"{RECORDS} {3 * 3073 + 1} bytes"),
    "label": (
        cifar(2, (10,))[2] + bytes([10]) + bytes(3072),
        "expected labels below 10, got 10 at byte 6146",
    ),
    "coarse label": (bytes([20, 0]) + bytes(3072), "expected labels below 20, got 20 at byte 0"),
    "fine label": (bytes([0, 100]) + bytes(3072), "expected labels below 100, got 100 at byte 1"),
}


@pytest.mark.parametrize("case", CIFAR)
def test_cifar(tmp_path, case):
    content, message = CIFAR[case]
    refuses(write(tmp_path / "d.bin", content), f"{{path}}: {message}")


def test_cifar_folders(tmp_path):
    write(tmp_path / "data_batch_1.bin", cifar(2, (10,))[2])
    second = write(tmp_path / "data_batch_2.bin", cifar(2, (20, 100))[2])
    refuses(tmp_path, f"{second}: expected 10 classes as in data_batch_1.bin, got 100")
    names = write(tmp_path / "batches.meta.txt", b"cat\ndog\ncat\n")
    refuses(tmp_path, f"{names}: expected 10 names of classes, each once, got 2")
    write(names, b"x" * 70_000)
    refuses(tmp_path, f"{names}: expected at most 65536 bytes, got more")


# ---- folders of images --------------------


def test_images_of_other_sizes(tmp_path):
    path = folder(tmp_path / "d")
    file = path / "dog" / "0.png"
    Image.new("RGB", (6, 4)).save(file)
    refuses(path, f"{file}: expected an image of 5 x 4 pixels as the first one, got 6 x 4")


def test_no_classes(tmp_path):
    (tmp_path / "d").mkdir()
    refuses(tmp_path / "d", "{path}: expected a folder for each class, found none")


def test_a_class_without_images(tmp_path):
    path = folder(tmp_path / "d")
    (path / "empty").mkdir()
    (path / "empty" / ".keep").write_text("")
    refuses(path, f"{path / 'empty'}: expected images of the class, found none")


def test_files_that_are_no_classes_or_images(tmp_path):
    path = folder(tmp_path / "d")
    (path / "cat" / "notes.txt").write_text("")
    refuses(
        path,
        f"{path / 'cat' / 'notes.txt'}: expected an image (.bmp, .jpeg, .jpg, .pgm, .png, .ppm, "
        ".webp), found another file",
    )
    os.remove(path / "cat" / "notes.txt")
    (path / "0.png").write_bytes(b"")
    refuses(path, f"{path / '0.png'}: expected a folder for each class, found a file")


def test_pipes_in_a_folder(tmp_path):
    path = folder(tmp_path / "d")
    os.mkfifo(path / "cat" / "pipe.png")
    refuses(
        path,
        f"{path / 'cat' / 'pipe.png'}: expected a regular file, found another kind of entry",
    )


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(20)])
def test_images_that_are_none(tmp_path, content):
    path = folder(tmp_path / "d")
    (path / "dog" / "1.png").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"1\.png: expected an image \(BMP, JPEG, PNG, PPM, WEBP\), "
    ):
        data.load(str(path))


def test_truncated_images(tmp_path):
    path = folder(tmp_path / "d", size=(40, 30))
    file = path / "dog" / "1.png"
    whole = file.read_bytes()
    for size in range(0, len(whole) - 12, 97):  # the last 12 bytes are the end mark
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"1\.png: expected (an|a whole) image"):
            data.load(str(path))


def test_images_of_16_bits(tmp_path):
    path = folder(tmp_path / "d")
    file = path / "cat" / "0.png"
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(file)
    refuses(
        path,
        f"{file}: expected an image of 8 bits and sides up to 16384, got mode I;16 and 5 x 4 "
        "pixels",
    )


def test_images_that_claim_to_be_huge(tmp_path):
    path = folder(tmp_path / "d")
    os.remove(path / "cat" / "0.png")
    file = path / "cat" / "0.ppm"
    file.write_bytes(b"P6 20000 4 255 ")
    refuses(
        path,
        f"{file}: expected an image of 8 bits and sides up to 16384, got mode RGB and 20000 x 4 "
        "pixels",
    )
    file.write_bytes(b"P6 100000 100000 255 ")
    with pytest.raises(ValueError, match=r"0\.ppm: expected an image .*10000000000 pixels"):
        data.load(str(path))
