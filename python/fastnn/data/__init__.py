"""Data for training: where it comes from, how it is split, how it is preprocessed."""

from fastnn.data import augment
from fastnn.data.dataset import Dataset
from fastnn.data.digits import load_digits
from fastnn.data.images import ImageFolder
from fastnn.data.loader import Loader
from fastnn.data.preprocessing import (
    PCA,
    ZCA,
    ColumnTransformer,
    GaussianImputer,
    ImageNormalizer,
    LabelEncoder,
    MinMaxScaler,
    OneHotEncoder,
    Pipeline,
    RunningStatistics,
    SimpleImputer,
    StandardScaler,
    Transform,
)
from fastnn.data.sources import (
    load,
    load_cifar,
    load_idx,
    load_npy,
    load_npz,
    load_pairs,
)
from fastnn.data.split import stratified_split
from fastnn.data.stream import stream_csv
from fastnn.data.summary import image_grid, summarize
from fastnn.data.tables import load_csv, load_frame, load_table
from fastnn.data.text import load_text

__all__ = [
    "PCA",
    "ZCA",
    "ColumnTransformer",
    "Dataset",
    "GaussianImputer",
    "ImageFolder",
    "ImageNormalizer",
    "LabelEncoder",
    "Loader",
    "MinMaxScaler",
    "OneHotEncoder",
    "Pipeline",
    "RunningStatistics",
    "SimpleImputer",
    "StandardScaler",
    "Transform",
    "augment",
    "image_grid",
    "load",
    "load_cifar",
    "load_csv",
    "load_digits",
    "load_frame",
    "load_idx",
    "load_npy",
    "load_npz",
    "load_pairs",
    "load_table",
    "load_text",
    "stratified_split",
    "stream_csv",
    "summarize",
]
