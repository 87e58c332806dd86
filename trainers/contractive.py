"""Train a contractive autoencoder (HoD-Net, eq. 11), with the loop of every trainer: checkpoints that resume exactly, the best kept.

The decoder has the encoder's transposed weights: with weights of its own it could undo any shrinking of the code, and both terms would
fall without the code's becoming more robust.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hodsim.contractive import RandomInputs, contractive_loss
from hodsim.trainers.loop import Fit, Progress, fit


@dataclass(frozen=True)
class ContractiveTraining:
    """Widths of the encoder's layers behind the input, the weights alpha and beta of eq. 11, Adam's settings.

    random_inputs: as many inputs drawn a batch instead of all; 0: exact."""

    widths: tuple[int, ...] = (400, 400, 400, 400)
    jacobian_weight: float = 0.0
    hessian_weight: float = 0.0
    random_inputs: int = 0
    memory_mib: float = 64.0
    epochs: int = 20
    batch: int = 100
    learning_rate: float = 2e-3
    seed: int = 0


class TiedAutoencoder(nn.Module):
    """encoder: linear layers with ELU between them; decoder: their transposes, with biases of its own."""

    def __init__(self, inputs: int, widths: tuple[int, ...]):
        super().__init__()
        layers: list[nn.Module] = []
        for n, m in pairwise((inputs, *widths)):
            layers += [nn.Linear(n, m), nn.ELU()]
        self.encoder = nn.Sequential(*layers[:-1])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(n)) for n in (inputs, *widths[:-1])])

    def decode(self, code: Tensor) -> Tensor:
        """(B, inputs) from (B, widths[-1])."""
        linear = [layer for layer in self.encoder if isinstance(layer, nn.Linear)]
        for l in reversed(range(len(linear))):
            code = F.linear(code, linear[l].weight.T, self.biases[l])
            code = F.elu(code) if l else code
        return code

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encoder(x))


def train_contractive(
    x: Tensor, validation: Tensor, training: ContractiveTraining, *, checkpoint: Path, progress: Progress | None = None
) -> tuple[TiedAutoencoder, Fit]:
    """The autoencoder of the samples x (n, inputs) with the least reconstruction error on the validation samples, on the device of x.

    An interrupted training of the same data and settings continues from its checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = TiedAutoencoder(x.shape[1], training.widths).to(x)

    def loss(indices: Tensor) -> Tensor:
        along = None
        if training.random_inputs:  # seeded by the batch, so that a resumed training draws the same
            drawn = int.from_bytes(hashlib.sha256(indices.numpy().tobytes()).digest()[:6], "little")
            along = RandomInputs(training.random_inputs, torch.Generator().manual_seed(drawn))
        if not (training.jacobian_weight or training.hessian_weight):
            return F.mse_loss(model(x[indices]), x[indices])
        return contractive_loss(
            model.encoder, _Decoder(model), x[indices], jacobian_weight=training.jacobian_weight,
            hessian_weight=training.hessian_weight, along=along, memory_mib=training.memory_mib,
        )[0]  # fmt: skip

    fitted = fit(
        model, loss, samples=len(x), validate=lambda: float(F.mse_loss(model(validation), validation)),
        optimizer=torch.optim.Adam(model.parameters()),
        rate=lambda done: training.learning_rate * 0.5 * (1 + math.cos(math.pi * done)),
        epochs=training.epochs, batch=training.batch, seed=training.seed, checkpoint=checkpoint,
        identity=json.dumps([hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest()[:16], asdict(training)]), progress=progress,
    )  # fmt: skip
    return model, fitted


class _Decoder(nn.Module):
    """decode() of an autoencoder, as a module that owns nothing."""

    def __init__(self, model: TiedAutoencoder):
        super().__init__()
        self.forward = model.decode
