"""Memory at work, as a test's oracle."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def allocated(f: Callable[[], object]) -> int:
    """The most bytes that f's tensors hold at a time, f's result among them, counted by torch's own allocator."""
    f()                                                              # plans and buffers that stay
    devices = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=devices, profile_memory=True) as profiler:
        f()
    live = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most
