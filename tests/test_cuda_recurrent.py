"""Recurrent layers as one kernel of clusters, under the emulator or on a GPU: asked for, against
the oracles and against steps. The kernels' own test is tests/cpp/cuda_emulator_cluster_test.cc.
Kernels: sequence_fwd, sequence_bwd."""

import fastnn as fn
import numpy as np
import pytest
from cuda_helpers import emulated, info
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.harness import check
from recurrent_helpers import make, normal
from test_cuda import ON_CUDA, run_on_cuda

pytestmark = pytest.mark.gpu
RECURRENT = [op for op in ON_CUDA if op.family == "recurrent"]
KINDS = [
    pytest.param(nn.RNN, {}, id="rnn"),
    pytest.param(nn.LSTM, {"num_layers": 2}, id="lstm"),
    pytest.param(nn.GRU, {"bidirectional": True}, id="gru"),
]
WORK = """
import json, numpy as np, fastnn as fn
from fastnn import nn
fn.cuda.set_recurrent_path({path!r})
for kind, width in ((nn.LSTM, 7), (nn.GRU, 40), (nn.RNN, 7), (nn.LSTM, {wide})):
    layer = kind(3, width).to("cuda")
    x = fn.tensor(np.ones((4, 5, 3), np.float32), device="cuda", requires_grad=True)
    layer(x)[0].sum().backward()
print(json.dumps(fn.cuda.info()))
"""


@pytest.fixture
def clusters():
    if not fn.cuda.is_available():
        pytest.skip(f"no CUDA: {fn.cuda.why_unavailable()}")
    if reason := fn.cuda.info()["clusters_reason"]:
        pytest.skip(reason)
    before = fn.cuda.info()["sequences_by_clusters"]
    fn.cuda.set_recurrent_path("clusters")
    yield lambda: fn.cuda.info()["sequences_by_clusters"] - before
    fn.cuda.set_recurrent_path("auto")


def on_cuda(kind, options, x, lengths):
    layer = make(kind, options, x.shape[2], 37).to("cuda")
    leaf = fn.tensor(x, device="cuda", requires_grad=True)
    result = layer(leaf, lengths=fn.tensor(lengths, device="cuda"))
    y, last = result[0], result[1][0] if isinstance(result[1], tuple) else result[1]
    (y.sum() + (last * last).sum()).backward()
    parts = (y.detach(), last.detach(), leaf.grad, *(p.grad for p in layer.parameters()))
    return [np.array(t.to("cpu")) for t in parts]


@pytest.mark.parametrize("op", RECURRENT, ids=lambda op: op.short)
def test_oracle(op, clusters):
    for shapes, params in op.cases:
        sample = op.sample(shapes, params, "float32")
        check(op, sample, run_on_cuda(op, sample))
    assert clusters() > 0 or op.short in ("layer_norm_lstm",)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_same_as_by_steps(kind, options, clusters):
    x, lengths = normal(6, 5, 4), np.array([6, 0, 2, 5, 1])
    got = on_cuda(kind, options, x, lengths)
    again = on_cuda(kind, options, x, lengths)
    assert clusters() == 2 * 2 * (1 if kind is nn.RNN else 2)
    fn.cuda.set_recurrent_path("steps")
    expected = on_cuda(kind, options, x, lengths)
    for a, b, c in zip(got, again, expected, strict=True):
        assert_bitwise_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-5)
    if "emulator" in fn.cuda.device_description():
        assert_bitwise_equal(got[0], expected[0])  # products are own tiles', in the same order


def test_replayed_in_a_graph(clusters):
    layer = nn.LSTM(3, 8).to("cuda")

    def step(x):
        for p in layer.parameters():
            p.grad = None
        y = layer(x)[0]
        y.sum().backward()
        return y, layer.weight_hh_l0.grad

    x = fn.tensor(normal(5, 2, 3), device="cuda")
    expected = [np.array(t.detach().to("cpu")) for t in step(x)]
    recorded = fn.capture(step)
    for _ in range(3):
        for got, want in zip(recorded(x), expected, strict=True):
            assert_bitwise_equal(np.array(got.detach().to("cpu")), want)


def test_bfloat16_weights_at_medium_precision(clusters):
    layer = nn.LSTM(3, 20).to("cuda")
    weight = np.array(layer.weight_hh_l0.detach().to("cpu"))
    rounded = (weight.view(np.uint32) + 0x7FFF + (weight.view(np.uint32) >> 16 & 1)) & 0xFFFF0000
    x = fn.tensor(normal(1, 2, 3) * 0, device="cuda")  # so that no other product is rounded
    h, c = (fn.tensor(normal(1, 2, 20), device="cuda") for _ in range(2))
    fn.set_float32_matmul_precision("medium")
    try:
        y = layer(x, (h, c))[0]
    finally:
        fn.set_float32_matmul_precision("highest")
    layer.weight_hh_l0.copy_(fn.tensor(rounded.view(np.float32), device="cuda"))
    expected = layer(x, (h, c))[0]
    assert clusters() == 2
    got, want = (np.array(t.detach().to("cpu")) for t in (y, expected))
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)  # 16 bits of the state are multiplied


@emulated
def test_what_does_not_fit_runs_by_steps():
    found = info(WORK.format(path="clusters", wide=520))
    assert found["sequences_by_clusters"] == 6
    assert found["clusters_reason"] == ""
    assert found["refused"] == [
        "clusters: lstm backward, float32 of width 520: does not fit a cluster",
        "clusters: lstm, float32 of width 520: does not fit a cluster",
    ]


@emulated
def test_those_that_are_wrong_are_refused():
    found = info(WORK.format(path="clusters", wide=7), FASTNN_EMULATOR_CLUSTERS="wrong")
    assert found["sequences_by_clusters"] == 0
    assert "clusters: lstm, float32, 1 blocks: a wrong result in its check" in found["refused"]
    assert len(found["refused"]) == 6


@emulated
@pytest.mark.parametrize("path", ["auto", "steps"])
def test_they_are_not_asked_for_by_default(path):
    found = info(WORK.format(path=path, wide=7))
    assert found["sequences_by_clusters"] == 0
    assert found["refused"] == []


def test_a_path_that_is_none():
    message = "cuda.set_recurrent_path: expected one of auto, steps, clusters, got 'fastest'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fn.cuda.set_recurrent_path("fastest")
