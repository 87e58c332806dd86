"""Preconditioners M of the damped curvature C + lambda: identity, Jacobi, and Kronecker factors (KFAC).

    Jacobi     M = (diag(C) + lambda)^(3/4), diag(C) from C v * v over random signs v       Martens 2010, section 4.7
    KFAC       layer by layer  C ~ A x B,  A = E[a a^T],  B = sum g g^T,                     Martens & Grosse 2015
               a a layer's inputs (and 1 for its bias), g the gradients by its outputs of J^T H_L^(1/2) xi, xi random signs;
               (A x B + lambda)^-1 V = U_B [(U_B^T V U_A) / (s_B s_A^T + lambda)] U_A^T      exactly, by the eigenvectors of A and B
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hodsim import checks
from hodsim.multicomplex.parameters import output_hessian_product
from hodsim.optim.curvature import Batch, Product

DENSE_OUTPUTS = 64  # up to here H_L of a sample is factorised whole, beyond it its diagonal is taken

Store = dict[str, dict[str, Any]]  # tensors kept for each parameter, in the optimiser's state


class Preconditioner(Protocol):
    """refresh looks at the curvature and leaves tensors in the store; solve applies M^-1 to a vector in pieces."""

    every: int

    def refresh(self, batch: Batch, product: Product, store: Store, generator: torch.Generator) -> None: ...

    def solve(self, pieces: dict[str, Tensor], store: Store, damping: float) -> dict[str, Tensor]: ...


class Identity:
    """None."""

    every = 0

    def refresh(self, batch: Batch, product: Product, store: Store, generator: torch.Generator) -> None:
        pass

    def solve(self, pieces: dict[str, Tensor], store: Store, damping: float) -> dict[str, Tensor]:
        return pieces


class Jacobi:
    """The curvature's diagonal, estimated by some products every so many steps."""

    def __init__(self, *, every: int = 5, probes: int = 4, exponent: float = 0.75):
        self.every, self.probes, self.exponent = every, probes, exponent

    def refresh(self, batch: Batch, product: Product, store: Store, generator: torch.Generator) -> None:
        total = torch.zeros_like(w := batch.point())
        for _ in range(self.probes):
            v = signs(w, generator)
            total += (v * product(v)) ** 2
        for name, diagonal in batch.named((total / self.probes).sqrt()).items():
            store[name]["diagonal"] = diagonal.clone()

    def solve(self, pieces: dict[str, Tensor], store: Store, damping: float) -> dict[str, Tensor]:
        floor = damping + torch.finfo(next(iter(pieces.values())).dtype).eps
        return {name: v / (store[name]["diagonal"] + floor) ** self.exponent for name, v in pieces.items()}


class KroneckerFactored:
    """Kronecker factors of linear and convolutional layers; of other parameters the mean curvature of each tensor.

    every: steps between looks at the curvature. memory: decay of what earlier looks found; 0 takes the last alone, which fits batches that
    are large beside the number of weights. Raises ValueError for every below 1 and memory outside [0, 1)."""

    def __init__(self, *, every: int = 5, memory: float = 0.0):
        self.every, self.memory = checks.at_least_one("every", every), checks.below_one("memory", memory)

    def refresh(self, batch: Batch, product: Product, store: Store, generator: torch.Generator) -> None:
        for kept in store.values():
            kept.pop("in_vectors", None)
        criterion = batch.criterion()
        with recorded(batch.module) as calls, torch.enable_grad():
            output = batch.output()
        parameters = dict(batch.module.named_parameters())
        outputs = [y for layer in calls.values() for _, y in layer]
        rest = [name for name in batch.names if name not in _factored(batch.module)]
        probe = root_of_output_hessian(criterion, output.detach(), generator)
        found = torch.autograd.grad(output, [*outputs, *(parameters[name] for name in rest)], probe, allow_unused=True)
        by_output = iter(found[: len(outputs)])
        for name, gradient in zip(rest, found[len(outputs) :], strict=True):
            store[name]["mean"] = self._mean(store[name], "mean", parameters[name].new_zeros(()) if gradient is None else (gradient**2).mean())
        for prefix, layer in calls.items():
            module = batch.module.get_submodule(prefix)
            pairs = [(inputs_of(module, x), by_row(module, g)) for (x, _), g in zip(layer, by_output, strict=False) if g is not None]
            weight = f"{prefix}.weight" if prefix else "weight"
            if weight in store and pairs:
                a, g = (torch.cat(rows) for rows in zip(*pairs, strict=True))
                kept = store[weight]
                kept["in_values"], kept["in_vectors"] = eigen(self._mean(kept, "in", a.T @ a / len(a)))
                kept["out_values"], kept["out_vectors"] = eigen(self._mean(kept, "out", g.T @ g))

    def _mean(self, kept: dict[str, Tensor], name: str, found: Tensor) -> Tensor:
        """Of what this look and those before it found, by their decayed weights; its sums are kept under the name."""
        if not self.memory:
            return found
        total, weight = kept.get(f"{name}_sum", torch.zeros_like(found)), kept.get(f"{name}_weight", found.new_zeros(()))
        kept[f"{name}_sum"], kept[f"{name}_weight"] = self.memory * total + found, self.memory * weight + 1
        return kept[f"{name}_sum"] / kept[f"{name}_weight"]

    def solve(self, pieces: dict[str, Tensor], store: Store, damping: float) -> dict[str, Tensor]:
        small = torch.finfo(next(iter(pieces.values())).dtype).eps
        result: dict[str, Tensor] = {}
        for name, v in pieces.items():
            kept = store[name]
            if name in result:
                continue
            if "in_vectors" in kept:
                bias = name.removesuffix("weight") + "bias"
                V = v.reshape(len(v), -1)
                if bias in pieces:
                    V = torch.cat([V, pieces[bias][:, None]], 1)
                U_A, U_B = kept["in_vectors"], kept["out_vectors"]
                if U_A.shape[0] > V.shape[1]:  # a bias that is not trained
                    V = F.pad(V, (0, 1))
                spectrum = torch.outer(kept["out_values"], kept["in_values"])
                V = U_B @ (U_B.T @ V @ U_A / (spectrum + damping + small * spectrum.max())) @ U_A.T
                if bias in pieces:
                    result[bias] = V[:, -1]
                result[name] = V[:, : v[0].numel()].reshape(v.shape)
            elif "mean" in kept:
                result[name] = v / (kept["mean"] + damping + small)
        return {name: result.get(name, v / damping if damping else v) for name, v in pieces.items()}


def signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, the same on every device."""
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except RuntimeError:  # single precision gives up on many equal eigenvalues, as of pixels that are always dark
        values, vectors = (part.to(matrix) for part in torch.linalg.eigh(matrix.double()))
    return values.clamp_min(0), vectors


def root_of_output_hessian(criterion: Any, output: Tensor, generator: torch.Generator) -> Tensor:
    """H_L^(1/2) xi over random signs xi, of the output's shape (N, *M); E of its square is H_L. Two products of signs agree when H_L is
    diagonal. Else a loss that is a sum over samples has blocks (M, M), which are factorised up to DENSE_OUTPUTS."""
    xi, other = signs(output, generator), signs(output, generator)
    diagonal, again = (output_hessian_product(criterion, output, v) * v for v in (xi, other))
    width = output[0].numel()
    if torch.allclose(diagonal, again, rtol=1e-4, atol=1e-6 * float(diagonal.abs().max())) or width > DENSE_OUTPUTS:
        return diagonal.clamp_min(0).sqrt() * xi
    columns = []
    for j in range(width):
        unit = torch.zeros_like(output).reshape(len(output), -1)
        unit[:, j] = 1
        columns.append(output_hessian_product(criterion, output, unit.view_as(output)).reshape(len(output), -1))
    values, vectors = torch.linalg.eigh(torch.stack(columns, 2))
    return (vectors @ (values.clamp_min(0).sqrt() * xi.reshape(len(xi), -1))[:, :, None]).reshape(output.shape)


@contextmanager
def recorded(module: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Inputs and outputs of the layers that have Kronecker factors, call by call, of what runs within the block."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    names = {layer: name for name, layer in module.named_modules() if is_factored(layer)}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            calls.setdefault(names[layer], []).append((inputs[0].detach(), output))

    handles = [layer.register_forward_hook(note) for layer in names]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def is_factored(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
                                            and not isinstance(layer.padding, str))


def _factored(module: nn.Module) -> set[str]:
    return {f"{prefix}.{name}" if prefix else name for prefix, layer in module.named_modules() if is_factored(layer)
            for name, _ in layer.named_parameters(recurse=False)}


def inputs_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Rows (N, inputs) that meet the layer's weight, a one appended where there is a bias. A convolution has one a place."""
    if isinstance(layer, nn.Conv2d):
        x = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)  # type: ignore[arg-type]
        places = x.shape[1]
        rows = x.reshape(-1, x.shape[-1]) * places**0.5  # the curvature sums over places what the mean of rows averages
        one = places**0.5
    else:
        rows, one = x.reshape(-1, x.shape[-1]), 1.0
    return rows if layer.bias is None else F.pad(rows, (0, 1), value=one)


def by_row(layer: nn.Module, g: Tensor) -> Tensor:
    """Gradients (N, outputs) in the order of the rows of inputs_of."""
    if isinstance(layer, nn.Conv2d):
        g = g.flatten(2).transpose(1, 2) / (g.shape[2] * g.shape[3]) ** 0.5
    return g.reshape(-1, g.shape[-1])
