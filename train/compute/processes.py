"""Several processes, one training: who is main, what all must agree on, and who may speak.

Started by `accelerate launch` or `torchrun` (https://github.com/huggingface/accelerate), which say so in the
environment; started plainly there is one process, and nothing here communicates.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
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
    "look for a lack of memory (dmesg) or a machine that is gone; "
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
    """Of several processes that fail, the first speaks; the others end silently, with the same exit code.

    A launcher that sees one process gone ends the others by SIGTERM, at any moment: they say so before they go.
    """
    try:
        with _told_to_end():
            yield
    except (Exception, KeyboardInterrupt) as error:
        if group().count == 1:
            raise
        if not _first_to_fail():
            raise _silence(error) from error
        if _lost_a_peer(error):
            raise MedtexError("another process of this training ended without a word", hint=AFTER_A_LOSS) from error
        if isinstance(error, _ToldToEnd):
            raise MedtexError(
                "this training was ended from outside (SIGTERM)",
                hint=f"its launcher does that when one process ends without a word: {AFTER_A_LOSS}",
            ) from error
        raise


def shutdown() -> None:
    """Part from the other processes at the end of the command."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _several() -> bool:
    return any(os.environ.get(name, "1") not in ("", "1") for name in SIZES)


def _first_to_fail() -> bool:
    try:
        store: Any = dist.distributed_c10d._get_default_store()
        return int(store.add("medtex-edge/failed", 1)) == 1
    except (RuntimeError, ValueError):  # the machine that keeps the store is gone, and will not speak any more
        return True


class _ToldToEnd(KeyboardInterrupt):
    """SIGTERM: an interruption like Ctrl-C, whose sender is another program."""


@contextmanager
def _told_to_end() -> Iterator[None]:
    """The first SIGTERM in the block raises `_ToldToEnd`; one after the block failed leaves it time to say why."""
    if not _several() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def tell(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _ToldToEnd

    before = signal.signal(signal.SIGTERM, tell)
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
    if isinstance(error, _ToldToEnd) and error.__context__ is not None:
        return _lost_a_peer(error.__context__)
    if not isinstance(error, RuntimeError) or isinstance(error, MedtexError):
        return False
    words = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in words or "connection" in words or "nccl" in words
