"""DLPack's exchange API and arguments, on the CPU: torch's arrays and those of a library of the
test's own. What needs a device is in test_cuda_streams.py."""

import fastnn as fn
import foreign_helpers as foreign
import numpy as np
import pytest
from fastnn import _core
from fastnn import functional as F


def on_cpu(kind, values, **options):
    values = np.ascontiguousarray(values)
    array = kind(values.ctypes.data, values.shape, str(values.dtype), device=(foreign.CPU, 0),
                 **options)  # fmt: skip
    array.values = values
    return array


@pytest.mark.parametrize("kind", [foreign.Array, foreign.ExchangedArray])
def test_memory_is_shared_and_given_back_once(kind):
    x, before = np.arange(6, dtype=np.float32).reshape(2, 3), foreign.Array.live
    t = _core.share(on_cpu(kind, x))
    assert (_core.data_pointer(t), t.shape) == (x.ctypes.data, (2, 3))
    assert foreign.Array.live == before + 1
    del t
    assert foreign.Array.live == before
    np.testing.assert_array_equal(F.relu(on_cpu(kind, x)).numpy(), x)
    assert foreign.Array.live == before


def test_an_offset_and_strides_are_understood():
    x = np.arange(24, dtype=np.float32)
    inside = on_cpu(foreign.ExchangedArray, x, offset=8)
    inside.shape = (2, 3)
    np.testing.assert_array_equal(_core.share(inside).numpy(), x[2:8].reshape(2, 3))
    last = on_cpu(foreign.ExchangedArray, x, strides=(24, 1, 12, 3))
    last.shape = (1, 3, 2, 4)
    assert _core.share(last).layout == "nhwc"


def test_what_cannot_be_shared_goes_the_slow_way():
    before = foreign.Array.live

    class Slow(foreign.ExchangedArray):
        def __dlpack__(self, **options):
            return np.asarray(self.values).T.__dlpack__(**options)

    turned = on_cpu(Slow, np.arange(6, dtype=np.float32).reshape(2, 3), strides=(1, 2))
    turned.shape = (3, 2)
    np.testing.assert_array_equal(fn.tensor(turned).numpy(), turned.values.T)
    assert foreign.Array.live == before


def test_an_error_of_the_other_library_is_passed_on():
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception, match=r"(?i)sparse|storage") as caught:
        F.relu(torch.ones(2, 2).to_sparse())
    assert not isinstance(caught.value, SystemError)


def test_arrays_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    t = _core.share(x)
    assert _core.data_pointer(t) == x.data_ptr()
    for y in (x.t(), x[:, ::2], x.double(), x.bool(), x.bfloat16(), torch.nn.Parameter(x).detach()):
        want = y.float().numpy()
        np.testing.assert_array_equal(np.array(fn.tensor(y), np.float32), want)
    assert fn.tensor(x.bfloat16()).dtype == "bfloat16"
    with pytest.raises(BufferError) as caught:
        F.relu(torch.nn.Parameter(x))
    assert str(caught.value) == (
        "from_dlpack: expected an array without gradient, got a Parameter that requires it; call "
        "detach() first"
    )


def test_a_torch_array_comes_in_without_a_call_of_python(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "__dlpack__", None)
    assert fn.tensor(torch.ones(3)).numpy().tolist() == [1, 1, 1]
