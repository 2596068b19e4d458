"""Data for training: where it comes from, how it is split, how it is scaled."""

from fastnn.data.scaling import Scaling
from fastnn.data.sources import Dataset, load, load_csv, load_digits, load_npz
from fastnn.data.split import stratified_split

__all__ = [
    "Dataset",
    "Scaling",
    "load",
    "load_csv",
    "load_digits",
    "load_npz",
    "stratified_split",
]
