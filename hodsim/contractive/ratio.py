"""How much an encoder contracts the neighbourhood of the data (HoD-Net, Fig. 6; Rifai et al. 2011)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def contractive_ratio(encoder: nn.Module, x: Tensor, radii: Tensor, *, draws: int = 4, generator: torch.Generator | None = None) -> Tensor:
    """The mean of |f(x + r u) - f(x)| / r for directions u uniform on the unit sphere, for each radius r, over that between samples:

        ratio(r) = mean |f(x + r u) - f(x)| / r  :  mean |f(x) - f(x')| / |x - x'|,   x' another sample

    x (B, ..) with B >= 2, radii (R,) in units of x; the result is (R,). Dividing by the data's own ratio takes the scale of the code out,
    which a decoder may undo; 1 is an encoder that contracts noise as much as what tells samples apart."""
    if len(x) < 2:
        raise ValueError(f"x holds {len(x)} sample; expected at least 2, for the distances between them")
    rows, code = x.flatten(1), encoder(x).flatten(1)
    apart = (code - code.roll(1, 0)).norm(dim=1) / (rows - rows.roll(1, 0)).norm(dim=1)
    own = apart[apart.isfinite()].mean()
    total = torch.zeros(len(radii), dtype=x.dtype, device=x.device)
    for _ in range(draws):
        u = torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(x)
        u /= u.norm(dim=1, keepdim=True)
        for i, r in enumerate(radii):
            moved = encoder((rows + r * u).view_as(x)).flatten(1)
            total[i] += ((moved - code).norm(dim=1) / r).mean()
    return total / (draws * own)
