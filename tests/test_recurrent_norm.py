"""The layer-normalised LSTM: what its norms are for, how they start, and the same in torch."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core, nn
from recurrent_helpers import arrays, make, normal, with_gradients


def start(**options):
    """A layer whose norms have parameters of their own, and states before the first step."""
    layer = make(nn.LayerNormLSTM, {}, 5, 6, **options)
    rng = np.random.default_rng(3)
    for name, p in layer.named_parameters():
        if name.startswith(("gain", "bias")):
            p.copy_(rng.uniform(0.5, 1.5, p.shape).astype(np.float32))
    return layer, (normal(1, 4, 6), normal(1, 4, 6))


def test_the_size_of_weights_and_inputs_does_not_matter():
    """Ba et al., table 1: invariant to the scale of either matrix; eps = 0."""
    layer, states = start(eps=0.0)
    x = normal(7, 4, 5)
    expected = arrays(layer(x, states))
    layer.weight_ih_l0.copy_(3 * np.array(layer.weight_ih_l0.detach()))
    layer.weight_hh_l0.copy_(0.2 * np.array(layer.weight_hh_l0.detach()))
    for got, e in zip(arrays(layer(7 * x, states)), expected, strict=True):
        np.testing.assert_allclose(got, e, rtol=0, atol=2e-5)


def test_a_mean_that_all_units_share_does_not_matter():
    layer, states = start(eps=0.0)
    x = normal(7, 4, 5)
    expected = arrays(layer(x, states))
    layer.weight_hh_l0.copy_(np.array(layer.weight_hh_l0.detach()) + normal(1, 6))
    for got, e in zip(arrays(layer(x, states)), expected, strict=True):
        np.testing.assert_allclose(got, e, rtol=0, atol=2e-5)


def test_norms_start_with_gains_of_one_and_biases_of_zero():
    layer = nn.LayerNormLSTM(3, 4, 2, bidirectional=True)
    norms = {k: np.array(p.detach()) for k, p in layer.named_parameters() if "weight" not in k}
    assert len(norms) == 4 * 6
    for name, value in norms.items():
        assert (value == (1 if name.startswith("gain") else 0)).all(), name
        assert value.shape == ((4,) if "_c_" in name else (16,)), name


def test_names_and_number_of_parameters():
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh", "gain_c",
             "bias_c"]  # fmt: skip
    assert list(nn.LayerNormLSTMCell(3, 4).state_dict()) == names
    without = [name for name in names if not name.startswith("bias")]
    assert list(nn.LayerNormLSTMCell(3, 4, bias=False).state_dict()) == without
    n, m = 7, 5
    assert nn.LayerNormLSTM(m, n).num_parameters() == 4 * n * (n + m) + 18 * n
    assert nn.LayerNormLSTM(m, n, bias=False).num_parameters() == 4 * n * (n + m) + 9 * n


def test_its_norms_are_not_decayed():
    groups = fn.optim.param_groups_weight_decay(nn.LayerNormLSTM(3, 4), 0.1)
    assert [len(g["params"]) for g in groups] == [2, 6]


def test_repr():
    assert repr(nn.LayerNormLSTM(3, 4, 2, eps=0.5)) == "LayerNormLSTM(3, 4, num_layers=2, eps=0.5)"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_replay_allocates_nothing(threads):
    fn.set_num_threads(threads)
    layer = make(nn.LayerNormLSTM, {}, 5, 6, num_layers=2, dropout=0.5)
    optimizer = fn.optim.Adam(layer.parameters())

    def body(x, lengths):
        optimizer.zero_grad()
        loss = layer(x, lengths=lengths)[0].sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = fn.capture(body)
    batches = [(fn.tensor(normal(7, 4, 5)), fn.tensor(np.array([7, 2, i % 8, 5])))
               for i in range(8)]  # fmt: skip
    for batch in batches[:2]:
        step(*batch)
    (recording,) = next(iter(step._recordings.values()))
    before, private = _core.memory_stats(), recording.plan.system_allocations
    for batch in batches[2:]:
        step(*batch)
    assert _core.memory_stats() == before
    assert recording.plan.system_allocations == private


# ---- torch, which has no such layer, but its parts -----------------------------------------------


def composed(torch, layer, x, state):
    """The layer made of torch's own ops, gradients by its autograd."""
    p = {k: torch.tensor(np.array(v.detach()), requires_grad=True)
         for k, v in layer.named_parameters()}  # fmt: skip
    x = torch.tensor(x, requires_grad=True)
    h, c = (torch.tensor(s[0]) for s in state)

    def norm(z, part):
        gain, bias = p[f"gain_{part}_l0"], p[f"bias_{part}_l0"]
        return torch.nn.functional.layer_norm(z, z.shape[-1:], gain, bias, layer.eps)

    outputs = []
    for step in x:
        z = norm(step @ p["weight_ih_l0"].T, "ih") + norm(h @ p["weight_hh_l0"].T, "hh")
        i, f, g, o = z.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * norm(c, "c").tanh()
        outputs.append(h)
    parts = torch.stack(outputs), h[None], c[None]
    sum((q * torch.arange(q.numel()).cos().reshape(q.shape)).sum() for q in parts).backward()
    return [*(q.detach().numpy() for q in parts), x.grad.numpy(),
            *(v.grad.numpy() for v in p.values())]  # fmt: skip


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    layer, state = start()
    x = normal(7, 4, 5)
    got = with_gradients(layer, x, hx=tuple(fn.tensor(s) for s in state))
    for value, expected in zip(got, composed(torch, layer, x, state), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=0, atol=2e-5 * scale)
