"""The stage "streams" of tools/gpu_check.py: work on streams of others, and in their graphs. Has it
the same bits, and what does a switch, or an array that comes in, cost the host?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.gpu.stages import fitted
from bench.gpu.timing import interleaved


def fitted_on(stream: Any) -> bytes:
    """The weights after a fit whose work goes to a stream."""
    import fastnn as fn

    with fn.cuda.stream(stream):
        return fitted("cuda").tobytes()


def torch_with_gpu() -> Any:
    """torch, or None where it has no GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def agree() -> dict[str, Any]:
    want, torch = fitted_on(None), torch_with_gpu()
    others = {"legacy": 0, **({"torch": torch.cuda.Stream()} if torch else {})}
    wrong = [name for name, on in others.items() if fitted_on(on) != want]
    if wrong:
        raise RuntimeError(f"a fit has other bits on the stream of {', '.join(wrong)}")
    return {"same_fit": sorted(others)}


def in_graph() -> dict[str, Any]:
    """A softmax in a graph of torch's, whose input changes between two replays."""
    import fastnn as fn

    torch = torch_with_gpu()
    if torch is None:
        return {"skipped": "torch has no GPU"}
    x, y = torch.randn(64, 100, device="cuda"), torch.zeros(64, 100, device="cuda")

    def step() -> None:
        with fn.cuda.stream(torch.cuda.current_stream()):
            fn.from_dlpack(y).copy_(fn.F.softmax(fn.from_dlpack(x)))

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(3):
        x.normal_()
        graph.replay()
        torch.testing.assert_close(y, torch.softmax(x, -1))
    return {"replays": 3}


def costs(fake: bool) -> dict[str, Any]:
    """Of the host, in microseconds."""
    import fastnn as fn

    x = fn.ones(8, device="cuda")

    def switched() -> None:
        with fn.cuda.stream(0):
            pass

    ways: dict[str, Callable[[], Any]] = {
        "switch": switched,
        "relu": lambda: fn.F.relu(x),
        "export": lambda: x.__dlpack__(stream=1, max_version=(1, 3)),
    }
    if torch := torch_with_gpu():
        theirs = torch.ones(8, device="cuda")
        ways["relu of torch's"] = lambda: fn.F.relu(theirs)
        ways["torch relu"] = lambda: torch.relu(theirs)
    few = {"rounds": 2, "seconds": 0.0} if fake else {}
    times = interleaved(ways, fn.cuda.current_stream().synchronize, **few)
    return {f"{name} us": times.us(name) for name in ways}


def streams(run: Any) -> None:
    """Other libraries' streams and graphs."""
    run.case("streams agree", agree)
    run.case("streams torch graph", in_graph)
    run.case("streams costs", lambda: costs(run.fake))
