"""The processes that train together, as torchrun starts them: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Team:
    """This process is the rank-th of so many."""

    rank: int = 0
    size: int = 1

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of every process's tensor, in place; all of them call it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, indices: torch.Tensor) -> tuple[torch.Tensor, float]:
        """This process's part of a batch, and the factor that makes the mean over processes of its mean loss that of the batch."""
        mine = indices[self.rank :: self.size]
        if not len(mine):  # every process takes part in every step
            return indices[:1], 0.0
        return mine, len(mine) * self.size / len(indices)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Team()


@contextmanager
def team() -> Iterator[tuple[Team, torch.device]]:
    """The team of a process that torchrun has started, and its device; any other process is alone."""
    if "LOCAL_RANK" not in os.environ:
        yield ALONE, torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return
    local = int(os.environ["LOCAL_RANK"])
    on_gpus = torch.cuda.is_available() and torch.cuda.device_count() > local
    device = torch.device("cuda", local) if on_gpus else torch.device("cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
