"""Products by wgmma kernels, under the emulator: asked for, checked on first use, refused by name
where they are wrong. The kernels' own test is tests/cpp/cuda_emulator_wgmma_test.cc."""

import fastnn as fn
import pytest
from cuda_helpers import emulated, info
from test_cuda_blas import WORK

pytestmark = pytest.mark.gpu
ASKED = "import fastnn as fn; fn.cuda.set_product_path('wgmma')\n"


@emulated
@pytest.mark.parametrize("schedule", ["forward", "random:3"])
def test_they_make_all_16_bit_products(schedule):
    found = info(ASKED + WORK, FASTNN_EMULATOR_SCHEDULE=schedule)
    assert found["refused"] == []
    assert found["wgmma_reason"] == ""
    # Of two dtypes: forward and both gradients, for three activations. The rest is float32, and
    # the batches, whose rows TMA cannot copy.
    assert (found["products_by_wgmma"], found["products_by_cublaslt"]) == (18, 0)
    assert found["products_by_own_tiles"] > 10


@emulated
def test_those_that_are_wrong_are_refused_class_by_class():
    found = info(ASKED + WORK, FASTNN_EMULATOR_WGMMA="wrong")
    assert found["products_by_wgmma"] == 0
    assert "wgmma: bfloat16 NT + bias: a wrong result in its check" in found["refused"]
    assert "wgmma: float16 NT + bias, relu: a wrong result in its check" in found["refused"]
    assert (
        "wgmma: bfloat16 NT + bias, activation 11: a wrong result in its check" in found["refused"]
    )


@emulated
def test_float32_as_tf32_where_both_factors_are_contiguous_along_k():
    work = """
import json, numpy as np, fastnn as fn
from fastnn import F
fn.cuda.set_product_path("wgmma")
x = np.full((33, 64), 1 + 2.0**-5 + 2.0**-9 + 2.0**-14, np.float32)
a, w = fn.tensor(x, device="cuda"), fn.ones(40, 64).to("cuda")
found = {}
for precision in ("highest", "high", "medium"):
    fn.set_float32_matmul_precision(precision)
    y = np.array(F.linear(a, w, activation="gelu").to("cpu"))
    found[precision] = float(y[0, 0]) / 64, fn.cuda.info()["products_by_wgmma"]
print(json.dumps(found))
"""
    exact = 1 + 2.0**-5 + 2.0**-9
    found = info(work)
    assert found == {
        "highest": [exact + 2.0**-14, 0],
        "high": [exact, 1],
        "medium": [exact + 2.0**-14, 1],
    }


@emulated
def test_float32_as_three_products_of_tf32():
    found = info(ASKED.replace("wgmma", "3xtf32") + WORK)
    assert found["refused"] == []
    # Integers, so all are exact; of float32 as many, and what is captured, run and recorded.
    assert found["products_by_wgmma"] == 18 + 9 + 2
    assert found["products_by_own_tiles"] < 6


@emulated
def test_they_are_not_asked_for_by_default():
    found = info(WORK)
    assert (found["products_by_wgmma"], found["products_by_cublaslt"]) == (0, 0)


def test_a_path_that_is_none():
    message = (
        "cuda.set_product_path: expected one of auto, cublaslt, wgmma, tiles, 3xtf32, got 'fastest'"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        fn.cuda.set_product_path("fastest")
