"""Randomness against Philox written out in NumPy, which has the published known answers."""

import math

import fastnn as fn
import numpy as np
import pytest
from fastnn import _core
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal
from fastnn.testing.reference import random as ref

# From kat_vectors of Random123 (D. E. Shaw Research): philox4x32, 10 rounds: counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_the_oracle_has_the_known_answers(counter, key, answer):
    assert tuple(ref.philox4x32(np.array([counter]), key, rounds=10)[0]) == answer


SIZES = [1, 2, 7, 8, 9, 127, 128, 129, 1000, 16_383, 16_385, 50_000]
SEEDS = [0, 1, 2**32, 2**64 - 1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("p", [0.1, 0.5, 1 / 3, 2**-16, 1.0])
def test_dropout_is_the_oracle_bit_for_bit(seed, p):
    fn.manual_seed(seed)
    for offset, n in enumerate(SIZES):
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        t = ref.threshold(p)
        scale = np.float32(65536 / (65536 - t) if t < 65536 else 0)
        kept = ref.dropout_mask(n, p, seed, offset)
        expected = np.where(kept, x * scale, np.float32(0))
        assert_bitwise_equal(np.array(F.dropout(x, p)), expected, f"draw {offset}, n {n}")


def test_dropout_drops_the_same_elements_in_every_dtype_and_in_backward():
    x = fn.tensor(np.ones(5000, np.float32), requires_grad=True)
    fn.manual_seed(3)
    y = F.dropout(x, 0.3)
    y.backward(np.ones(5000, np.float32))
    fn.manual_seed(3)
    low = F.dropout(fn.tensor(np.ones(5000), "bfloat16"), 0.3)
    assert_bitwise_equal(np.array(x.grad), np.array(y.detach()))
    np.testing.assert_array_equal(np.array(low) == 0, np.array(y.detach()) == 0)


def test_dropped_infinity_is_zero():
    fn.manual_seed(0)
    y = np.array(F.dropout(np.full(1000, np.inf, np.float32), 0.5))
    kept = ref.dropout_mask(1000, 0.5, 0, 0)
    assert (y[~kept] == 0).all()
    assert np.isinf(y[kept]).all()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_keep_rate(p):
    """Within 6 standard deviations of a binomial."""
    n = 1_000_000
    fn.manual_seed(12)
    kept = np.count_nonzero(np.array(F.dropout(np.ones(n, np.float32), p)))
    rate = 1 - ref.threshold(p) / 65536
    assert abs(kept - n * rate) < 6 * math.sqrt(n * rate * (1 - rate))


def test_draws_and_streams_differ():
    fn.manual_seed(0)
    x = np.ones(4096, np.float32)
    first, second = np.array(F.dropout(x)), np.array(F.dropout(x))
    assert (first != second).mean() > 0.4
    words = [ref.blocks(100, s, 0, 0) for s in ref.STREAMS]
    assert len({w.tobytes() for w in words}) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_is_the_oracle_bit_for_bit(seed):
    fn.manual_seed(seed)
    for offset, n in enumerate(SIZES):
        # On [0, 1) and [-1, 1) nothing is rounded.
        for lo, hi, draw in ((0.0, 1.0, 2 * offset), (-1.0, 1.0, 2 * offset + 1)):
            got = fn.nn.init.uniform_(fn.zeros(n), lo, hi)
            expected = ref.uniform(n, lo, hi, seed, draw).astype(np.float32)
            assert_bitwise_equal(got.numpy(), expected)


def test_uniform_stays_within_its_interval():
    for lo, hi in ((0.0, 1e-3), (-0.05, 0.05), (3.0, 3.0), (-1e30, 1e30)):
        x = fn.nn.init.uniform_(fn.zeros(100_000), lo, hi).numpy()
        assert x.min() >= np.float32(lo)
        assert x.max() <= np.float32(hi)


@pytest.mark.parametrize(
    ("n", "seed", "epoch"),
    [(0, 0, 0), (1, 0, 0), (2, 7, 0), (1000, 2**63, 1), (60_000, 5, 3), (1 << 20, 0, 0)],
)
def test_permutation_sorts_shuffle_keys(n, seed, epoch):
    order = fn.random.permutation(n, seed, epoch)
    np.testing.assert_array_equal(order, ref.permutation(n, seed, epoch))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    words = ref.blocks(n, "shuffle", epoch, seed).astype(np.uint64)
    keys = np.array(_core.shuffle_keys(n, seed, epoch)).view(np.uint64)
    np.testing.assert_array_equal(keys, words[:, 1] << np.uint64(32) | words[:, 0])


def test_rng_draw_copies_the_state_and_counts():
    fn.manual_seed(9)
    for offset in range(3):
        draw = np.array(_core.rng_draw(fn.random.generator("dropout")))
        assert draw.tolist() == [9, (2 << 56) + offset]
    assert fn.random.get_state()["dropout"] == [9, 3]
    assert fn.random.get_state()["init"] == [9, 0]


def test_state_round_trip_continues():
    fn.manual_seed(5)
    x = np.ones(1000, np.float32)
    F.dropout(x)
    state = fn.random.get_state()
    expected = np.array(F.dropout(x))
    fn.manual_seed(99)
    fn.random.set_state(state)
    assert_bitwise_equal(np.array(F.dropout(x)), expected)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed):
    with pytest.raises(
        ValueError, match=f"manual_seed: expected 0 <= seed < 2\\*\\*64, got {seed}"
    ):
        fn.manual_seed(seed)


def test_mask_does_not_depend_on_threads():
    x = np.ones(200_003, np.float32)
    results = []
    for threads in (1, 2, 3):
        fn.set_num_threads(threads)
        fn.manual_seed(1)
        results.append(np.array(F.dropout(x, 0.25)))
    assert_bitwise_equal(results[1], results[0])
    assert_bitwise_equal(results[2], results[0])
