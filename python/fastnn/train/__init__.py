"""Training: the Trainer, its callbacks, checkpoints, history and report."""

from fastnn.train.callbacks import Callback, CSVLogger, JSONLogger, ModelCheckpoint
from fastnn.train.checkpoint import load_model, save_model
from fastnn.train.files import CheckpointError
from fastnn.train.history import History
from fastnn.train.trainer import Trainer

__all__ = [
    "CSVLogger",
    "Callback",
    "CheckpointError",
    "History",
    "JSONLogger",
    "ModelCheckpoint",
    "Trainer",
    "load_model",
    "save_model",
]
