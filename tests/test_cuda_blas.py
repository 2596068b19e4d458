"""cuBLASLt by dlopen, under the emulator with a library of the same entry points: found, checked on
first use, refused by name where it is old, lacks an entry, fails or is wrong.

It is loaded once a process, so each case is one of its own. Kernels: gemm_high, and gemm_medium."""

import os
from pathlib import Path

import cuda_helpers
import fastnn as fn
import pytest

FOLDER = Path(os.environ.get("FASTNN_CUDA_LIBRARY", "")).parent
FAKE = FOLDER / "libfastnn_fake_cublaslt.so"
IN_PART = FOLDER / "libfastnn_fake_cublaslt_in_part.so"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (FAKE.exists() and fn.cuda.is_available())
        or "emulator" not in fn.cuda.device_description(),
        reason="needs the emulated library, with the tests' libcublasLt beside it",
    ),
]

# Products of integers, of which each result is exact, whoever makes it: of all transposes, dtypes,
# epilogues and batches, forward and backward, recorded and replayed.
WORK = """
import json, sys
import numpy as np
import fastnn as fn
from fastnn import F
from fastnn.testing.compare import round_to

rng = np.random.default_rng(0)

def integers(*shape):
    return rng.integers(-3, 4, shape).astype(np.float32)

def leaf(x, dtype="float32"):
    moved = fn.tensor(x).to(dtype) if dtype != "float16" else fn.tensor(x)
    moved = moved.to("cuda")
    moved = moved.to(dtype)
    moved.requires_grad = True
    return moved

def equal(got, expected, dtype, what):
    got = np.array(got.to("float32").to("cpu"))
    if dtype == "bfloat16":
        expected = round_to(expected, dtype)
    if dtype == "float16":
        expected = expected.astype(np.float16)
    np.testing.assert_array_equal(got, np.asarray(expected, np.float32), err_msg=what)

def work():
    for dtype in ("float32", "bfloat16", "float16"):
        for activation in (None, "relu", "hardtanh" if dtype == "float32" else "relu6"):
            x, w, b, dy = integers(33, 40), integers(24, 40), integers(24), integers(33, 24)
            t = [leaf(v, dtype) for v in (x, w, b)]
            act = {"relu6": "relu6", "relu": "relu", None: None, "hardtanh": "relu6"}[activation]
            y = F.linear(*t, activation=act)
            y.backward(leaf(dy, dtype).detach())
            z = x @ w.T + b
            inside = z if act is None else np.clip(z, 0, 6 if act == "relu6" else None)
            equal(y.detach(), inside, dtype, f"{dtype} {act}")
            d = dy if act is None else dy * (z > 0) * (1 if act == "relu" else z < 6)
            equal(t[0].grad, d @ w, dtype, f"{dtype} {act} dx")
            equal(t[1].grad, d.T @ x, dtype, f"{dtype} {act} dw")
        a, c = integers(3, 20, 17), integers(3, 17, 12)
        equal(leaf(a, dtype).detach() @ leaf(c, dtype).detach(), a @ c, dtype, f"{dtype} batch")

work()
w = leaf(integers(24, 40))
step = fn.capture(lambda x: F.linear(x, w, activation="relu"))
for _ in range(3):
    x = integers(33, 40)
    got = step(leaf(x).detach())
    equal(got, np.maximum(x @ np.array(w.detach().to("cpu")).T, 0), "float32", "recorded")
print(json.dumps(fn.cuda.info()))
"""


def info(library=FAKE, work=WORK, **environment):
    """What fn.cuda.info() says after the work, in a process of its own."""
    return cuda_helpers.info(work, FASTNN_CUBLASLT=str(library), **environment)


def badly(what):
    return info(FASTNN_FAKE_CUBLASLT=what)


@pytest.mark.parametrize("lazy", ["0", "1"])
def test_a_library_that_is_right_makes_the_products(lazy):
    found = info(FASTNN_EMULATOR_LAZY=lazy)
    assert (found["cublaslt"], found["cublaslt_version"]) == (str(FAKE), "13.1.0")
    assert found["refused"] == []
    assert found["products_by_cublaslt"] > 25
    assert found["products_by_own_tiles"] == 0


def test_one_that_is_wrong_is_refused_class_by_class():
    found = badly("wrong")
    assert found["products_by_cublaslt"] == 0
    assert found["products_by_own_tiles"] > 25
    for line in ("float32 NT, relu", "float32 NT + bias, relu", "bfloat16 TN", "float16 NN, batch"):
        assert f"{line}: a wrong result in its check" in found["refused"], found["refused"]


def test_an_epilogue_that_hides_nan_is_done_without():
    """The activation is a kernel of its own then, after sums in float32."""
    found = badly("relu hides NaN")
    assert found["refused"] == [
        f"{line}: a wrong result in its check"
        for line in (
            "bfloat16 NT + bias, relu",
            "float16 NT + bias, relu",
            "float32 NT + bias, relu",
            "float32 NT, relu",
        )
    ]
    assert found["products_by_own_tiles"] == 0


def test_float32_that_is_not_is_refused():
    found = badly("TF32 always")
    assert {line.split()[0] for line in found["refused"]} == {"float32"}
    assert "float32 NT + bias: a wrong result in its check" in found["refused"]
    assert found["products_by_cublaslt"] > 10  # those of 16 bits


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("fails", "cublasLtMatmul returned 15"),
        ("no algorithm", "cublasLtMatmulAlgoGetHeuristic found nothing, and returned 1"),
    ],
)
def test_one_that_fails_is_refused_with_the_call(what, why):
    found = badly(what)
    assert found["products_by_cublaslt"] == 0
    assert f"float32 NN: {why}" in found["refused"]


def test_a_call_that_fails_later_leaves_the_product_to_own_tiles():
    found = badly("fails later")
    assert 0 < found["products_by_cublaslt"] <= 3
    assert any(line.endswith(": cublasLtMatmul returned 15") for line in found["refused"])


@pytest.mark.parametrize(
    ("library", "what", "reason"),
    [
        (FAKE, "old", f"{FAKE} is cuBLASLt 11.11, expected 12.0 or newer"),
        (FAKE, "no handle", f"{FAKE}: cublasLtCreate returned 1"),
        (IN_PART, "", f"{IN_PART} has no cublasLtMatmulAlgoGetHeuristic"),
        ("off", "", "FASTNN_CUBLASLT is off"),
        ("", "", "the emulator has no cuBLASLt"),
    ],
)
def test_one_that_cannot_be_used_is_refused_with_the_reason(library, what, reason):
    work = (
        "import json, fastnn as fn; x = fn.ones(3, 3).to('cuda'); x @ x; " + WORK.rsplit("\n", 2)[1]
    )
    found = info(library, work, FASTNN_FAKE_CUBLASLT=what)
    assert (found["cublaslt"], found["cublaslt_version"]) == (None, None)
    assert found["cublaslt_reason"] == reason
    assert (found["products_by_cublaslt"], found["products_by_own_tiles"]) == (0, 1)


def test_a_path_that_is_none():
    work = "import json, fastnn as fn; print(json.dumps(fn.cuda.info()))"
    found = info("/nowhere/libcublasLt.so.13", work)
    assert found["cublaslt_reason"].startswith("/nowhere/libcublasLt.so.13: cannot open")


def test_precisions_round_the_factors():
    """ "high" is TF32, 10 bits of the mantissa, "medium" bfloat16, 7; results are float32."""
    work = """
import json, numpy as np, fastnn as fn
x = np.full((40, 64), 1 + 2.0**-5 + 2.0**-9 + 2.0**-14, np.float32)
z = np.ones((64, 40), np.float32)
a, b = (fn.tensor(v, device="cuda") for v in (x, z))
product = fn.capture(lambda a: a @ b)
found = {}
for _ in range(2):
    for precision in ("highest", "high", "medium"):
        fn.set_float32_matmul_precision(precision)
        found.setdefault(precision, []).append(float(np.array(product(a).to("cpu"))[0, 0]) / 64)
print(json.dumps(found))
"""
    exact = 1 + 2.0**-5 + 2.0**-9
    assert info(work=work) == {
        "highest": [exact + 2.0**-14] * 2,
        "high": [exact] * 2,
        "medium": [1 + 2.0**-5] * 2,
    }
    own = info("off", work)
    assert own == dict.fromkeys(own, [exact + 2.0**-14] * 2)


@cuda_helpers.two_devices
def test_each_device_is_checked_by_itself():
    """A handle, plans, and what was refused: of the device, not of the process."""
    work = """
import json, numpy as np, fastnn as fn
x, z = np.ones((40, 64), np.float32), np.full((64, 40), 3, np.float32)
found = []
for device in ("cuda:1", "cuda:0"):
    a, b = (fn.tensor(v, device=device) for v in (x, z))
    assert float(np.array((a @ b).to("cpu"))[0, 0]) == 3 * 64
    told = [fn.cuda.info(i) for i in (0, 1)]
    found.append([told[0]["products_by_cublaslt"], *(len(t["refused"]) for t in told)])
print(json.dumps(found))
"""
    assert info(work=work) == [[1, 0, 0], [2, 0, 0]]
    assert info(work=work, FASTNN_FAKE_CUBLASLT="TF32 always") == [[0, 0, 1], [0, 1, 1]]
