"""A folder of images, a folder inside for each class; Pillow decodes them when asked for."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from fastnn.data.dataset import Dataset, check_file, check_unpacked, of_images, shown, stem
from fastnn.data.preprocessing.encode import encode

__all__ = ["ImageFolder"]

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits for each channel
_MAX_SIDE = 16_384


class ImageFolder:
    """Images of one size, FOLDER/CLASS/NAME.png, and their classes; a sequence that reads lazily.

    Files whose names begin with a dot are left out. All images become grey or all RGB.

    Args:
        path: The folder.
        mode: ``"L"`` or ``"RGB"``; default: grey if the first image is.

    Attributes:
        paths: The images, by class and name.
        y: int64 indices into classes, shape (n,).
        classes: Names of the folders, sorted (as numbers, if all are integers).
        shape: (channels, height, width), those of the first image.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no folders of classes, a folder has no images, or something else is in
            there; when an image is asked for, if it is damaged or has another size.
        ModuleNotFoundError: If Pillow is not installed.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from fastnn.data import ImageFolder
        >>> folder = tempfile.mkdtemp()
        >>> for name, grey in (("dark", 0), ("light", 255)):
        ...     os.mkdir(os.path.join(folder, name))
        ...     Image.new("L", (4, 3), grey).save(os.path.join(folder, name, "0.png"))
        >>> images = ImageFolder(folder)
        >>> images.classes, images.shape, images[1].max()
        (('dark', 'light'), (1, 3, 4), np.uint8(255))
        >>> images.load().x.shape
        (2, 12)
    """

    def __init__(self, path: str, mode: str | None = None) -> None:
        if mode not in (None, "L", "RGB"):
            raise ValueError(f"ImageFolder: expected mode 'L' or 'RGB', got {str(mode)[:80]!r}")
        self.path = path
        self._pillow = _pillow()
        bomb = self._pillow.DecompressionBombError
        self._damage = (OSError, SyntaxError, ValueError, EOFError, Warning, bomb)
        labels: list[str] = []
        self.paths: list[str] = []
        for name in _entries(path):
            folder = os.path.join(path, name)
            if not os.path.isdir(folder):
                raise ValueError(f"{folder}: expected a folder for each class, found a file")
            found = _entries(folder)
            if not found:
                raise ValueError(f"{folder}: expected images of the class, found none")
            for file in found:
                full = os.path.join(folder, file)
                if not file.lower().endswith(_EXTENSIONS):
                    kinds = ", ".join(_EXTENSIONS)
                    raise ValueError(f"{full}: expected an image ({kinds}), found another file")
                check_file(full)
                self.paths.append(full)
                labels.append(name)
        if not self.paths:
            raise ValueError(f"{path}: expected a folder for each class, found none")
        self.y, self.classes = encode(np.array(labels))
        with self._open(self.paths[0]) as first:
            self.mode = mode or ("L" if first.mode in ("1", "L", "LA") else "RGB")
            self.shape = (1 if self.mode == "L" else 3, first.size[1], first.size[0])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """An image, uint8 of shape (channels, height, width)."""
        path = self.paths[index]
        with self._open(path) as image:
            height, width = self.shape[1:]
            if image.size != (width, height):
                raise ValueError(
                    f"{path}: expected an image of {width} x {height} pixels as the first one, got "
                    f"{image.size[0]} x {image.size[1]}"
                )
            try:
                pixels = np.asarray(image.convert(self.mode), np.uint8)
            except self._damage as error:
                raise ValueError(
                    f"{path}: expected a whole image, got a damaged one: {shown(str(error))}"
                ) from None
        return np.ascontiguousarray(pixels.reshape(height, width, -1).transpose(2, 0, 1))

    def load(self) -> Dataset:
        """All of them in memory, flattened."""
        check_unpacked(self.path, "images", len(self) * int(np.prod(self.shape)), 1 << 60)
        images = np.empty((len(self), *self.shape), np.uint8)
        for i in range(len(self)):
            images[i] = self[i]
        return of_images(stem(self.path), images, self.y, self.classes)

    def _open(self, path: str) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of bombs
                image = self._pillow.open(path, formats=_FORMATS)
        except self._damage as error:
            what, kinds = shown(str(error).replace(path, "it")), ", ".join(_FORMATS)
            raise ValueError(
                f"{path}: expected an image ({kinds}), got a damaged one: {what}"
            ) from None
        if image.mode not in _MODES or max(image.size) > _MAX_SIDE:
            width, height = image.size
            image.close()
            raise ValueError(
                f"{path}: expected an image of 8 bits and sides up to {_MAX_SIDE}, got mode "
                f"{image.mode} and {width} x {height} pixels"
            )
        return image


def _entries(folder: str) -> list[str]:
    """The names in a folder, sorted, without those that begin with a dot."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{folder}: expected a folder, found none there") from None


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "data: folders of images need Pillow; install it with: pip install 'fastnn[image]'"
        ) from None
    return Image
