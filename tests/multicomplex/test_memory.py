"""What a pass allocates, counted by torch's own allocator, against the rows that the plan names."""

import pytest
import torch
from allocation import allocated
from multicomplex_oracles import DEVICES, perceptron
from torch import nn

from hodsim.multicomplex import Axes, derivatives, jacobian
from hodsim.multicomplex.layout import composition

BATCH, WIDTH = 64, 256
ROW = 8 * BATCH * WIDTH                                              # bytes


DIRECTIONS = {"three": (0, 1, 2), "two alike": (0, 0, 1), "all alike": (0, 0, 0)}


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.SiLU(), nn.ELU(), nn.GELU()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("which", DIRECTIONS.values(), ids=DIRECTIONS)
def test_third_order_holds_no_more_than_the_rows_of_the_plan(which, activation, device):
    """The seeds, a layer's input and output, the activation's derivatives f .. f''' and the parts of f'(Z) and f''(Z) that the plan lists."""
    f = perceptron((WIDTH,) * 4, activation).to(device).requires_grad_(False)
    x, *a = torch.randn(4, BATCH, WIDTH, dtype=torch.float64, device=device)
    directions = [a[k] for k in which]
    with torch.no_grad():
        plan = derivatives(f, x, *directions).layout
        assert plan.rows == {(0, 1, 2): 8, (0, 0, 1): 6, (0, 0, 0): 4}[which]
        inner = sum(plan.sizes[step.part] for step in composition(plan.key, 3).steps if step.level)
        assert allocated(lambda: derivatives(f, x, *directions).rows) <= (3 * plan.rows + 4 + inner) * ROW


def test_a_hessian_holds_its_pairs_and_no_square():
    """Input and output of a layer and f'(z) z_j + f''(z) z_i z_j in place: 2 rows for each pair i <= j, some for each axis."""
    n = 24
    f = perceptron((n, WIDTH, WIDTH, WIDTH), nn.Tanh()).requires_grad_(False)
    x, pairs = torch.randn(BATCH, n, dtype=torch.float64), n * (n + 1) // 2
    with torch.no_grad():
        assert derivatives(f, x, Axes(), Axes()).layout.rows == 1 + n + pairs
        assert allocated(lambda: derivatives(f, x, Axes(), Axes()).rows) <= (2 * pairs + 5 * (1 + n)) * ROW


def test_a_walk_backward_holds_the_adjoints_of_one_step():
    """An adjoint's rows before and after a step, and of each step of the pass what its slope is made of."""
    layers, m = 7, 64
    f = perceptron((WIDTH,) * layers + (m,), nn.Tanh()).requires_grad_(False)
    x = torch.randn(BATCH, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        assert allocated(lambda: jacobian(f, x, mode="backward")) <= (3 * m + 4 * layers) * ROW
