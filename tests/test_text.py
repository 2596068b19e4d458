"""Plain text as indices of characters; damaged files and alphabets that do not fit."""

import numpy as np
import pytest
from fastnn import data
from source_helpers import write

TEXT = "Wie schön,\r\nsagt 猫 🐈.\n"


def test_indices_spell_the_text(tmp_path):
    path = write(tmp_path / "a.txt", TEXT.encode())
    indices, alphabet = data.load_text(path)
    assert indices.dtype == np.int64
    assert "".join(alphabet[i] for i in indices) == TEXT
    assert list(alphabet) == sorted(set(TEXT))
    marked = data.load_text(write(tmp_path / "b.txt", b"\xef\xbb\xbf" + TEXT.encode()))
    np.testing.assert_array_equal(marked[0], indices)


def test_another_text_takes_the_first_ones_alphabet(tmp_path):
    path = write(tmp_path / "a.txt", b"cab")
    indices, alphabet = data.load_text(path, "xcba")
    assert (indices.tolist(), alphabet) == ([1, 3, 2], "xcba")


@pytest.mark.parametrize(
    ("content", "alphabet", "message"),
    [
        (b"", None, "{path}: expected a text, got an empty file"),
        (b"\xef\xbb\xbf", None, "{path}: expected a text, got an empty file"),
        (b"ab\ncd\xff", None, "{path}: expected UTF-8, got byte 0xff in line 2"),
        (b"a\xe2\x82", None, "{path}: expected UTF-8, got byte 0xe2 in line 1"),
        (b"\xed\xa0\x80", None, "{path}: expected UTF-8, got byte 0xed in line 1"),
        (
            b"ab\nca",
            "ab\n",
            "{path}: expected characters of the alphabet, got 'c' in line 2, column 1",
        ),
        (
            b"ab\x1b[2J",
            "ab",
            "{path}: expected characters of the alphabet, got '\\x1b' in line 1, column 3",
        ),
        (b"a", "aa", "load_text: expected an alphabet with each character once, at least one"),
        (b"a", "", "load_text: expected an alphabet with each character once, at least one"),
    ],
)
def test_errors(tmp_path, content, alphabet, message):
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(ValueError, match=r".") as error:
        data.load_text(path, alphabet)
    assert str(error.value) == message.format(path=path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        data.load_text(str(tmp_path / "none.txt"))
    assert str(error.value) == f"{tmp_path / 'none.txt'}: expected a file, found nothing there"
    with pytest.raises(ValueError, match="expected a regular file"):
        data.load_text(str(tmp_path))
