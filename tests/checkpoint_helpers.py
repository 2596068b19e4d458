"""What the tests of checkpoints share: data, a trainer, and every bit of its state."""

import fastnn as fn
import numpy as np
from fastnn import nn, optim

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(70, 4)).astype(np.float32), RNG.integers(0, 3, 70)


def make(optimizer=optim.Adam, hidden=8, **options):
    fn.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(4, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden, 3)
    )
    return fn.Trainer(
        model, nn.CrossEntropyLoss(), optimizer(model.parameters(), lr=0.01, **options)
    )


def bits(trainer):
    state = trainer.optimizer.state_dict()
    slots = {
        (i, k): np.asarray(v).tobytes()
        for i, slot in state["state"].items()
        for k, v in slot.items()
    }
    values = [v.numpy().tobytes() for v in trainer.model.state_dict().values()]
    return values, slots, state["param_groups"], fn.random.get_state()["dropout"]
