"""Both terms of eq. 10 and their gradients against dense torch.func, closed forms, and the exact terms for the estimates."""

import pytest
import torch
from allocation import allocated
from contractive_oracles import SMOOTH, agree, perceptron, samples
from torch import nn

from hodsim.contractive import AllAxes, Hutchinson, RandomInputs, contractive_loss, contractive_terms, lanes

ON = {"jacobian": (0.7, 0.0), "hessian": (0.0, 0.3), "both": (0.7, 0.3)}


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("ends_linear", [True, False])
def test_every_smooth_activation_agrees_with_dense_derivatives(activation, ends_linear):
    agree(perceptron((5, 7, 6, 4), activation, ends_linear=ends_linear), samples(3, 5), 0.7, 0.3)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_activations_that_do_not_bend_have_no_second_term(activation):
    encoder, x = perceptron((5, 7, 6, 4), activation), samples(3, 5)
    agree(encoder, x, 0.7, 0.3)
    assert contractive_terms(encoder, x, hessian_weight=0.3).hessian == 0


def test_units_that_bend_only_further_on_count_in_the_gradient():
    """Of tanh the second derivative is zero at zero, where the third is not: there lie all units of a sample, without biases."""
    encoder, x = perceptron((5, 7, 6, 4), nn.Tanh), samples(3, 5)
    with torch.no_grad():
        encoder[0].bias.zero_()
        x[1] = 0
    agree(encoder, x, 0.7, 0.3, memory_mib=1e-3)


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("ends_linear", [True, False])
@pytest.mark.parametrize("weights", ON)
def test_every_depth_agrees_with_dense_derivatives(depth, ends_linear, weights):
    if depth == 1 and ends_linear and weights == "hessian":
        pytest.skip("a linear encoder's second derivatives are zero")
    agree(perceptron((5, 7, 6, 5, 6, 4, 3)[: depth + 1], nn.SiLU, ends_linear=ends_linear), samples(3, 5), *ON[weights])


@pytest.mark.parametrize("widths", [(9, 4, 5, 3), (3, 4, 5, 9), (4, 9, 4, 9), (9, 3, 9, 2)])
@pytest.mark.parametrize("ends_linear", [True, False])
@pytest.mark.parametrize("weights", ON)
def test_wide_and_narrow_layers_agree_in_either_direction_with_and_without_gram(widths, ends_linear, weights):
    agree(perceptron(widths, ends_linear=ends_linear), samples(2, widths[0]), *ON[weights])


@pytest.mark.parametrize("weights", ON)
def test_float32_agrees_within_its_precision(weights):
    agree(perceptron((8, 10, 9, 6), nn.ELU, dtype=torch.float32), samples(4, 8, torch.float32), *ON[weights])


@pytest.mark.parametrize("memory", [1e-6, 1e-3, 3e-3, 1.0])
@pytest.mark.parametrize("weights", ["jacobian", "both"])
def test_chunks_of_any_size_give_the_same(memory, weights):
    agree(perceptron((7, 8, 6, 5)), samples(5, 7), *ON[weights], memory_mib=memory)


@pytest.mark.parametrize("weights", ["jacobian", "both"])
def test_symmetric_products_by_blocks_are_whole(monkeypatch, weights):
    monkeypatch.setattr(lanes, "BLOCK", 4)
    agree(perceptron((7, 8, 11, 6)), samples(5, 7), *ON[weights])
    agree(perceptron((7, 8, 11, 11, 6)), samples(5, 7), *ON[weights])


@pytest.mark.parametrize("beta, memory, activation", [(0.0, 1.0, nn.ELU), (0.0, 8.0, nn.ELU), (1.0, 1.0, nn.ELU), (1.0, 4.0, nn.Tanh)])
def test_memory_at_work_stays_within_the_setting(beta, memory, activation):
    """Beside it: each parameter's gradient a few times over (by its uses, and as it is handed on), and the values of the samples."""
    widths, count = (300, 200, 200, 200, 200), 8
    net, x = perceptron(widths, activation, dtype=torch.float32), samples(count, 300, torch.float32)
    parameters = sum(4 * p.numel() for p in net.parameters())
    values = 4 * count * sum(widths) * 5  # z, phi(z) and three derivatives

    def work():
        contractive_terms(net, x, hessian_weight=beta, memory_mib=memory)

    assert allocated(work) <= memory * 2**20 + 4 * parameters + values


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_one_layer_has_the_closed_form(name):
    """Rifai et al. 2011: sum_j phi'(z_j)^2 sum_i W_ji^2; and sum_j phi''(z_j)^2 sum_i W_ji^4."""
    net = perceptron((6, 5), {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[name], ends_linear=False)
    x = samples(4, 6)
    h, W = net(x).detach(), net[0].weight.detach()
    slope, curvature = (1 - h**2, -2 * h * (1 - h**2)) if name == "tanh" else (h * (1 - h), h * (1 - h) * (1 - 2 * h))
    terms = contractive_terms(net, x, jacobian_weight=1.0, hessian_weight=1.0)
    torch.testing.assert_close(terms.jacobian, (slope**2 @ (W**2).sum(1)).mean(), rtol=1e-13, atol=0)
    torch.testing.assert_close(terms.hessian, (curvature**2 @ (W**4).sum(1)).mean(), rtol=1e-13, atol=0)


class Skip(nn.Module):
    """An encoder that is no perceptron."""

    def __init__(self):
        super().__init__()
        self.skip, self.e = nn.Linear(6, 3, bias=False, dtype=torch.float64), perceptron((6, 7, 3), nn.SiLU)

    def forward(self, x):
        return self.skip(x) + self.e(x)


def convolutional():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3, dtype=torch.float64), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3, dtype=torch.float64)
        )


@pytest.mark.parametrize("make, width", [(Skip, 6), (convolutional, 16), (lambda: nn.Sequential(nn.LayerNorm(5), *perceptron((5, 4))), 5)])
@pytest.mark.parametrize("weights", ON)
@pytest.mark.parametrize("memory", [1e-3, 1.0])
def test_other_encoders_agree_with_dense_derivatives(make, width, weights, memory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make().double()
    agree(net, samples(3, width), *ON[weights], memory_mib=memory)


@pytest.mark.parametrize("make", [lambda: perceptron((4, 6, 3)), lambda: perceptron((4, 6, 5, 3)), lambda: perceptron((4, 5), ends_linear=False)])
def test_the_mean_over_all_draws_of_random_inputs_is_exact(make, monkeypatch):
    """Each of the six pairs of four inputs once: the mean is the exact value and gradient, to rounding."""
    net, x = make(), samples(3, 4)
    pairs = [torch.tensor([i, j]) for i in range(4) for j in range(i)]
    exact = contractive_terms(net, x, jacobian_weight=0.7, hessian_weight=0.3)
    expected = torch.autograd.grad(exact.penalty, list(net.parameters()), allow_unused=True)
    draws = []
    for pair in pairs:
        monkeypatch.setattr(torch, "randperm", lambda n, generator=None, pair=pair: pair)
        drawn = contractive_terms(net, x, jacobian_weight=0.7, hessian_weight=0.3, along=RandomInputs(2))
        draws.append((drawn, torch.autograd.grad(drawn.penalty, list(net.parameters()), allow_unused=True)))
    torch.testing.assert_close(torch.stack([d.jacobian for d, _ in draws]).mean(), exact.jacobian, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.stack([d.hessian for d, _ in draws]).mean(), exact.hessian, rtol=1e-13, atol=0)
    for i, g in enumerate(expected):
        if g is not None:
            torch.testing.assert_close(torch.stack([found[i] for _, found in draws]).mean(0), g, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("count", [16, 64])
def test_as_many_random_inputs_as_there_are_give_the_exact_terms(count):
    net, x = perceptron((count, 8, 7, 5)), samples(2, count)
    exact, drawn = (contractive_terms(net, x, hessian_weight=1.0, along=along) for along in (AllAxes(), RandomInputs(count)))
    torch.testing.assert_close(drawn.penalty, exact.penalty, rtol=1e-13, atol=0)


def test_hutchinson_is_unbiased_to_its_standard_error():
    """4000 draws: the mean lies within four standard errors, which are below three percent of both terms."""
    net, x = perceptron((4, 6, 5, 3), nn.SiLU), samples(3, 4)
    exact = contractive_terms(net, x, hessian_weight=1.0)
    along = Hutchinson(20, torch.Generator().manual_seed(0))
    draws = [contractive_terms(net, x, hessian_weight=1.0, along=along) for _ in range(4000)]
    for term in ("jacobian", "hessian"):
        values = torch.stack([getattr(d, term) for d in draws])
        error = float(values.std() / len(values) ** 0.5)
        expected = float(getattr(exact, term))
        assert error < 0.03 * expected
        assert abs(float(values.mean()) - expected) < 4 * error


def test_the_gradient_of_an_estimate_is_that_of_its_value():
    net, x = perceptron((5, 6, 5, 3), nn.SiLU), samples(3, 5)

    def value():
        along = Hutchinson(3, torch.Generator().manual_seed(5))
        return contractive_terms(net, x, jacobian_weight=0.5, hessian_weight=0.2, along=along).penalty

    for parameter in net.parameters():
        (g,) = torch.autograd.grad(value(), parameter, allow_unused=True)
        v = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        h = 1e-5
        with torch.no_grad():
            parameter += h * v
            above = value()
            parameter -= 2 * h * v
            below = value()
            parameter += h * v
        slope = 0.0 if g is None else (g * v).sum().item()
        assert slope == pytest.approx(float(above - below) / (2 * h), rel=1e-7, abs=1e-8)


def test_tied_weights_get_the_gradient_of_both_uses():
    x = samples(3, 5)
    tied = nn.Sequential(nn.Linear(5, 5, dtype=torch.float64), nn.Tanh(), nn.Linear(5, 5, dtype=torch.float64))
    tied[2].weight = tied[0].weight
    terms = contractive_terms(tied, x, jacobian_weight=0.4, hessian_weight=0.2)
    (g,) = torch.autograd.grad(terms.penalty, tied[0].weight)
    apart = nn.Sequential(nn.Linear(5, 5, dtype=torch.float64), nn.Tanh(), nn.Linear(5, 5, dtype=torch.float64))
    apart.load_state_dict(tied.state_dict())
    parts = torch.autograd.grad(
        contractive_terms(apart, x, jacobian_weight=0.4, hessian_weight=0.2).penalty, [apart[0].weight, apart[2].weight]
    )
    torch.testing.assert_close(g, parts[0] + parts[1])


def test_the_loss_is_reconstruction_and_both_terms():
    encoder, decoder, x = perceptron((5, 6, 4, 2)), perceptron((2, 6, 5)), samples(3, 5)
    loss, terms = contractive_loss(encoder, decoder, x, jacobian_weight=0.1, hessian_weight=0.01)
    assert terms.hessian is not None
    expected = ((decoder(encoder(x)) - x) ** 2).mean() + 0.1 * terms.jacobian + 0.01 * terms.hessian
    torch.testing.assert_close(loss, expected)
    assert torch.equal(loss, contractive_loss(encoder, decoder, x, jacobian_weight=0.1, hessian_weight=0.01)[0])  # deterministic


def test_nothing_is_differentiated_where_no_gradient_is_wanted():
    net, x = perceptron((5, 6, 4, 2)), samples(3, 5)
    with torch.no_grad():
        assert not contractive_terms(net, x).penalty.requires_grad
    assert not contractive_terms(net.requires_grad_(False), x).penalty.requires_grad


@pytest.mark.parametrize(
    "options, message",
    [({"jacobian_weight": -1.0}, "jacobian_weight is -1.0"), ({"memory_mib": 0.0}, "memory_mib is 0.0"),
     ({"along": RandomInputs(9)}, "9 random inputs of 5"), ({"along": Hutchinson(0)}, "0 Hutchinson probes")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        contractive_terms(perceptron((5, 4)), samples(2, 5), **options)
