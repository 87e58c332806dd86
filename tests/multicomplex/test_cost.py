"""The modes and their rows against the products that are done: counted by torch's own flop counter."""

import pytest
import torch
from multicomplex_oracles import perceptron
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hodsim.multicomplex import hessian, hessian_mode, jacobian, jacobian_mode

NETS = {"few inputs": (4, 32, 32, 24), "as many": (20, 24, 24, 20), "few outputs": (24, 32, 32, 4), "wide entrance": (12, 200, 8, 11),
        "narrow entrance": (40, 6, 30, 8)}


def net(name: str) -> nn.Module:
    return perceptron(NETS[name], nn.Tanh()).requires_grad_(False)


def rows(f, x, whole, mode: str) -> float:
    """Multiply-adds of a whole derivative in units of one plain pass."""
    def counted(call) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call()
        return counter.get_total_flops()

    return counted(lambda: whole(f, x, mode=mode)) / counted(lambda: f(x.unsqueeze(0)))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("whole", "mode_of"), [(jacobian, jacobian_mode), (hessian, hessian_mode)])
def test_the_chosen_mode_is_the_one_with_fewer_counted_products(name, whole, mode_of):
    f, x = net(name), torch.ones(NETS[name][0], dtype=torch.float64)
    choice = mode_of(f, x)
    counted = {mode: rows(f, x, whole, mode) for mode in ("forward", "backward")}
    for mode, expected in counted.items():                           # the model counts elementwise work too, the counter does not
        assert choice.rows[mode] == pytest.approx(expected, rel=0.1)
    assert counted[choice.name] == min(counted.values())


def test_the_papers_networks_go_the_ways_of_its_rule():
    """Forward for M > N, backward for N > M, at both orders."""
    for n, m, mode in ((40, 400, "forward"), (400, 40, "backward")):
        f, x = perceptron((n, *[200] * 7, m), nn.ELU()).requires_grad_(False), torch.ones(n, dtype=torch.float64)
        assert jacobian_mode(f, x).name == hessian_mode(f, x).name == mode


def test_the_rule_is_refined_where_the_entrance_is_most_of_the_work():
    """Twelve inputs, eleven outputs: N against M says backward, but forward gets the large entrance for nothing."""
    f, x = net("wide entrance"), torch.ones(12, dtype=torch.float64)
    assert jacobian_mode(f, x).name == "forward"


def test_only_forward_is_offered_where_the_sum_over_steps_cannot_be_taken():
    x = torch.ones(3, 6, dtype=torch.float64)
    choice = hessian_mode(lambda t: torch.einsum("...i,...i->...", t.sin(), t.cos()).unsqueeze(-1), x)
    assert choice.name == "forward" and set(choice.rows) == {"forward"}
