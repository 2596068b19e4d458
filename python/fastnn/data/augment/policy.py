"""Policies found by search: AutoAugment, RandAugment, TrivialAugment, over the same changes."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastnn.data.augment.base import Augmentation, Frame, operation
from fastnn.data.augment.compose import choose
from fastnn.data.augment.warp import interpolation_flag

__all__ = ["AutoAugment", "RandAugment", "TrivialAugmentWide"]

# Two changes a line: name, probability, magnitude of 0 to 9 (Cubuk et al. 2019, tables of the
# appendix).
_POLICIES = {
    "imagenet": """
        Posterize .4 8, Rotate .6 9; Solarize .6 5, AutoContrast .6; Equalize .8, Equalize .6
        Posterize .6 7, Posterize .6 6; Equalize .4, Solarize .2 4; Equalize .4, Rotate .8 8
        Solarize .6 3, Equalize .6; Posterize .8 5, Equalize 1; Rotate .2 3, Solarize .6 8
        Equalize .6, Posterize .4 6; Rotate .8 8, Color .4 0; Rotate .4 9, Equalize .6
        Equalize 0, Equalize .8; Invert .6, Equalize 1; Color .6 4, Contrast 1 8
        Rotate .8 8, Color 1 2; Color .8 8, Solarize .8 7; Sharpness .4 7, Invert .6
        ShearX .6 5, Equalize 1; Color .4 0, Equalize .6; Equalize .4, Solarize .2 4
        Solarize .6 5, AutoContrast .6; Invert .6, Equalize 1; Color .6 4, Contrast 1 8
        Equalize .8, Equalize .6""",
    "cifar10": """
        Invert .1, Contrast .2 6; Rotate .7 2, TranslateX .3 9; Sharpness .8 1, Sharpness .9 3
        ShearY .5 8, TranslateY .7 9; AutoContrast .5, Equalize .9; ShearY .2 7, Posterize .3 7
        Color .4 3, Brightness .6 7; Sharpness .3 9, Brightness .7 9; Equalize .6, Equalize .5
        Contrast .6 7, Sharpness .6 5; Color .7 7, TranslateX .5 8; Equalize .3, AutoContrast .4
        TranslateY .4 3, Sharpness .2 6; Brightness .9 6, Color .2 8; Solarize .5 2, Invert 0
        Equalize .2, AutoContrast .6; Equalize .2, Equalize .6; Color .9 9, Equalize .6
        AutoContrast .8, Solarize .2 8; Brightness .1 3, Color .7 0; Solarize .4 5, AutoContrast .9
        TranslateY .9 9, TranslateY .7 9; AutoContrast .9, Solarize .8 3; Equalize .8, Invert .1
        TranslateY .7 9, AutoContrast .9""",
    "svhn": """
        ShearX .9 4, Invert .2; ShearY .9 8, Invert .7; Equalize .6, Solarize .6 6
        Invert .9, Equalize .6; Equalize .6, Rotate .9 3; ShearX .9 4, AutoContrast .8
        ShearY .9 8, Invert .4; ShearY .9 5, Solarize .2 6; Invert .9, AutoContrast .8
        Equalize .6, Rotate .9 3; ShearX .9 4, Solarize .3 3; ShearY .8 8, Invert .7
        Equalize .9, TranslateY .6 6; Invert .9, Equalize .6; Contrast .3 3, Rotate .8 4
        Invert .8, TranslateY 0 2; ShearY .7 6, Solarize .4 8; Invert .6, Rotate .8 4
        ShearY .3 7, TranslateX .9 3; ShearX .1 6, Invert .6; Solarize .7 2, TranslateY .6 7
        ShearY .8 4, Invert .8; ShearX .7 9, TranslateY .8 3; ShearY .8 5, AutoContrast .7
        ShearX .7 2, Invert .1""",
}
_NAMES = {
    "Identity": "identity",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Rotate": "rotate",
    "Brightness": "brightness",
    "Color": "saturation",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "AutoContrast": "autocontrast",
    "Equalize": "equalize",
    "Invert": "invert",
}
# Of each change: its value without a magnitude, those of the least and the greatest magnitude, and
# whether the sign is random.
_Magnitudes = dict[str, tuple[float, float, float, bool]]
_TRANSLATE = 150 / 331
_SPACE: _Magnitudes = {
    "ShearX": (0, 0, 0.3, True),
    "ShearY": (0, 0, 0.3, True),
    "TranslateX": (0, 0, _TRANSLATE, True),  # shares of the side
    "TranslateY": (0, 0, _TRANSLATE, True),
    "Rotate": (0, 0, 30, True),
    "Brightness": (1, 0, 0.9, True),
    "Color": (1, 0, 0.9, True),
    "Contrast": (1, 0, 0.9, True),
    "Sharpness": (1, 0, 0.9, True),
    "Posterize": (0, 8, 4, False),
    "Solarize": (0, 255, 0, False),
}
_WIDE: _Magnitudes = {
    "ShearX": (0, 0, 0.99, True),
    "ShearY": (0, 0, 0.99, True),
    "TranslateX": (0, 0, 32, True),  # pixels
    "TranslateY": (0, 0, 32, True),
    "Rotate": (0, 0, 135, True),
    "Brightness": (1, 0, 0.99, True),
    "Color": (1, 0, 0.99, True),
    "Contrast": (1, 0, 0.99, True),
    "Sharpness": (1, 0, 0.99, True),
    "Posterize": (0, 8, 2, False),
    "Solarize": (0, 255, 0, False),
}
_CHANGES = [name for name in _NAMES if name != "Invert"]  # of RandAugment and TrivialAugment
_SIGNED = 2


@dataclasses.dataclass(eq=False)
class _Policy(Augmentation):
    """What policies share."""

    def _change(
        self, frame: Frame, name: str, p: float, level: float | None, bins: int, space: _Magnitudes
    ) -> bytes:
        """A change of one magnitude (0 to 1), or of a random one of the bins."""
        options: Any = self
        base, low, high, signed = space.get(name, (0, 0, 0, False))
        if level is not None:
            low = high = low + (high - low) * level
        flags = interpolation_flag(type(self).__name__, options.interpolation)
        flags = (flags if name in _WARPS else 0) | (_SIGNED if signed else 0)
        shares = float(space is _SPACE)
        fill = frame.per_channel(
            type(self).__name__, "fill", 0 if options.fill is None else options.fill
        )
        values = [base, low, high, 0 if level is not None else bins, shares]
        return operation(_NAMES[name], values, p=p, flags=flags, fill=fill)


_WARPS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


@dataclasses.dataclass(eq=False)
class AutoAugment(_Policy):
    """One of 25 pairs of changes, found by a search for a data set.

    Args:
        policy: ``"imagenet"``, ``"cifar10"`` or ``"svhn"``.
        interpolation: ``"nearest"`` or ``"bilinear"``.
        fill: Outside the image: one value, or one for each channel.

    Raises:
        ValueError: For an unknown policy; for images with other than 1 or 3 channels.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.AutoAugment("cifar10")(np.zeros((2, 3, 32, 32), np.uint8)).shape
        (2, 3, 32, 32)

    Source:
        Cubuk, Zoph, Mane, Vasudevan, Le 2019, "AutoAugment: learning augmentation policies from
        data".
    """

    policy: str = "imagenet"
    interpolation: str = "nearest"
    fill: Any = None

    def __post_init__(self) -> None:
        if self.policy not in _POLICIES:
            raise ValueError(
                f"AutoAugment: expected policy of {tuple(_POLICIES)}, got {self.policy!r}"
            )
        interpolation_flag("AutoAugment", self.interpolation)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        frame.need_colours("AutoAugment")
        pairs = _POLICIES[self.policy].replace("\n", ";").split(";")
        return choose(
            [
                [self._parse(frame, change) for change in text.split(",")]
                for text in pairs
                if text.strip()
            ]
        )

    def _parse(self, frame: Frame, change: str) -> bytes:
        name, p, *magnitude = change.split()
        level = int(magnitude[0]) / 9 if magnitude else 0.0
        return self._change(frame, name, float(p), level, 10, _SPACE)


@dataclasses.dataclass(eq=False)
class RandAugment(_Policy):
    """``num_ops`` of 14 changes, any as likely, all of one magnitude.

    Args:
        num_ops: How many.
        magnitude: 0 to num_magnitude_bins - 1.
        num_magnitude_bins: See above.
        interpolation: See :class:`AutoAugment`.
        fill: See :class:`AutoAugment`.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.RandAugment()(np.zeros((2, 3, 32, 32), np.uint8)).shape
        (2, 3, 32, 32)

    Source:
        Cubuk, Zoph, Shlens, Le 2020, "RandAugment: practical automated data augmentation with a
        reduced search space".
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: Any = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_ops <= 8:
            raise ValueError(f"RandAugment: expected 1 <= num_ops <= 8, got {self.num_ops}")
        if not 0 <= self.magnitude < self.num_magnitude_bins:
            raise ValueError(
                f"RandAugment: expected 0 <= magnitude < {self.num_magnitude_bins}, got "
                f"{self.magnitude}"
            )
        interpolation_flag("RandAugment", self.interpolation)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        frame.need_colours("RandAugment")
        level = self.magnitude / max(1, self.num_magnitude_bins - 1)
        changes = [[self._change(frame, name, 1.0, level, 0, _SPACE)] for name in _CHANGES]
        return choose(changes) * self.num_ops


@dataclasses.dataclass(eq=False)
class TrivialAugmentWide(_Policy):
    """One of 14 changes, of a random magnitude.

    Args:
        num_magnitude_bins: How many magnitudes there are.
        interpolation: See :class:`AutoAugment`.
        fill: See :class:`AutoAugment`.

    Example:
        >>> import numpy as np
        >>> from fastnn.data import augment
        >>> augment.TrivialAugmentWide()(np.zeros((2, 3, 32, 32), np.uint8)).shape
        (2, 3, 32, 32)

    Source:
        Mueller, Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation".
    """

    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: Any = None

    def __post_init__(self) -> None:
        if self.num_magnitude_bins < 2:
            raise ValueError(
                "TrivialAugmentWide: expected num_magnitude_bins >= 2, got "
                f"{self.num_magnitude_bins}"
            )
        interpolation_flag("TrivialAugmentWide", self.interpolation)

    def program(self, frame: Frame) -> list[bytes]:
        """See :class:`Augmentation`."""
        frame.need_colours("TrivialAugmentWide")
        bins = self.num_magnitude_bins
        return choose([[self._change(frame, name, 1.0, None, bins, _WIDE)] for name in _CHANGES])
