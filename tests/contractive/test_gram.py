"""The Jacobian term by Gram matrices that meet in the middle: against dense torch.func, and when they are chosen."""

import pytest
import torch
from contractive_oracles import SMOOTH, agree, perceptron, samples
from torch import nn

from hodsim.contractive import contractive_terms
from hodsim.contractive import perceptron as ways
from hodsim.contractive.gram import Slopes

PIECEWISE = [nn.ReLU, nn.LeakyReLU]
DEPTHS = {"two activations": (5, 7, 6, 4), "three": (5, 7, 6, 8, 4)}


@pytest.fixture
def always_by_gram(monkeypatch):
    """It is chosen whatever it costs; the list that is yielded grows at each use."""
    used, terms = [], ways._ByGram.terms

    def spy(self, *arguments):
        used.append(self)
        return terms(self, *arguments)

    monkeypatch.setattr(ways._ByGram, "multiply_adds", lambda *_: 0)
    monkeypatch.setattr(ways._ByGram, "terms", spy)
    return used


@pytest.mark.parametrize("activation", [*SMOOTH, *PIECEWISE])
@pytest.mark.parametrize("widths", DEPTHS.values(), ids=DEPTHS)
def test_gram_matrices_agree_with_dense_derivatives(activation, widths, always_by_gram):
    agree(perceptron(widths, activation), samples(4, 5), 0.7, 0.0)
    assert always_by_gram


@pytest.mark.parametrize("widths", DEPTHS.values(), ids=DEPTHS)
def test_gram_matrices_agree_within_single_precision(widths, always_by_gram):
    agree(perceptron(widths, nn.ELU, dtype=torch.float32), samples(4, 5, torch.float32), 0.7, 0.0)
    assert always_by_gram


def test_a_sample_whose_slopes_are_all_alike_multiplies_nothing(always_by_gram):
    net = perceptron((5, 7, 6, 8, 4), nn.ReLU)
    net[0].bias.data += 100.0  # every unit of the first layer is on
    agree(net, samples(4, 5), 0.7, 0.0)
    assert all(len(S) == 0 for S in always_by_gram[0].outer[0].units)


def test_a_unit_that_only_happens_to_have_the_common_slope_keeps_its_gradient():
    slopes, curvatures = torch.tensor([[1.0, 1.0, 0.5]]), torch.tensor([[0.0, 0.3, 0.5]])
    (S,) = Slopes.of([slopes, curvatures]).units
    assert S.tolist() == [1, 2]


@pytest.mark.parametrize("activation, chosen", [(nn.ELU, True), (nn.Tanh, False)])
def test_it_is_chosen_where_it_multiplies_less(activation, chosen, monkeypatch):
    """Half of ELU's slopes are one at random weights; without a common slope lanes take fewer multiply-adds."""
    used = []
    monkeypatch.setattr(ways, "meet", lambda *arguments, meet=ways.meet, **options: used.append(1) or meet(*arguments, **options))
    contractive_terms(perceptron((60, 20, 20, 20, 20), activation), samples(64, 60))
    assert bool(used) == chosen
