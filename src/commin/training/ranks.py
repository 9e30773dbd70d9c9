"""The processes of one training job, called ranks, and the sums they make together.

A launcher (``torchrun``, or Slurm through it) starts the processes and tells each its RANK, WORLD_SIZE and LOCAL_RANK.
Without one there is a single process, for which every sum is the value itself. Of a batch of B rows rank r of R takes
rows r, r + R, r + 2R, …; gradients of the mean over all B rows are summed once a step, after the micro-batches.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
from torch import Tensor, distributed

from commin.errors import UserError

PATIENCE = timedelta(hours=2)
"""How long ranks wait for the first, which validates alone. One that died is noticed at once."""

BUCKET = 1 << 26
"""Numbers summed at a time: more take no less time, but memory."""


def size() -> int:
    """R, the number of ranks; 1 without a launcher."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """r, 0 … R − 1; 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def job(device: torch.device) -> Iterator[torch.device]:
    """Join the job that a launcher started, if one did, and leave it after; gives this rank's device.

    Without an index ``cuda`` becomes ``cuda:LOCAL_RANK``. GPUs talk by NCCL, everything else by gloo. On a CPU each
    rank keeps to its share of the machine's cores, where the system lets it choose.

    Raises:
        UserError: the launcher's variables are wrong, or the other ranks cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield device
        return
    import torch.distributed.nn  # before there is a group: it would hold it by default arguments, past its end

    try:
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        elif device.type == "cpu":
            _keep_to_own_cores()
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"cannot join the job of {os.environ['WORLD_SIZE']} processes: {_line(error)}") from None
    yield device
    distributed.destroy_process_group()  # not after an error: a broken group may hang in it, and the message be lost


@contextmanager
def first_alone() -> Iterator[None]:
    """Inside, the first rank of each machine goes before the others, which then find what it has made."""
    ahead = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if not ahead:
        wait()
    yield
    if ahead:
        wait()


def wait() -> None:
    """Until every rank is here."""
    total(0.0)


def share(rows: Tensor) -> Tensor:
    """This rank's rows of a batch (B, …): every R-th, so that groups of rows at equal distance stay together."""
    return rows[rank() :: size()]


def total(value: float) -> float:
    """The sum of a number over the ranks."""
    return float(sum_here(torch.tensor(value, dtype=torch.float64)))


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor without gradient over the ranks; the tensor itself where there is one."""
    return value if size() == 1 else sum_here(value.detach().clone()) / size()


def pieces(costs: Sequence[float]) -> list[int]:
    """The numbers of the pieces of work that this rank does: the dearest first, each to whom has the least so far."""
    loads = [0.0] * size()
    mine = []
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        loads[least] += costs[index]
        if least == rank():
            mine.append(index)
    return mine


def sum_all(tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by its sum over the ranks, which must all have the same ones."""
    if size() == 1:
        return
    held: list[Tensor] = []
    for tensor in tensors:
        if held and (sum(each.numel() for each in held) >= BUCKET or held[0].dtype != tensor.dtype):
            _sum_together(held)
            held = []
        held.append(tensor)
    if held:
        _sum_together(held)


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradients by their sums over the ranks; who has none, where another rank has one, adds 0."""
    having = sum_here(torch.tensor([float(p.grad is not None) for p in parameters]))
    present = [p for p, count in zip(parameters, having.tolist(), strict=True) if count]
    for p in present:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    sum_all(p.grad for p in present if p.grad is not None)


def sum_here(value: Tensor) -> Tensor:
    """The sum of a tensor over the ranks, in place where it can be."""
    if size() > 1:
        on_cpu = value.device.type == "cpu" and distributed.get_backend() == "nccl"
        moved = value.cuda() if on_cpu else value
        try:
            distributed.all_reduce(moved)
        except RuntimeError as error:
            raise UserError(
                f"rank {rank()}: another process of the job is gone ({_line(error)}); go on from the last checkpoint "
                "with --resume"
            ) from None
        return moved.cpu() if on_cpu else moved
    return value


def _keep_to_own_cores() -> None:
    here, ranks_here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    each = len(cores) // ranks_here
    if own := cores[here * each : (here + 1) * each]:
        with suppress(OSError):  # a container may forbid it
            os.sched_setaffinity(0, own)


def _sum_together(tensors: list[Tensor]) -> None:
    flat = sum_here(torch.cat([tensor.flatten() for tensor in tensors]))
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
