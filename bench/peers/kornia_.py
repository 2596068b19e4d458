"""kornia on torch: whole batches of floats, as its own modules do it."""

from __future__ import annotations

import os
from typing import Any

import kornia
import torch
from kornia import augmentation as K
from worker import serve

torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
_MEAN, _STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def describe() -> dict[str, Any]:
    return {"version": kornia.__version__, "setting": f"torch {torch.__version__}"}


def variants(case: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if case["kind"] != "augment":
        return {}
    size = case["params"]["size"]
    normalize = K.Normalize(torch.tensor(_MEAN), torch.tensor(_STD))
    flip = K.RandomHorizontalFlip()
    if case["op"] == "cifar":
        first = [K.RandomCrop((size, size), padding=4), flip]
    else:
        part = K.RandomResizedCrop((size, size), scale=(0.3, 0.9), ratio=(1.0, 1.0))
        first = [part, flip, K.ColorJitter(0.4, 0.4, 0.4, 0.0, p=1.0)]
    pipeline = torch.nn.Sequential(*first, normalize)
    bytes_, floats = torch.from_numpy(arrays["x0"]), torch.from_numpy(arrays["x0"]).float() / 255

    def run(x: Any) -> Any:
        with torch.no_grad():
            return pipeline(x)

    return {
        "from uint8": lambda: run(bytes_.float() / 255),
        "from float32": lambda: run(floats),
    }


if __name__ == "__main__":
    serve(variants, describe)
