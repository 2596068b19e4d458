"""Images changed at random while a model trains: torchvision's names, kernels of our own."""

from fastnn.data.augment.base import Augmentation
from fastnn.data.augment.colour import (
    ColorJitter,
    GaussianNoise,
    PCALighting,
    RandomAdjustSharpness,
    RandomAutocontrast,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from fastnn.data.augment.compose import Compose, Lambda, RandomApply, RandomChoice, RandomOrder
from fastnn.data.augment.convert import Normalize, ToDtype
from fastnn.data.augment.erase import Cutout, RandomErasing
from fastnn.data.augment.geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomScaleCrop,
    RandomVerticalFlip,
    Resize,
)
from fastnn.data.augment.mix import CutMix, MixUp
from fastnn.data.augment.policy import AutoAugment, RandAugment, TrivialAugmentWide
from fastnn.data.augment.views import average_views, ten_crop
from fastnn.data.augment.warp import RandomAffine, RandomLensDistortion, RandomRotation

__all__ = [
    "Augmentation",
    "AutoAugment",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Cutout",
    "GaussianNoise",
    "Lambda",
    "MixUp",
    "Normalize",
    "PCALighting",
    "Pad",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChoice",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomLensDistortion",
    "RandomOrder",
    "RandomPosterize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomScaleCrop",
    "RandomSolarize",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "TrivialAugmentWide",
    "average_views",
    "ten_crop",
]
