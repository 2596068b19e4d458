"""Recurrent layers: stacks, directions, lengths, states, and that all ways give the same bits."""

import fastnn as fn
import numpy as np
import pytest
from fastnn import nn
from fastnn.testing.compare import assert_bitwise_equal
from recurrent_helpers import (
    CELLS,
    EACH,
    arrays,
    assert_same,
    copy_weights,
    make,
    normal,
    states_of,
    with_gradients,
)

# ---- stacks, directions, axes --------------------------------------------------------------------


@EACH
def test_a_layer_is_its_cell_step_by_step(kind, options):
    layer = make(kind, options, 5, 7)
    cell = CELLS[kind](5, 7, **options)
    copy_weights(layer, cell, target_suffix="")
    x = normal(6, 3, 5)
    state, outputs = None, []
    for step in x:
        state = cell(step, state)
        h = state[0] if isinstance(state, tuple) else state
        outputs.append(np.array(h.detach()))
    states = state if isinstance(state, tuple) else (state,)
    expected = [np.stack(outputs), *(np.array(s.detach())[None] for s in states)]
    assert_same(arrays(layer(x)), expected)


@EACH
def test_the_backward_direction_is_the_reversed_sequence(kind, options):
    both = make(kind, options, 5, 4, bidirectional=True)
    one, other = kind(5, 4, **options), kind(5, 4, **options)
    copy_weights(both, one)
    copy_weights(both, other, "_l0_reverse")
    x = normal(6, 3, 5)
    y, *states = arrays(both(x))
    forward, backward = arrays(one(x)), arrays(other(x[::-1].copy()))
    assert_bitwise_equal(y, np.concatenate([forward[0], backward[0][::-1]], axis=2))
    for s, a, b in zip(states, forward[1:], backward[1:], strict=True):
        assert_bitwise_equal(s, np.concatenate([a, b]))


@EACH
def test_layers_are_stacked(kind, options):
    deep = make(kind, options, 5, 4, num_layers=3)
    singles = [kind(5 if i == 0 else 4, 4, **options) for i in range(3)]
    x = y = normal(6, 3, 5)
    states = []
    for i, layer in enumerate(singles):
        copy_weights(deep, layer, f"_l{i}")
        y, *last = arrays(layer(y))
        states.append(last)
    ends = [np.concatenate(s) for s in zip(*states, strict=True)]
    assert_same(arrays(deep(x)), [y, *ends])


@EACH
def test_batch_first_and_a_single_row(kind, options):
    layer = make(kind, options, 5, 4, num_layers=2, bidirectional=True)
    x = normal(6, 3, 5)
    y, *states = arrays(layer(x))
    layer.batch_first = True
    swapped, *same = arrays(layer(np.ascontiguousarray(x.swapaxes(0, 1))))
    assert_bitwise_equal(swapped, np.ascontiguousarray(y.swapaxes(0, 1)))
    assert_same(same, states)
    row, *ends = arrays(layer(np.ascontiguousarray(x[:, 1])))
    assert_same([row, *ends], [y[:, 1], *(s[:, 1] for s in states)])


@EACH
def test_initial_states_continue_a_sequence(kind, options):
    layer = make(kind, options, 5, 4, num_layers=2)
    x = normal(9, 3, 5)
    whole = arrays(layer(x))
    first = layer(x[:4])
    second = layer(x[4:], first[1])
    assert_bitwise_equal(np.concatenate([arrays(first)[0], arrays(second)[0]]), whole[0])
    assert_same(arrays(second)[1:], whole[1:])


def test_truncated_backpropagation_stops_at_detached_states():
    layer = make(nn.LSTM, {}, 3, 4)
    for detached in (False, True):
        early, late = (fn.tensor(normal(4, 2, 3), requires_grad=True) for _ in range(2))
        _, state = layer(early)
        if detached:
            state = tuple(s.detach() for s in state)
        layer(late, state)[0].sum().backward()
        assert (early.grad is None) == detached
        assert np.array(late.grad).any()


# ---- lengths -------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_short_row_is_that_row_alone(kind, options, bidirectional):
    layer = make(kind, options, 5, 4, num_layers=2, bidirectional=bidirectional)
    x, lengths = normal(7, 5, 5), [7, 3, 1, 6, 2]
    y, *states = arrays(layer(x, lengths=lengths))
    for b, n in enumerate(lengths):
        alone, *ends = arrays(layer(np.ascontiguousarray(x[:n, b : b + 1])))
        assert_bitwise_equal(np.ascontiguousarray(y[:n, b : b + 1]), alone)
        assert not y[n:, b].any()
        for s, e in zip(states, ends, strict=True):
            assert_bitwise_equal(np.ascontiguousarray(s[:, b : b + 1]), e)


@EACH
def test_padding_does_not_matter(kind, options):
    layer = make(kind, options, 5, 4, bidirectional=True)
    x, lengths = normal(7, 4, 5), np.array([2, 7, 0, 5])
    past = np.arange(7)[:, None] >= lengths
    other = np.where(past[:, :, None], np.float32(1e30), x)
    results = [with_gradients(layer, v, lengths=lengths) for v in (x, other)]
    assert_same(results[1], results[0])
    n_outputs = len(arrays(layer(x)))
    assert not results[0][n_outputs][past].any()  # the gradient of the padding


@EACH
def test_full_lengths_are_none(kind, options):
    layer = make(kind, options, 5, 4, bidirectional=True, num_layers=2)
    x = normal(7, 4, 5)
    assert_same(with_gradients(layer, x, lengths=[7] * 4), with_gradients(layer, x))


def test_a_row_without_steps_keeps_its_state():
    h, c = normal(1, 2, 4), normal(1, 2, 4)
    y, (h_n, c_n) = nn.LSTM(3, 4)(normal(5, 2, 3), (h, c), lengths=[0, 5])
    assert_bitwise_equal(np.array(h_n.detach())[0, 0], h[0, 0])
    assert_bitwise_equal(np.array(c_n.detach())[0, 0], c[0, 0])
    assert not np.array(y.detach())[:, 0].any()


@EACH
def test_nan_stays_in_its_row(kind, options):
    layer = make(kind, options, 5, 4)
    x = normal(6, 3, 5)
    clean = arrays(layer(x))
    x[2, 1, 3] = np.nan
    y, *states = arrays(layer(x))
    assert np.isnan(y[2:, 1]).all()
    assert_bitwise_equal(y[:2], clean[0][:2])
    for got, expected in zip([y, *states], clean, strict=True):
        assert_bitwise_equal(got[:, [0, 2]], expected[:, [0, 2]])


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [0, 1, 2])
def test_any_output_alone_carries_gradients(used):
    """As through all three with zeros for the others."""
    layer = make(nn.LSTM, {}, 3, 4)
    x = fn.tensor(normal(5, 2, 3), requires_grad=True)
    grads = []
    for alone in (True, False):
        x.grad = None
        y, states = layer(x)
        parts = [y, *states]
        total = parts[used].sum()
        if not alone:
            total = sum(((p * 0.0).sum() for i, p in enumerate(parts) if i != used), start=total)
        total.backward()
        grads.append(np.array(x.grad))
    np.testing.assert_array_equal(grads[0], grads[1])


@EACH
def test_frozen_arrays_get_no_gradient_and_change_no_other(kind, options):
    layer = make(kind, options, 3, 4)
    x = normal(5, 2, 3)
    everything = with_gradients(layer, x)
    parameters = dict(layer.named_parameters())
    for frozen in parameters.values():
        for p in parameters.values():
            p.grad, p.requires_grad = None, p is not frozen
        result = layer(x)
        parts = (result[0], *states_of(result))
        seeds = [np.cos(np.arange(p.detach().numpy().size, dtype=np.float32)) for p in parts]
        sum(
            ((p * fn.tensor(s.reshape(p.shape))).sum() for p, s in zip(parts, seeds, strict=True)),
            start=0.0,
        ).backward()
        assert frozen.grad is None
        for p, expected in zip(parameters.values(), everything[-len(parameters) :], strict=True):
            if p is not frozen:
                assert_bitwise_equal(np.array(p.grad), expected)


# ---- the cells of the lectures -------------------------------------------------------------------


def test_the_lstm_of_one_matrix_for_state_and_input():
    """LAY-7 (b): W [h, x] + b for each gate, where (a) has W h + U x + b."""
    cell = make(nn.LSTMCell, {}, 3, 4)
    x, h, c = normal(6, 3), normal(6, 4), normal(6, 4)
    w_ih, w_hh, b_ih, b_hh = (np.array(p.detach(), np.float64) for p in cell.parameters())
    z = np.concatenate([h, x], axis=1) @ np.concatenate([w_hh, w_ih], axis=1).T + b_ih + b_hh
    i, f, g, o = np.split(z, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
    expected_c = f * c + i * np.tanh(g)
    got_h, got_c = cell(x, (h, c))
    np.testing.assert_allclose(np.array(got_c.detach()), expected_c, rtol=0, atol=2e-6)
    np.testing.assert_allclose(np.array(got_h.detach()), o * np.tanh(expected_c), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("convention", "closed"), [("lectures", -200.0), ("torch", 200.0), ("cho", 200.0)]
)
def test_a_closed_gate_keeps_the_state_exactly(convention, closed):
    """LAY-8: with u = 0 (z = 1 where z is what is kept) h is h'."""
    cell = make(nn.GRUCell, {}, 3, 4, convention=convention)
    cell.bias_ih.copy_(np.repeat([0, closed, 0], 4).astype(np.float32))
    h = normal(2, 4)
    assert_bitwise_equal(np.array(cell(normal(2, 3), h).detach()), h)


def test_parameters_of_lstm_and_gru():
    """LAY-9: 4 (n^2 + n m + n) and 3 (...), and torch's second bias."""
    n, m = 7, 5
    for kind, gates in ((nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)):
        assert kind(m, n).num_parameters() == gates * (n * n + n * m + 2 * n)
        assert kind(m, n, bias=False).num_parameters() == gates * (n * n + n * m)


# ---- modules -------------------------------------------------------------------------------------


def test_state_dict_has_torchs_keys_in_torchs_order():
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    keys = [
        f"{name}_l{i}{suffix}"
        for i in (0, 1)
        for suffix in ("", "_reverse")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    state = layer.state_dict()
    assert list(state) == keys
    assert state["weight_ih_l0_reverse"].shape == (16, 3)
    assert state["weight_ih_l1"].shape == (16, 8)
    assert state["weight_hh_l1"].shape == (16, 4)
    assert list(nn.GRUCell(3, 4).state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert list(nn.GRU(3, 4, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]


def test_weights_start_uniform():
    fn.manual_seed(0)
    w = np.concatenate([np.array(p.detach()).ravel() for p in nn.GRU(64, 100).parameters()])
    assert abs(w).max() <= 0.1
    assert abs(w.std() - 0.1 / 3**0.5) < 1e-3


def test_dropout_is_between_layers_in_training_only():
    layer = make(nn.RNN, {}, 3, 4, num_layers=2, dropout=1.0)
    x = normal(5, 2, 3)
    nothing = arrays(layer(x))
    assert_same(arrays(layer(-x))[:1], nothing[:1])  # the second layer saw zeros
    assert_bitwise_equal(arrays(layer(x))[1][0], arrays(layer.eval()(x))[1][0])
    layer.dropout = 0.0
    assert_same(arrays(layer.train()(x)), arrays(layer.eval()(x)))
    assert not np.array_equal(arrays(layer(x))[0], nothing[0])


def test_repr_and_paths_in_messages():
    assert repr(nn.LSTM(3, 4)) == "LSTM(3, 4)"
    assert (
        repr(nn.GRU(3, 4, 2, bidirectional=True)) == "GRU(3, 4, num_layers=2, bidirectional=True)"
    )
    assert repr(nn.RNNCell(3, 4, nonlinearity="relu")) == "RNNCell(3, 4, nonlinearity='relu')"
    model = nn.Sequential(nn.Linear(2, 4), nn.LSTM(3, 4))
    with pytest.raises(ValueError, match=r"^LSTM '1': expected input of shape") as caught:
        model(normal(5, 2, 2))
    assert str(caught.value).endswith("(steps, batch, 3) or (steps, 3), got (5, 2, 4)")
