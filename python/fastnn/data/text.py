"""Plain text, as characters for a model to predict. Files are not trusted: see sources.py."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np

from fastnn.data.dataset import check_file

__all__ = ["load_text"]

Indices = np.ndarray[Any, np.dtype[np.int64]]


def load_text(path: str, alphabet: str | None = None) -> tuple[Indices, str]:
    """Load a text as indices into its alphabet.

    Args:
        path: A file in UTF-8; a byte order mark is left out, ends of lines are kept.
        alphabet: The characters of the training text, in order, for any other text of that model;
            default: those of this text, sorted.

    Returns:
        (indices, alphabet): one index for each character, int64 of shape (n,); and the alphabet,
        ``alphabet[i]`` being the character of index i.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty or not UTF-8, or has a character that is not in the alphabet;
            the message names the place. Or if the alphabet has a character twice.

    Example:
        >>> import os, tempfile
        >>> from fastnn import data
        >>> path = os.path.join(tempfile.mkdtemp(), "banana.txt")
        >>> with open(path, "w") as file:
        ...     _ = file.write("banana")
        >>> indices, alphabet = data.load_text(path)
        >>> alphabet, indices.tolist()
        ('abn', [1, 0, 2, 0, 2, 0])
    """
    check_file(path)
    with open(path, "rb") as file:
        content = file.read().removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: expected UTF-8, got byte 0x{content[error.start]:02x} in line {line}"
        ) from None
    if not text:
        raise ValueError(f"{path}: expected a text, got an empty file")
    codes = _codes(text)
    known = np.unique(codes if alphabet is None else _codes(alphabet))
    if alphabet is None:
        alphabet = "".join(map(chr, known.tolist()))
    elif not alphabet or len(known) != len(alphabet):
        raise ValueError("load_text: expected an alphabet with each character once, at least one")
    order = np.argsort(_codes(alphabet))
    places = np.searchsorted(known, codes).clip(max=len(known) - 1)
    strange = known[places] != codes
    if strange.any():
        at = int(strange.argmax())
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise ValueError(
            f"{path}: expected characters of the alphabet, got {text[at]!a} in line {line}, column "
            f"{column}"
        )
    return order[places], alphabet


def _codes(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
