"""What an evaluation asks of its device, seen without one: tensors of the device "meta" have shapes and no numbers, so that whoever looks at
numbers raises, and whoever reads from the host is named here."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Launches(TorchDispatchMode):
    """Counts operations on the device, and names those that mix it with a host tensor of any dimension.

    A CUDA graph cannot hold these: it would repeat what the host held once. A number without dimension goes with the launch."""

    def __init__(self):
        super().__init__()
        self.count, self.from_host = 0, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        on_device = any(x.is_meta for x in tensors)
        self.count += on_device
        if on_device and any(x.dim() for x in tensors if not x.is_meta):
            self.from_host.append(str(operation))
        return result
