"""Training past one process, on one machine or on many: who has which rows, and what they tell one another.

``torchrun`` starts the processes, and each of them runs the same program on the same data. They share out the rows of a
batch, add up gradients and errors, and the first of them writes. In a single process everything here does nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

Part, Result = TypeVar("Part"), TypeVar("Result")


class LostProcessError(ConnectionError):
    """One of the processes has ended, so the others cannot go on."""


def choose_device(device: str) -> str:
    """The device of that name; of "auto" CUDA, otherwise Apple's MPS, otherwise the CPU: the first that torch finds.

    Of several, "cuda:1" is the second.

    Raises
    ------
    ValueError
        torch does not find that of this name, or saerec knows none.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    kind = str(device).partition(":")[0]
    if kind not in there:
        raise ValueError(f"device must be 'cpu', 'cuda', 'mps' or 'auto', not {device!r}")
    if not there[kind]:
        raise ValueError(f"torch finds no {device} here: take device='cpu', or 'auto' for the best there is")
    return device


@contextmanager
def processes(device: str = "cpu") -> Iterator[None]:
    """Work together, within, with the other processes that ``torchrun`` started; without it, alone.

    They talk by gloo, and about what is on CUDA by NCCL, each process on the GPU of its number on its machine.

    Raises
    ------
    LostProcessError
        One of the others has ended.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    on_gpu = choose_device(device).startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise LostProcessError(
                f"process {rank()} of {size()} has lost another, which failed or was killed (its own message says why, "
                "if it could leave one): start all of them again, going on from the last checkpoint"
            ) from error
        raise
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0, which writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if size() > 1:
        distributed.barrier()


@contextmanager
def first_alone() -> Iterator[None]:
    """Within, the first process goes before the others: what it leaves on the disk they find there."""
    if rank():
        wait_for_all()
    yield
    if not rank():
        wait_for_all()


def total(*numbers: float) -> list[float]:
    """The sums of numbers over all processes."""
    if size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


def share(rows: np.ndarray) -> np.ndarray:
    """The rows of a batch that are this process's."""
    return rows[rank() :: size()]


def with_summed_gradients(module: nn.Module) -> nn.Module:
    """The module, whose gradients are from now on the mean of those of all processes."""
    return module if size() == 1 else DistributedDataParallel(module)


def in_turns(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """`work` of every part, in order, at the first process; all of them do the work. At the others, nothing.

    Every process must go through to the end.
    """
    for start in range(0, len(parts), size()):
        results = [work(part) for part in parts[start : start + size()][rank() : rank() + 1]]
        if size() > 1:
            of_all = [results] * size() if rank() == 0 else None  # filled by the next line
            distributed.gather_object(results, of_all)
            results = [*chain.from_iterable(of_all or [])]
        yield from results
