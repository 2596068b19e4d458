"""Preprocessing: fitted on the training data, kept with the model, repeated on everything else.

scikit-learn's names, arguments and fitted attributes (``mean_``), in NumPy and float64. A transform
is fitted once: a second ``fit`` raises, so test data cannot slip into what was learned from the
training data. What was fitted is a few arrays (``state_dict``), and a checkpoint holds them.
"""

from fastnn.data.preprocessing.base import Transform
from fastnn.data.preprocessing.decorrelate import PCA, ZCA
from fastnn.data.preprocessing.encode import LabelEncoder, OneHotEncoder
from fastnn.data.preprocessing.image import ImageNormalizer
from fastnn.data.preprocessing.missing import GaussianImputer, SimpleImputer
from fastnn.data.preprocessing.pipeline import ColumnTransformer, Pipeline
from fastnn.data.preprocessing.scale import MinMaxScaler, StandardScaler
from fastnn.data.preprocessing.statistics import RunningStatistics

__all__ = [
    "PCA",
    "ZCA",
    "ColumnTransformer",
    "GaussianImputer",
    "ImageNormalizer",
    "LabelEncoder",
    "MinMaxScaler",
    "OneHotEncoder",
    "Pipeline",
    "RunningStatistics",
    "SimpleImputer",
    "StandardScaler",
    "Transform",
]
