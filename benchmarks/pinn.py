"""Physics-informed networks: accuracy in five minutes on one core (HoD-Net, eq. 13, Fig. 7), and the cost of their derivatives.

Each seed trains the paper's 2 -> 100 x 4 -> 8 tanh network in float64 in a process of one thread. Relative L2 error over all eight fields
on 101^2 points. The Laplacian with its gradient by the parameters is timed at 1000 points against nested torch.autograd.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from hodsim.multicomplex import derivatives, laplacian
from hodsim.pinn import network
from hodsim.pinn.problems import PROBLEMS, paper_poisson
from hodsim.report.machine import environment
from hodsim.storage import write_atomically
from hodsim.trainers.pinn import train_pinn

SEEDS, SECONDS, QUICK_SECONDS, OTHER_SECONDS = (0, 1, 2), 300.0, 20.0, 20.0
POINTS, REPEATS = 1000, 7
SHOWN = (1, 3, 5, 8)  # wave numbers k in the figure
DIMENSIONS, ORDERS = (2, 5, 10, 20, 50, 100), (1, 2, 3, 4, 5, 6)


def train(name: str, seed: int, seconds: float, method: str = "levenberg-marquardt") -> dict[str, Any]:
    """One training in this process, on one thread: its history, and for the paper's problem the fields on the test grid."""
    torch.set_num_threads(1)  # of a process that does nothing else
    problem = PROBLEMS[name]()
    model = network(problem, seed=seed)
    with threadpool_limits(1):
        history = train_pinn(model, problem, seconds=seconds, method=method)  # type: ignore[arg-type]
    found = {"problem": problem.name, "seed": seed, "method": method, "steps": len(history.loss), "seconds": history.spent,
             "loss": history.loss[-1], "error": history.error[-1][1], "curve": history.error}  # fmt: skip
    if name == "paper":
        with torch.no_grad():
            found["fields"] = model(problem.test_points)
    return found


def train_apart(*arguments: Any) -> dict[str, Any]:
    """`train` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, *arguments).result()
