"""Another library of the process: arrays in emulated device memory, on streams of its own, written
by ctypes alone. What it does is what torch and CuPy do on a GPU."""

import ctypes
import os
from ctypes import (
    POINTER,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint64,
    c_void_p,
)

import fastnn as fn
import numpy as np
from fastnn import _core

CPU, CUDA = 1, 2
CAPSULE, EXCHANGE = b"dltensor_versioned", b"dlpack_exchange_api"  # kept: capsules point to them
GLOBAL_CAPTURE = 0
TYPES = {"float32": (2, 32), "int64": (0, 64), "uint8": (1, 8), "bfloat16": (4, 16)}
PY = ctypes.pythonapi
PY.PyCapsule_New.restype = ctypes.py_object
PY.PyCapsule_New.argtypes = [c_void_p, c_char_p, c_void_p]
PY.PyCapsule_GetPointer.restype = c_void_p
PY.PyCapsule_GetPointer.argtypes = [ctypes.py_object, c_char_p]


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
        ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16),
        ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)), ("byte_offset", c_uint64),
    ]  # fmt: skip


DELETER = ctypes.CFUNCTYPE(None, c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", c_void_p),
        ("deleter", DELETER), ("flags", c_uint64), ("tensor", DLTensor),
    ]  # fmt: skip


class Runtime:
    """CUDA's runtime as the emulated library exports it; a failure raises with CUDA's words."""

    def __init__(self):
        self.functions = ctypes.CDLL(os.environ["FASTNN_CUDA_LIBRARY"])
        self.functions.cudaGetErrorString.restype = c_char_p

    def __getattr__(self, name):
        function = getattr(self.functions, name)

        def call(*args):
            code = function(*args)
            if code != 0:
                text = self.functions.cudaGetErrorString(code).decode()
                self.functions.cudaGetLastError()
                raise RuntimeError(text)

        return call

    def made(self, name, *args):
        out = c_void_p()
        getattr(self, name)(ctypes.byref(out), *args)
        return out.value

    def stream(self):
        return self.made("cudaStreamCreateWithFlags", 1)

    def memory(self, nbytes):
        return self.made("cudaMallocAsync", c_size_t(nbytes), c_void_p(1))

    def order(self, first, second):
        """The second stream waits for the first."""
        event = self.made("cudaEventCreateWithFlags", 2)
        self.cudaEventRecord(c_void_p(event), c_void_p(first))
        self.cudaStreamWaitEvent(c_void_p(second), c_void_p(event), 0)
        self.cudaEventDestroy(c_void_p(event))

    def write(self, to, values, stream):
        values = np.ascontiguousarray(values)
        source = c_void_p(values.ctypes.data)
        self.cudaMemcpyAsync(c_void_p(to), source, c_size_t(values.nbytes), 1, c_void_p(stream))

    def synchronize(self, stream):
        self.cudaStreamSynchronize(c_void_p(stream))

    def begin(self, stream, mode=GLOBAL_CAPTURE):
        self.cudaStreamBeginCapture(c_void_p(stream), mode)

    def end(self, stream):
        captured = self.made_by_end(stream)
        executable = self.made("cudaGraphInstantiate", c_void_p(captured), 0)
        self.cudaGraphDestroy(c_void_p(captured))
        return executable

    def made_by_end(self, stream):
        out = c_void_p()
        self.cudaStreamEndCapture(c_void_p(stream), ctypes.byref(out))
        return out.value

    def replay(self, graph, stream):
        self.cudaGraphLaunch(c_void_p(graph), c_void_p(stream))

    def destroy(self, graph):
        self.cudaGraphExecDestroy(c_void_p(graph))


def values_at(pointer, shape, dtype="float32"):
    """What emulated device memory holds now: nobody waits for anything."""
    count = int(np.prod(shape))
    raw = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(pointer)
    return np.frombuffer(raw, dtype).reshape(shape).copy()


class Array:
    """An array of the other library, which knows __dlpack__ alone."""

    live = 0

    def __init__(self, data, shape, dtype="float32", *, runtime=None, stream=None, device=(CUDA, 0),
                 strides=None, offset=0):  # fmt: skip
        self.data, self.shape, self.dtype = data, tuple(shape), dtype
        self.runtime, self.stream, self.device = runtime, stream, device
        self.strides, self.offset = strides, offset
        self.asked = []  # the streams that consumers gave
        self.when_deleted = lambda: None

    def managed(self):
        """A new DLManagedTensorVersioned; kept alive until its deleter is called."""
        ndim = len(self.shape)
        shape = (c_int64 * ndim)(*self.shape)
        strides = (c_int64 * ndim)(*self.strides) if self.strides else None
        code, bits = TYPES[self.dtype]
        out = Managed(1, 3, None, DELETER(self.deleted), 0)
        out.tensor = DLTensor(self.data, *self.device, ndim, code, bits, 1, shape,
                              strides, self.offset)  # fmt: skip
        KEPT[ctypes.addressof(out)] = (out, shape, strides, self)
        Array.live += 1
        return ctypes.addressof(out)

    def deleted(self, address):
        self.when_deleted()
        Array.live -= 1
        GONE.clear()
        GONE.append(KEPT.pop(address))  # not now: its deleter is running

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.asked.append(stream)
        if stream not in (None, -1) and self.runtime is not None:
            self.runtime.order(self.stream, stream)
        return PY.PyCapsule_New(self.managed(), CAPSULE, None)


def view(base, shape, offset, dtype="float32"):
    """A Tensor over the memory of another one, from a byte of it on."""
    array = Array(_core.data_pointer(base), shape, dtype, offset=offset)
    array.base = base
    return fn.from_dlpack(array)


KEPT, GONE = {}, []
TO_MANAGED = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, POINTER(c_void_p))
CURRENT_STREAM = ctypes.PYFUNCTYPE(ctypes.c_int, c_int32, c_int32, POINTER(c_void_p))


class ExchangeApi(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("previous", c_void_p),
        ("allocate", c_void_p), ("to_managed", TO_MANAGED), ("from_managed", c_void_p),
        ("to_tensor", c_void_p), ("current_stream", CURRENT_STREAM),
    ]  # fmt: skip


class ExchangedArray(Array):
    """The same with the exchange API, so that nobody calls __dlpack__."""

    current = None  # the stream that the other library works on
    api = None

    def __dlpack__(self, **options):
        raise AssertionError("the exchange API was not used")


@TO_MANAGED
def _to_managed(array, out):
    out[0] = array.managed()
    return 0


@CURRENT_STREAM
def _current_stream(device_type, device_id, out):
    out[0] = ExchangedArray.current
    return 0


ExchangedArray.api = ExchangeApi(1, 3, None, None, _to_managed, None, None, _current_stream)
ExchangedArray.newer = ExchangeApi(
    2, 0, ctypes.addressof(ExchangedArray.api), None, _to_managed, None, None, _current_stream
)
ExchangedArray.__dlpack_c_exchange_api__ = PY.PyCapsule_New(
    ctypes.addressof(ExchangedArray.newer), EXCHANGE, None
)
