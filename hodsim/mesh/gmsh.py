"""The largest number of a vertex in a .msh file: meshio makes a table of that length, however small the file is."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FORMAT = rb"\A\s*(?:\$Comments.*?\$EndComments\s*)?\$MeshFormat\s+(\d+)(?:\.(\d+))?\s+([01])\s"
BLOCK = "=iiiQ"  # before the vertices of an entity: its dimension and tag, whether there are parameters, how many vertices


def largest_vertex_number(path: Path) -> int:
    """Zero where nothing of the kind can be read; what is wrong is for meshio to say."""
    data = path.read_bytes()
    head, nodes = re.search(FORMAT, data, re.DOTALL), re.search(rb"\$Nodes[^\n]*\n", data)
    if head is None or nodes is None:
        return 0
    version = int(head[1]), int(head[2] or 0)
    if head[3] == b"0":
        found = _in_text(data[nodes.end() : data.find(b"$End", nodes.end())], version)
    elif version[0] == 4:
        found = _in_bytes(data, nodes.end(), version)
    else:
        return 0  # binary files of version 2 count from one to the last
    return max((int(tags.max()) for tags in found if tags.size and np.isfinite(tags).all()), default=0)


def _in_text(text: bytes, version: tuple[int, int]) -> Iterator[np.ndarray]:
    """The numbers, entity by entity."""
    try:
        x = np.fromstring(text, sep=" ")
    except ValueError:
        return
    if version[0] < 4:  # a count, then number and place of each
        yield x[1::4]
        return
    at = 4 if version >= (4, 1) else 2
    while at + 3 < len(x) and 0 <= x[at + 3] <= len(x):
        count = int(x[at + 3])
        yield x[at + 4 : at + 4 + count] if version >= (4, 1) else x[at + 4 : at + 4 + 4 * count : 4]
        at += 4 + 4 * count


def _in_bytes(data: bytes, start: int, version: tuple[int, int]) -> Iterator[np.ndarray]:
    (blocks,) = struct.unpack_from("=Q", data, start) if start + 8 <= len(data) else (0,)
    at = start + (32 if version >= (4, 1) else 16)
    for _ in range(min(blocks, len(data))):
        if at + struct.calcsize(BLOCK) > len(data):
            return
        count = struct.unpack_from(BLOCK, data, at)[3]
        at += struct.calcsize(BLOCK)
        if at + 28 * count > len(data):
            return
        if version >= (4, 1):  # all numbers, then all places
            yield np.frombuffer(data, np.uint64, count, at)
            at += 32 * count
        else:
            yield np.frombuffer(data, [("number", np.int32), ("place", np.float64, 3)], count, at)["number"]
            at += 28 * count
