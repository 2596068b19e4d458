"""Stages of tools/gpu_check.py that measure: each takes its Run, and notes case by case."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np

from bench.gpu.maker import Case, Maker
from bench.gpu.timing import interleaved


def timed(run: Any, case: Case, maker: Maker, bandwidth: float | None) -> dict[str, Any]:
    """One case and its peers, in turn."""
    ways = case.make()
    few = {"rounds": 2, "seconds": 0.0} if run.fake else {}
    times = interleaved(ways, maker.wait, **few)
    us = times.us("fastnn")
    record: dict[str, Any] = {
        "goal": case.goal,
        "title": case.title,
        "fastnn_us": us,
        "peers": {name: times.us(name) for name in ways if name != "fastnn"},
        "spread": max(times.spread(name) for name in ways),
    }
    if case.bytes and bandwidth:
        record |= {"bytes": case.bytes, "pct_C": 100 * case.bytes / (1e3 * us) / bandwidth}
    if case.flops:
        record |= {"flops": case.flops, "tflop_s": 1e-6 * case.flops / us}
    return record


def bench(run: Any) -> None:
    """Every case of bench/gpu/cases.py, and the bandwidth of a copy (C) first."""
    import fastnn as fn

    from bench.gpu.cases import all_cases

    maker = Maker(run.fake)
    n = maker.size(1 << 30, 1 << 10)

    def copy() -> dict[str, Any]:
        x = fn.tensor(np.zeros(n, np.float32), device="cuda")
        y = x.clone()
        us = interleaved({"copy": lambda: y.copy_(x)}, maker.wait).us("copy")
        return {"bytes": 8 * n, "copy_gb_s": 8e-3 * n / us}

    bandwidth = run.case("copy", copy).get("copy_gb_s")
    for case in all_cases(maker):
        run.case(f"bench {case.title}", lambda case=case: timed(run, case, maker, bandwidth))


def products(run: Any) -> None:
    """Products of matrices by wgmma kernels, cuBLASLt and own tiles; the table of the fastest."""
    import fastnn as fn

    from bench.gpu.products import layer_cases, measured_lines, product_cases

    maker = Maker(run.fake)
    for case in (*product_cases(maker), *layer_cases(maker)):
        run.case(f"products {case.title}", lambda case=case: timed(run, case, maker, None))
    fn.cuda.set_product_path("auto")
    fn.set_float32_matmul_precision("highest")
    lines = measured_lines(run.records)
    (run.out / "measured.txt").write_text("".join(line + "\n" for line in lines))
    run.case("products by path", lambda: {"refused": fn.cuda.info()["refused"], "lines": lines})


def recurrent(run: Any) -> None:
    """Recurrent layers by clusters and by steps. Last: it is the kernel that could never end."""
    import fastnn as fn

    from bench.gpu.recurrent import recurrent_cases

    maker = Maker(run.fake)
    for case in recurrent_cases(maker):
        run.case(f"recurrent {case.title}", lambda case=case: timed(run, case, maker, None))
    fn.cuda.set_recurrent_path("auto")
    fn.set_float32_matmul_precision("highest")
    run.case("recurrent by path", lambda: {"refused": fn.cuda.info()["refused"]})


# A process that uses device 1 alone; of the driver: which devices have a context.
_ONE_DEVICE = """
import ctypes, json, os, sys
import fastnn as fn

def contexts():
    if sys.argv[1] == "fake":
        return ctypes.CDLL(os.environ["FASTNN_CUDA_LIBRARY"]).fastnn_emulator_contexts()
    driver, found = ctypes.CDLL("libcuda.so.1"), 0
    for device in range(fn.cuda.device_count()):
        flags, active = ctypes.c_uint(), ctypes.c_int()
        driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
        found |= bool(active.value) << device
    return found

model = fn.nn.Linear(20, 3).to("cuda:1")
model(fn.ones(4, 20, device="cuda:1")).sum().backward()
assert contexts() == 2, f"expected a context on device 1 alone, got those of {contexts():b}"
"""


def fitted(device: str) -> Any:
    """Weights after a few recorded steps."""
    import fastnn as fn

    fn.manual_seed(0)
    net = fn.nn.Sequential(
        fn.nn.Linear(20, 33), fn.nn.GELU(), fn.nn.Dropout(0.2), fn.nn.Linear(33, 3)
    )
    net.to(device)
    x = np.cos(np.arange(70 * 20, dtype=np.float32)).reshape(70, 20)
    trainer = fn.Trainer(net, fn.nn.CrossEntropyLoss(), fn.optim.Adam(net.parameters()))
    trainer.fit(x, np.arange(70) % 3, batch_size=16, epochs=3, verbose=0)
    return np.concatenate([np.array(p.detach().to("cpu")).ravel() for p in net.parameters()])


def devices(run: Any) -> None:
    """Whether two devices agree, and what using one does to the other."""
    import fastnn as fn

    if fn.cuda.device_count() < 2:
        run.case("devices", lambda: {"skipped": "there is one device"})
        return

    def same() -> dict[str, Any]:
        if fitted("cuda:0").tobytes() != fitted("cuda:1").tobytes():
            raise RuntimeError("a fit on cuda:1 has other bits than one on cuda:0")
        return {"same_fit": True}

    def alone() -> dict[str, Any]:
        command = [sys.executable, "-c", _ONE_DEVICE, "fake" if run.fake else "real"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return {"contexts": "of device 1 alone"}

    def left_alone() -> dict[str, Any]:
        try:
            import torch
        except ImportError:
            return {"skipped": "there is no torch"}
        if torch.cuda.device_count() < 2:
            return {"skipped": "torch has no two devices"}
        for mine, other in ((0, 1), (1, 0)):
            torch.cuda.set_device(mine)
            fn.ones(3, device=f"cuda:{other}").to("cpu")
            if torch.cuda.current_device() != mine:
                raise RuntimeError(f"torch's current device was {mine}, and is not any more")
        torch.cuda.set_device(0)
        return {"current_device": "as torch had set it"}

    def copy(source: str, target: str) -> dict[str, Any]:
        n = Maker(run.fake).size(1 << 26, 1 << 10)
        host = np.arange(n, dtype=np.float32)
        x, y = fn.tensor(host, device=source), fn.zeros(n, device=target)
        flag = fn.zeros(1, device=target)
        few = {"rounds": 2, "seconds": 0.0} if run.fake else {}
        us = interleaved({"copy": lambda: y.copy_(x)}, lambda: flag.to("cpu"), **few).us("copy")
        if np.array(y.to("cpu")).tobytes() != host.tobytes():
            raise RuntimeError(f"a copy from {source} to {target} has other bits")
        return {"bytes": 4 * n, "gb_s": 4e-3 * n / us}

    run.case("devices agree", same)
    run.case("devices contexts", alone)
    run.case("devices torch", left_alone)
    for way in (("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")):
        run.case(f"devices copy {way[0]} {way[1]}", lambda way=way: copy(*way))
