"""Arrays in and out: shared, converted (to_float32, from_float32), or refused."""

import ctypes
import math

import fastnn as fn
import ml_dtypes
import numpy as np
import pytest
from fastnn import _core
from fastnn import functional as F
from fastnn.testing.compare import assert_bitwise_equal, round_to
from fastnn.testing.hard import bit_patterns


def pointer(array):
    return array.__array_interface__["data"][0]


# ---- buffers and views ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3), (1,) * 8])
def test_from_numpy_shares_and_numpy_gives_a_view(dtype, shape):
    x = np.ones(shape, dtype)
    t = fn.from_numpy(x)
    assert (t.shape, t.dtype) == (shape, np.dtype(dtype).name)
    assert _core.data_pointer(t) == pointer(x) or x.size == 0
    view = t.numpy()
    assert (view.shape, view.dtype) == (shape, x.dtype)
    view[...] = 5
    assert (x == 5).all()


def test_tensor_copies():
    x = np.ones(3, np.float32)
    t = fn.tensor(x)
    x[:] = 2
    assert t.numpy().tolist() == [1, 1, 1]


def test_a_view_keeps_the_memory():
    view = fn.tensor([1.0, 2.0]).numpy()
    for _ in range(10):
        fn.tensor([9.0, 9.0])
    assert view.tolist() == [1.0, 2.0]


def test_a_shared_array_is_held_and_given_back():
    x = np.ones(3, np.float32)
    t = fn.from_numpy(x)
    with pytest.raises(ValueError, match="resize"):
        x.resize(5, refcheck=True)
    del t
    memory = memoryview(bytearray(12)).cast("f")
    assert F.relu(memory).shape == (3,)
    memory.release()  # raises BufferError while somebody holds it


def test_memoryview_of_a_tensor():
    m = memoryview(fn.tensor([[1.0, 2.0]]))
    assert (m.format, m.shape, m.strides, m.readonly) == ("f", (1, 2), (8, 4), False)
    assert m.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("array", [
    np.ones(3), np.ones(3, np.float16), np.ones(3, np.int32), np.ones((3, 2), np.float32).T,
    np.ones(3, ">f4"), np.ones(6, np.float32)[::2],
], ids=["float64", "float16", "int32", "transposed", "big-endian", "strided"])  # fmt: skip
def test_from_numpy_refuses_what_it_would_have_to_convert(array):
    with pytest.raises(TypeError, match="expected a contiguous") as caught:
        fn.from_numpy(array)
    assert str(caught.value) == (
        "from_numpy: expected a contiguous float32, int64 or uint8 array, got dtype "
        f"{array.dtype} with strides {array.strides}; fastnn.tensor() copies and converts"
    )


def test_from_numpy_refuses_lists():
    with pytest.raises(TypeError, match="got list; fastnn"):
        fn.from_numpy([1.0])


# ---- every NumPy array -------------------------------------------------------------------------

DTYPES = [
    "f2",
    "f4",
    "f8",
    ">f4",
    ">f8",
    "i1",
    "i2",
    "i4",
    "i8",
    ">i4",
    "u1",
    "u2",
    "u4",
    "u8",
    "?",
]
LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "broadcast": lambda a: np.broadcast_to(a[0], a.shape),
    "read-only": lambda a: readonly(a.copy()),
    "unaligned": lambda a: unaligned(a),
    "offset": lambda a: np.concatenate([a.ravel()[:1], a.ravel()])[1:].reshape(a.shape),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "record field": lambda a: field_of_a_record(a),
}


def readonly(a):
    a.flags.writeable = False
    return a


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def field_of_a_record(a):
    records = np.zeros(a.shape, [("flag", "u1"), ("value", a.dtype)])
    records["value"] = a
    return records["value"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dtype_and_layout(dtype, layout):
    rng = np.random.default_rng(0)
    x = LAYOUTS[layout](rng.integers(0, 2, (6, 5)).astype(dtype))
    before = x.tobytes()
    t = fn.tensor(x)
    expected = {"f": "float32", "u": "uint8" if dtype == "u1" else "int64"}.get(
        x.dtype.kind, "int64"
    )
    assert (t.shape, t.dtype) == ((6, 5), expected)
    np.testing.assert_array_equal(t.numpy(), np.asarray(x).astype(expected))
    if expected == "float32":
        np.testing.assert_array_equal(np.array(F.relu(x)), np.asarray(x).astype(np.float32))
    assert x.tobytes() == before
    t.copy_(np.zeros((6, 5), expected))
    assert x.tobytes() == before


@pytest.mark.parametrize("offset", range(0, 64, 4))
def test_results_do_not_depend_on_alignment(offset):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 37)).astype(np.float32)
    raw = np.zeros(x.nbytes + 128, np.uint8)
    start = -pointer(raw) % 64 + offset
    moved = raw[start : start + x.nbytes].view(np.float32).reshape(x.shape)
    moved[...] = x
    w = rng.standard_normal((5, 37)).astype(np.float32)
    for f in (F.gelu, F.softmax, lambda v: F.layer_norm(v, 37), lambda v: F.linear(v, w)):
        assert_bitwise_equal(np.array(f(moved)), np.array(f(x)))


def test_scalars_lists_and_empty():
    assert fn.tensor(2.5).shape == ()
    assert fn.tensor([[1, 2], [3, 4]]).dtype == "int64"
    assert fn.tensor([True, False]).numpy().tolist() == [1, 0]
    assert fn.tensor([]).shape == (0,)
    assert fn.tensor(np.zeros((3, 0, 2))).shape == (3, 0, 2)


def test_nine_axes_are_refused():
    for x in (np.zeros((1,) * 9, np.float32), np.zeros((1,) * 9)):
        with pytest.raises(TypeError, match="expected at most 8 axes") as caught:
            fn.tensor(x)
        assert str(caught.value) == "tensor: expected at most 8 axes of a supported dtype"


def test_float64_beyond_float32_names_the_value_and_place():
    with pytest.raises(ValueError, match="within float32") as caught:
        fn.tensor(np.array([[1.0, 2.0], [1e39, -1e39]]))
    assert str(caught.value) == (
        "tensor: expected values within float32, got 1e+39 at index (1, 0)"
    )
    assert fn.tensor([math.inf, math.nan]).numpy()[0] == math.inf


def test_uint64_beyond_int64():
    with pytest.raises(ValueError, match="int64") as caught:
        fn.tensor(np.array([1, 2**63], np.uint64))
    assert str(caught.value) == "tensor: expected values within int64, got 9223372036854775808"


@pytest.mark.parametrize(("data", "message"), [
    (np.zeros(2, complex),
     "tensor: expected real numbers, got complex data (Complex data not supported)"),
    (np.array([object()]), "tensor: expected numbers, got an array of dtype object"),
    (np.array(["a"]), "tensor: expected numbers, got an array of dtype <U1"),
    ("text", "tensor: expected numbers, got an array of dtype <U4"),
    (np.array(["2020-01-01"], "M8[D]"),
     "tensor: expected numbers, got an array of dtype datetime64[D]"),
    ([None], "tensor: expected numbers, got an array of dtype object"),
    (np.zeros(2, [("a", "f4")]), "tensor: expected numbers, got an array of dtype [('a', '<f4')]"),
], ids=["complex", "object", "strings", "text", "dates", "None", "records"])  # fmt: skip
def test_what_has_no_numbers_is_refused(data, message):
    for call in (fn.tensor, F.relu):
        with pytest.raises(TypeError) as caught:
            call(data)
        assert str(caught.value) == message


# ---- DLPack ------------------------------------------------------------------------------------


def test_dlpack_to_numpy_shares():
    t = fn.tensor([[1.0, 2.0], [3.0, 4.0]])
    view = np.from_dlpack(t)
    assert pointer(view) == _core.data_pointer(t)
    del t
    assert view.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_dlpack_round_trip(dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    np.testing.assert_array_equal(np.from_dlpack(fn.tensor(x)), x)


class Producer:
    """Something with DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_in_shares_and_gives_back():
    x = np.ones((2, 3), np.float32)
    t = _core.share(Producer(x))
    assert _core.data_pointer(t) == pointer(x)
    assert F.relu(Producer(x)).shape == (2, 3)
    del t
    np.testing.assert_array_equal(np.array(fn.tensor(Producer(x[:, ::2]))), x[:, ::2])


def test_dlpack_of_read_only_memory():
    t = fn.from_numpy(readonly(np.ones(3, np.float32)))
    assert not np.from_dlpack(t).flags.writeable
    with pytest.raises(ValueError, match="expected a writable Tensor") as caught:
        t.__dlpack__()
    assert str(caught.value) == (
        "__dlpack__: expected a writable Tensor for a consumer older than DLPack 1.0"
    )


def test_dlpack_of_an_unused_capsule_frees_it():
    before = _core.memory_stats()["live_blocks"]
    capsule = fn.tensor([1.0]).__dlpack__()
    assert _core.memory_stats()["live_blocks"] == before + 1
    del capsule
    assert _core.memory_stats()["live_blocks"] == before


# ---- writing -----------------------------------------------------------------------------------


def test_read_only_memory_is_read_but_not_written():
    x = readonly(np.ones(3, np.float32))
    t = fn.from_numpy(x)
    assert F.relu(t).numpy().tolist() == [1, 1, 1]
    assert not t.numpy().flags.writeable
    for call, name in (
        (lambda: t.copy_(np.zeros(3, np.float32)), "copy_: expected the target"),
        (lambda: fn.nn.init.uniform_(t), "uniform_: expected tensor"),
    ):
        with pytest.raises(ValueError, match="read-only") as caught:
            call()
        assert str(caught.value) == f"{name} in memory that may be written, got a read-only array"
    assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("source", "error", "message"), [
    (np.zeros(3, np.float32), ValueError, "copy_: expected a source of shape (2,), got (3,)"),
    (np.zeros(2, np.int64), TypeError, "copy_: expected the source of dtype float32, got int64"),
])  # fmt: skip
def test_copy_refuses(source, error, message):
    with pytest.raises(error) as caught:
        fn.zeros(2).copy_(source)
    assert str(caught.value) == message


# ---- dtypes: to_float32, from_float32 ----------------------------------------------------------


def test_bfloat16_rounds_to_nearest_even_like_ml_dtypes():
    x = bit_patterns(1 << 16).astype(np.float32)
    x = np.concatenate([x, np.float32([np.inf, -np.inf, 1.00390625, 1.01171875, 3.4e38, -3.4e38])])
    low = fn.tensor(x).to("bfloat16")
    with np.errstate(over="ignore"):
        expected = x.astype(ml_dtypes.bfloat16)
    assert_bitwise_equal(low.to("float32").numpy(), expected.astype(np.float32))
    assert_bitwise_equal(round_to(x.astype(float), "bfloat16").astype(np.float32),
                         expected.astype(np.float32))  # fmt: skip


def test_bfloat16_nan_stays_nan():
    bits = np.uint32([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000])
    low = fn.tensor(bits.view(np.float32)).to("bfloat16")
    assert np.isnan(np.array(low)).all()


def test_all_bfloat16_round_trip():
    x = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    t = fn.tensor(x)
    assert t.dtype == "bfloat16"
    wide = t.to("float32").numpy()
    with np.errstate(invalid="ignore"):
        expected = x.astype(np.float32)
    np.testing.assert_array_equal(wide, expected)
    back = fn.tensor(wide).to("bfloat16")
    finite = ~np.isnan(wide)
    assert_bitwise_equal(np.array(back)[finite], wide[finite])


def test_to_is_differentiable():
    x = fn.tensor([1.0, 2.0], requires_grad=True)
    (x.to("bfloat16") * fn.tensor([3.0, 4.0], "bfloat16")).to("float32").sum().backward()
    assert (x.grad.dtype, x.grad.numpy().tolist()) == ("float32", [3.0, 4.0])


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: fn.tensor([1.0]).to("float8"), TypeError,
     "dtype: expected 'float32', 'bfloat16', 'float16', 'uint8' or 'int64', got 'float8'"),
    (lambda: fn.tensor([1]).to("bfloat16"), TypeError,
     "to: expected a conversion from or to float32, got int64 to bfloat16"),
    (lambda: fn.zeros(1, device="tpu"), ValueError,
     "device: expected 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
    (lambda: fn.zeros(-1), ValueError, "shape: expected sizes >= 0, got -1"),
    (lambda: fn.zeros(*(1,) * 9), ValueError, "shape: expected at most 8 axes, got 9"),
    (lambda: fn.zeros(2**40, 2**40), ValueError, "shape: expected fewer than 2^44 elements"),
    (lambda: fn.ones(6).reshape(4, -1), ValueError,
     "reshape: expected 6 elements to divide by 4"),
    (lambda: fn.ones(6).reshape(-1, -1), ValueError, "reshape: expected at most one -1, got two"),
    (lambda: fn.ones(6).reshape(4), ValueError,
     "reshape: expected a shape of 6 elements to fit (6,), got (4,)"),
])  # fmt: skip
def test_messages(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_memory_that_is_not_there_is_a_memory_error():
    with pytest.raises(MemoryError):
        fn.zeros(2**43)
    # And where 64 bits do not hold the number of bytes.
    with pytest.raises(MemoryError) as caught:
        fn.functional.one_hot(np.array([0, 1]), 2**62)
    message = "allocate: the system has no memory for shape (2, 4611686018427387904)"
    assert str(caught.value) == message


def test_reshape_shares():
    t = fn.tensor([1.0, 2.0, 3.0, 4.0])
    assert _core.data_pointer(t.reshape(2, -1)) == _core.data_pointer(t)


def test_data_is_aligned_to_64_bytes():
    for n in (1, 3, 100, 5000, 3_000_000):
        assert _core.data_pointer(fn.zeros(n)) % 64 == 0


def test_python_operators_with_arrays_on_the_left():
    t = fn.tensor([1.0, 2.0])
    for result in (np.float32([3, 4]) + t, np.float32([4, 6]) - t, 3.0 - t, 6.0 / t, 2.0 * t, -t):
        assert isinstance(result, fn.Tensor)
    assert (np.float32([4, 6]) - t).numpy().tolist() == [3.0, 4.0]
    assert (6.0 / t).numpy().tolist() == [6.0, 3.0]


def test_a_tensor_of_ctypes_memory():
    buffer = (ctypes.c_float * 3)(1, 2, 3)
    assert F.relu(buffer).numpy().tolist() == [1, 2, 3]
