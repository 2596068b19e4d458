"""Training: the Trainer, its callbacks, metrics, checkpoints, history and report."""

from fastnn.data.order import Sampler
from fastnn.train import metrics
from fastnn.train.callbacks import Callback
from fastnn.train.checkpoint import load_model, save_model
from fastnn.train.control import (
    EarlyStopping,
    LearningRateScheduler,
    ReduceLROnPlateau,
    StopAtZeroErrors,
)
from fastnn.train.diagnosis import Diagnosis, diagnose
from fastnn.train.ema import EMA
from fastnn.train.ensemble import SnapshotEnsemble, random_ensemble
from fastnn.train.files import CheckpointError, StorageError
from fastnn.train.history import History
from fastnn.train.interrupt import Terminated
from fastnn.train.last import load_last
from fastnn.train.loggers import CSVLogger, JSONLogger, TensorBoard
from fastnn.train.lr_search import lr_range_test, lr_search
from fastnn.train.mlp import forward_backward
from fastnn.train.model_checkpoint import ModelCheckpoint
from fastnn.train.monitor import Monitor
from fastnn.train.objective import ActivationPenalty, Objective, WeightPenalty
from fastnn.train.preflight import CheckReport, check
from fastnn.train.sampler import BalancedSampler, WeightedSampler
from fastnn.train.swa import SWA, update_bn
from fastnn.train.terminate import TerminateOnNaN
from fastnn.train.trainer import Trainer

__all__ = [
    "EMA",
    "SWA",
    "ActivationPenalty",
    "BalancedSampler",
    "CSVLogger",
    "Callback",
    "CheckReport",
    "CheckpointError",
    "Diagnosis",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "Monitor",
    "Objective",
    "ReduceLROnPlateau",
    "Sampler",
    "SnapshotEnsemble",
    "StopAtZeroErrors",
    "StorageError",
    "TensorBoard",
    "TerminateOnNaN",
    "Terminated",
    "Trainer",
    "WeightPenalty",
    "WeightedSampler",
    "check",
    "diagnose",
    "forward_backward",
    "load_last",
    "load_model",
    "lr_range_test",
    "lr_search",
    "metrics",
    "random_ensemble",
    "save_model",
    "update_bn",
]
