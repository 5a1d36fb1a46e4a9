"""Two kernels in PTX, which the driver compiles: nothing here needs nvcc."""

from __future__ import annotations

from typing import Any

import numpy as np

from medtex_edge.runtime.backend.tensorrt import cuda

_HEAD = ".version 6.0\n.target sm_50\n.address_size 64\n"
_PLUS = """
.visible .entry plus_one(.param .u64 to, .param .u64 of, .param .u32 count)
{
    .reg .pred %past;
    .reg .b32 %block, %size, %lane, %index, %count;
    .reg .b64 %to, %of, %offset;
    .reg .f32 %value;
    ld.param.u64 %to, [to];
    ld.param.u64 %of, [of];
    ld.param.u32 %count, [count];
    mov.u32 %block, %ctaid.x;
    mov.u32 %size, %ntid.x;
    mov.u32 %lane, %tid.x;
    mad.lo.u32 %index, %block, %size, %lane;
    setp.ge.u32 %past, %index, %count;
    @%past ret;
    mul.wide.u32 %offset, %index, 4;
    add.u64 %of, %of, %offset;
    add.u64 %to, %to, %offset;
    ld.global.f32 %value, [%of];
    add.f32 %value, %value, 0f3F800000;
    st.global.f32 [%to], %value;
    ret;
}
"""
_ASTRAY = """
.visible .entry astray()
{
    .reg .b64 %nowhere;
    .reg .b32 %zero;
    mov.u64 %nowhere, 64;
    mov.u32 %zero, 0;
    st.global.u32 [%nowhere], %zero;
    ret;
}
"""
_THREADS = 128


class Kernels:
    """Made, used and closed with the context current."""

    def __init__(self) -> None:
        import pycuda.driver

        self._module: Any = pycuda.driver.module_from_buffer((_HEAD + _PLUS + _ASTRAY).encode() + b"\0")
        self._plus: Any = self._module.get_function("plus_one")
        self._astray: Any = self._module.get_function("astray")

    def plus_one(self, to: cuda.Buffer, of: cuda.Buffer, stream: cuda.Stream) -> None:
        """Queue `to` = `of` + 1, float32 of equal size."""
        count = of.host.size
        self._plus(
            np.uint64(to.pointer), np.uint64(of.pointer), np.uint32(count),
            grid=(-(-count // _THREADS), 1), block=(_THREADS, 1, 1), stream=stream.native,
        )  # fmt: skip

    def astray(self, stream: cuda.Stream) -> None:
        """Queue a write to memory that belongs to no allocation: the context is lost by it."""
        self._astray(grid=(1, 1), block=(1, 1, 1), stream=stream.native)

    def close(self) -> None:
        self._plus = self._astray = self._module = None


class Sum:
    """`answer` = `number` + 1 with its buffers and its stream: work as a backend queues it."""

    def __init__(self, kernels: Kernels, *, mapped: bool, count: int = 1000) -> None:
        self.kernels = kernels
        self.stream = cuda.Stream()
        self.number = cuda.Buffer((count,), np.float32, mapped=mapped)
        self.answer = cuda.Buffer((count,), np.float32, mapped=mapped)

    def queue(self) -> None:
        self.number.upload(self.stream)
        self.kernels.plus_one(self.answer, self.number, self.stream)
        self.answer.download(self.stream)

    def close(self) -> None:
        for part in (self.number, self.answer, self.stream):
            part.close()
