"""Several processes, one training: who is the main one, what all agree on, and random draws and batch norm over all.

Processes are started by `accelerate launch` or `torchrun` (https://github.com/huggingface/accelerate), which describe
them in the environment. A training that was started plainly has one process, and nothing here communicates.

Random numbers: each process draws for all photographs of the batch and keeps its own rows. So a photograph's
augmentation and masks depend on the seed, the step and its place in the whole batch, and not on how many processes
train. The photograph at place i of a batch belongs to process i mod count: the first half of every slice is then the
first half of the batch, and so for any part. Outside of a training step these functions draw from PyTorch's global
generator, as anything else does.

Batch norm: PyTorch's SyncBatchNorm needs GPUs. On CPUs the layers' forward is replaced by the same mathematics, so that
several processes can be proved to do what one does (Ioffe & Szegedy, ICML 2015, over the union of the slices).
"""

from __future__ import annotations

import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medtex_edge.errors import MedtexError, SettingsError

Result = TypeVar("Result")
PATIENCE = timedelta(hours=4)  # what one process may take alone: reading photographs, evaluating, writing
# torchrun and accelerate name the first; the others are those of MPI's launchers, which accelerate can use.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Group:
    """This process's place among `count`; the device that the launcher means for it (None: its own choice)."""

    index: int = 0
    count: int = 1
    device: torch.device | None = None

    @property
    def main(self) -> bool:
        return self.index == 0


ALONE = Group()
AFTER_A_LOSS = (
    "check for a lack of memory (dmesg) or a machine that is gone; "
    "the same command goes on after the last finished epoch"
)


@cache
def group() -> Group:
    """The processes of this training; the first call joins them (nccl between GPUs, gloo between CPUs)."""
    if not _several():
        return ALONE
    from accelerate import PartialState

    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    return Group(state.process_index, state.num_processes, state.device)


def on_main(function: Callable[[], Result]) -> Result:
    """Run on the main process; every process gets its result (picklable), or raises its error."""
    if group().count == 1:
        return function()
    found: list[Any] = [None, None]
    if group().main:
        try:
            found[0] = function()
        except MedtexError as error:
            found[1] = error
    dist.broadcast_object_list(found, src=0)
    if found[1] is not None:
        raise found[1]
    result: Result = found[0]
    return result


@contextmanager
def main_first() -> Iterator[None]:
    """On each machine one process does the block before the others, who find its work done."""
    if group().count == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState().local_main_process_first():
        yield


def mean_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in place and in one message."""
    count = group().count
    if count == 1:
        return
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= count
    with torch.no_grad():
        for tensor, piece in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(piece.view(tensor.shape))


def start_alike(module: nn.Module) -> None:
    """Give every process the main one's weights."""
    if group().count > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, src=0)


def slice_size(batch: int) -> int:
    """Photographs per process of a batch of all. Raises `SettingsError` where it cannot be shared out evenly."""
    count = group().count
    if batch % count:
        raise SettingsError(
            f"batch: {batch} photographs per step cannot be shared evenly by {count} processes",
            hint=f"--batch counts the photographs of all processes together; take a multiple of {count}",
        )
    return batch // count


@contextmanager
def rank0_errors() -> Iterator[None]:
    """Of several processes that fail, the first reports its error; the others end silently with the same exit code.

    A launcher that detects the loss of one process ends the others by SIGTERM, at any moment; they report that first.
    """
    try:
        with _sigterm_raises():
            yield
    except (Exception, KeyboardInterrupt) as error:
        if group().count == 1:
            raise
        if not _first_to_fail():
            raise _silence(error) from error
        if _lost_a_peer(error):
            raise MedtexError("another process of this training ended without a message", hint=AFTER_A_LOSS) from error
        if isinstance(error, _Terminated):
            raise MedtexError(
                "this training was ended from outside (SIGTERM)",
                hint=f"its launcher does that when one process ends without a message: {AFTER_A_LOSS}",
            ) from error
        raise


def shutdown() -> None:
    """Leave the process group at the end of the command; one that this training did not join stays."""
    if group().count > 1 and dist.is_initialized():
        dist.destroy_process_group()


def _several() -> bool:
    return any(os.environ.get(name, "1") not in ("", "1") for name in SIZES)


def _first_to_fail() -> bool:
    try:
        store: Any = dist.distributed_c10d._get_default_store()
        return int(store.add("medtex-edge/failed", 1)) == 1
    except (RuntimeError, ValueError):  # the machine that keeps the store is gone and reports nothing
        return True


class _Terminated(KeyboardInterrupt):
    """SIGTERM: an interruption like Ctrl-C, whose sender is another program."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """The first SIGTERM in the block raises `_Terminated`; one after the block failed leaves it time to report why."""
    if not _several() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)


def _silence(error: BaseException) -> BaseException:
    from click.exceptions import Exit

    return Exit(error.exit_code if isinstance(error, MedtexError) else 1)


def _lost_a_peer(error: BaseException) -> bool:
    """Whether the error, or what was being handled when it came, is that of talking to a process that is gone."""
    if isinstance(error, _Terminated) and error.__context__ is not None:
        return _lost_a_peer(error.__context__)
    if not isinstance(error, RuntimeError) or isinstance(error, MedtexError):
        return False
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in text or "connection" in text or "nccl" in text


# --- random draws that all processes share


@dataclass
class RankSlice:
    """Rows index, index + count, index + 2 count ... of a batch; `drawn` numbers the draws of a step."""

    index: int = 0
    count: int = 1
    seed: int = 0
    drawn: int = 0

    def of(self, rows: Tensor) -> Tensor:
        """This process's rows of (N * count, ...)."""
        return rows[self.index :: self.count]


_current_slice: ContextVar[RankSlice | None] = ContextVar("rank_slice", default=None)


@contextmanager
def seeded_step(index: int, count: int, *seed: int) -> Iterator[None]:
    """One training step of process `index` of `count`, seeded by the numbers `seed`.

    A draw outside of `draw_rows` and `common_draws` differs by process.
    """
    token = _current_slice.set(RankSlice(index, count, _hash(*seed)))
    torch.manual_seed(_hash(*seed, index))
    try:
        yield
    finally:
        _current_slice.reset(token)


@contextmanager
def common_draws(device: torch.device | None = None) -> Iterator[RankSlice | None]:
    """Inside a step: a generator that is the same in all processes, on the CPU and on `device`; else as it was."""
    rank_slice = _current_slice.get()
    if rank_slice is None:
        yield None
        return
    rank_slice.drawn += 1
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_hash(rank_slice.seed, rank_slice.drawn))
        yield rank_slice


def draw_rows(count: int, draw: Callable[[int], Tensor], device: torch.device | None = None) -> Tensor:
    """`draw(n)` gives n independent random rows (n, ...); returns this process's `count` of one draw for all."""
    with common_draws(device) as rank_slice:
        return draw(count) if rank_slice is None else rank_slice.of(draw(count * rank_slice.count))


def count_in_last(fraction: float, count: int) -> int:
    """How many of this process's `count` photographs are among the last `fraction` of the whole batch."""
    rank_slice = _current_slice.get() or RankSlice()
    total = count * rank_slice.count
    first = total - round(fraction * total)
    return sum(place >= first for place in range(rank_slice.index, total, rank_slice.count))


def _hash(*numbers: int) -> int:
    return zlib.crc32(repr(numbers).encode())


# --- batch norm over the batch of all processes


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _batch_norm_forward(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if not self.training:
        return type(self).forward(self, x)
    y = _normalised(self, x)
    for name in ("drop", "act"):  # timm's BatchNormAct2d goes on with these
        if hasattr(self, name):
            y = getattr(self, name)(y)
    return y


def _normalised(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """(N, C, h, w) -> the same, by mean and variance over all processes; moves the running statistics."""
    rows = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    count = rows.numel() // rows.shape[1]
    variance, mean = torch.var_mean(rows, dim=(0, 2, 3), correction=0)
    # float64: a variance out of a mean of squares cancels otherwise.
    mean64, square64 = mean.double(), variance.double() + mean.double().square()
    weight = torch.full_like(mean64[:1], count)
    total: Tensor = _Sum.apply(torch.cat([count * mean64, count * square64, weight]))
    n = total[-1]
    mean64, square64 = (total[:-1] / n).chunk(2)
    variance64 = square64 - mean64.square()
    if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean64.to(self.running_mean.dtype), rate)
            self.running_var.lerp_((variance64 * n / (n - 1)).to(self.running_var.dtype), rate)
    scale = (variance64 + self.eps).rsqrt().to(rows.dtype)
    y = (rows - mean64.to(rows.dtype)[:, None, None]) * scale[:, None, None]
    if self.affine:
        y = y * self.weight[:, None, None] + self.bias[:, None, None]
    return y.to(x.dtype)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch norm of the module count over all processes. State dicts and answers stay the same."""
    if device.type != "cpu":
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = MethodType(_batch_norm_forward, layer)  # type: ignore[method-assign]
    return module
