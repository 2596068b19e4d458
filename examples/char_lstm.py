"""A network that learns to write like a text of your choice, character by character.

    python examples/char_lstm.py shakespeare.txt
    python examples/char_lstm.py code.py --cell gru --hidden 512 --layers 2 --steps 5000
    python examples/char_lstm.py shakespeare.txt --layer-norm

The text is cut into as many streams as there are rows in a batch. Every step reads the next
``--length`` characters of each stream and starts from the state in which the step before ended: the
network remembers more than it backpropagates through (truncated backpropagation through time).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fastnn as fn
import numpy as np
from fastnn import F, nn

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
NORMALISED = {"lstm": nn.LayerNormLSTM}


class CharModel(nn.Module):
    """Embedding, recurrent layers, and a score for each character that may come next."""

    def __init__(self, cell: Any, characters: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(characters, min(hidden, 128))
        self.recurrent = cell(min(hidden, 128), hidden, layers, dropout=dropout)
        self.head = nn.Linear(hidden, characters)

    def forward(self, index: Any, state: Any) -> tuple[Any, Any]:
        """Logits (steps * batch, characters), and the state after the last step."""
        output, state = self.recurrent(self.embedding(index), state)
        return self.head(output.reshape(-1, output.shape[-1])), state

    def zero_state(self, batch: int) -> Any:
        """The state before a text begins."""
        shape = self.recurrent.num_layers, batch, self.recurrent.hidden_size
        states = [fn.zeros(*shape) for _ in self.recurrent.states]
        return states[0] if len(states) == 1 else tuple(states)


def as_tuple(state: Any) -> tuple[Any, ...]:
    """LSTM has two states, the others one."""
    return state if isinstance(state, tuple) else (state,)


def streams(
    text: np.ndarray[Any, Any], batch: int, length: int
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], bool]]:
    """(characters, the next ones, whether the text begins anew), each (length, batch), forever."""
    size = (len(text) - 1) // batch
    if size < length:
        raise SystemExit(
            f"char_lstm: expected at least {batch * length + 1} characters for --batch {batch} and "
            f"--length {length}, got {len(text)}"
        )
    x = text[: batch * size].reshape(batch, size).T
    y = text[1 : batch * size + 1].reshape(batch, size).T
    while True:
        for start in range(0, size - length + 1, length):
            part = slice(start, start + length)
            yield np.ascontiguousarray(x[part]), np.ascontiguousarray(y[part]), start == 0


def make_step(model: CharModel, optimizer: Any, clip: float) -> Any:
    """One training step as one native call."""

    def step(x: Any, y: Any, *state: Any) -> tuple[Any, ...]:
        optimizer.zero_grad()
        logits, last = model(x, state[0] if len(state) == 1 else state)
        loss = F.cross_entropy(logits, y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss.detach(), *(s.detach() for s in as_tuple(last))

    return fn.capture(step)


def train(model: CharModel, text: np.ndarray[Any, Any], options: argparse.Namespace) -> list[float]:
    """Train, print progress, and return the loss of each step in bits per character."""
    optimizer = fn.optim.Adam(model.parameters(), lr=options.lr)
    step = make_step(model, optimizer, options.clip)
    zero = as_tuple(model.zero_state(options.batch))
    state, bits, start = zero, [], time.perf_counter()
    batches = streams(text, options.batch, options.length)
    for i in range(1, options.steps + 1):
        x, y, begins = next(batches)
        loss, *state = step(x, y, *(zero if begins else state))
        bits.append(loss.item() / np.log(2))
        if i % options.every == 0 or i == options.steps:
            recent = bits[-options.every :]
            speed = i * options.batch * options.length / (time.perf_counter() - start)
            print(
                f"step {i:6,} of {options.steps:,}  {np.mean(recent):.3f} bits per character  "
                f"{speed:,.0f} characters/s",
                flush=True,
            )
    return bits


def write(model: CharModel, first: int, count: int, temperature: float, seed: int) -> list[int]:
    """Draw characters one after the other, each from what the network expects next."""
    rng = np.random.default_rng(seed)
    model.eval()
    state, index, written = model.zero_state(1), first, []
    with fn.no_grad():
        for _ in range(count):
            logits, state = model(np.array([[index]]), state)
            p = F.softmax(logits * (1 / temperature), -1).numpy()[0].astype(np.float64)
            index = int(rng.choice(len(p), p=p / p.sum()))
            written.append(index)
    model.train()
    return written


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument(
        "--layer-norm", action="store_true", help="normalise the gates and the cell of an LSTM"
    )
    parser.add_argument("--hidden", type=int, default=256, help="size of the state")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.0, help="between layers")
    parser.add_argument("--batch", type=int, default=32, help="streams side by side")
    parser.add_argument("--length", type=int, default=64, help="characters per step and stream")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient")
    parser.add_argument("--every", type=int, default=100, help="steps between lines of progress")
    parser.add_argument("--sample", type=int, default=400, help="characters to write at the end")
    parser.add_argument("--temperature", type=float, default=0.8, help="lower: more careful")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.layer_norm and options.cell not in NORMALISED:
        parser.error(f"--layer-norm: expected --cell lstm, got {options.cell}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train on the text, then write."""
    options = parse(arguments)
    text, alphabet = fn.data.load_text(str(options.text))
    fn.manual_seed(options.seed)
    cell = (NORMALISED if options.layer_norm else CELLS)[options.cell]
    model = CharModel(cell, len(alphabet), options.hidden, options.layers, options.dropout)
    print(f"{len(text):,} characters, {len(alphabet)} different; {cell.__name__} with "
          f"{model.num_parameters():,} parameters")  # fmt: skip
    train(model, text, options)
    first = max(0, alphabet.find("\n"))
    written = write(model, first, options.sample, options.temperature, options.seed)
    print("-" * 72 + "\n" + "".join(alphabet[i] for i in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
