"""Functions of many rows, launched on CUDA as one graph each instead of some hundreds of small kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Rowwise = Callable[..., Tensor]  # of tensors of k rows each: k rows
Replay = tuple[Callable[[], None], tuple[Tensor, ...], Tensor]  # what computes the last from the inputs between

WARM_UP = 3  # runs before a capture, in which the libraries allocate what they keep


class Captured:
    """A function whose graphs are of 1, 2, 4, ... rows, each captured when first needed; the rows that a call lacks repeat its first.

    The function may launch only what a graph can hold: nothing that waits for the device, or copies from the host."""

    def __init__(self, function: Rowwise):
        self.function = function
        self._replays: dict[int, Replay] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        count = len(inputs[0])
        size = 1 << (count - 1).bit_length()
        if size not in self._replays:
            self._replays[size] = self._capture(tuple(x[:1].repeat_interleave(size, 0) for x in inputs))
        replay, held, result = self._replays[size]
        for kept, given in zip(held, inputs, strict=True):
            kept[:count] = given
            kept[count:] = given[:1]
        replay()
        return result[:count].clone()

    def _capture(self, held: tuple[Tensor, ...]) -> Replay:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.function(*held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.function(*held)
        return graph.replay, held, result
