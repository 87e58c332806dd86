"""Products at one point against double backward, for every kind of step, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from hodsim.multicomplex import Linearised, laplacian


@sdpa_kernel(SDPBackend.MATH)  # the one whose backward pass torch can differentiate
def double_backward(loss, parameters, v):
    gradient = torch.autograd.grad(loss(), parameters, create_graph=True, materialize_grads=True)
    return gradient, torch.autograd.grad(gradient, parameters, v, materialize_grads=True)


class InPlace(nn.Module):
    """As torchvision writes a residual block."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        out = self.norm(self.first(x))
        out.mul_(2.0)
        out += self.second(x)
        F.relu(out, inplace=True)
        return (out.flatten(1) * 1.0).neg_()


class Attention(nn.Module):
    """Functions that have no closed form of their own here: they go by the rules of the algebra."""

    def __init__(self):
        super().__init__()
        self.qkv, self.scale, self.norm = nn.Linear(4, 12), nn.Parameter(torch.tensor(0.7)), nn.LayerNorm(4)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v) / (1 + self.scale**2) + 2.0 ** self.scale - self.scale.exp() * x
        return (self.norm(y) @ self.qkv.weight[:4].T).logsumexp(1)


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.fixed, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3, bias=False)
        self.fixed.requires_grad_(False)

    def forward(self, x):
        return F.silu(self.last(F.softplus(self.norm(self.fixed(x)))))


NETS = {
    "convolutions": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.Tanh(), nn.Conv2d(3, 4, 3, groups=1, dilation=1), nn.Sigmoid(),
                                           nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (5, 2, 10, 10)),
    "grouped": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same"), nn.ELU(),
                                      nn.Flatten()), (3, 2, 5, 5)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False)), (9, 4)),
    "in place": (InPlace, (4, 2, 6, 6)),
    "attention": (Attention, (3, 5, 4)),
    "frozen": (Frozen, (8, 4)),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NETS)
def test_products_match_double_backward(name, training):
    build, shape = NETS[name]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build().double().train(training)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    parameters = [p for p in net.parameters() if p.requires_grad]
    v = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]

    def loss():
        return (net(x) - 0.3).square().mean()

    gradient, expected = double_backward(loss, parameters, v)
    at = Linearised(parameters, loss)
    atol = 1e-13  # rounding of terms of order one: what belongs to a bias before batch norm is zero
    for found, g in zip(at.gradient, gradient, strict=True):
        torch.testing.assert_close(found, g, rtol=1e-12, atol=1e-13)
    for direction, wanted in ((v, expected), ([2 * d for d in v], [2 * h for h in expected]), (v, expected)):  # again at the same point
        for found, h in zip(at.product(direction), wanted, strict=True):
            torch.testing.assert_close(found, h, rtol=1e-11, atol=atol)
    for k in range(len(v)):  # directions of one parameter alone
        alone = [d if i == k else torch.zeros_like(d) for i, d in enumerate(v)]
        column = double_backward(loss, parameters, alone)[1]
        for found, h in zip(at.product([d if i == k else None for i, d in enumerate(v)]), column, strict=True):
            torch.testing.assert_close(found, h, rtol=1e-10, atol=atol)
    for others in (at, Linearised(parameters, loss)):  # after others, and alone
        for found, h in zip(others.product(v, last=True), expected, strict=True):
            torch.testing.assert_close(found, h, rtol=1e-11, atol=atol)
        with pytest.raises(RuntimeError, match="the last product has been taken"):
            others.product(v)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("name", ["mse", "mse of one target", "cross entropy"])
def test_losses_that_are_not_the_last_step_match_double_backward(name):
    """Their own change is then read, not only what they bend."""
    x, labels = torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3) ** 3, torch.tensor([1, 0, 1, 1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    of = {"mse": lambda y: F.mse_loss(y, y.detach().sin()), "mse of one target": lambda y: F.mse_loss(y, labels[:2].double()),
          "cross entropy": lambda y: F.cross_entropy(y, labels, ignore_index=0)}[name]  # fmt: skip
    parameters = list(net.parameters())
    v = [torch.ones_like(p) for p in parameters]
    loss = lambda: of(net(x)).exp() + net(x).square().sum()  # noqa: E731
    expected = double_backward(loss, parameters, v)[1]
    for found, h in zip(Linearised(parameters, loss).product(v), expected, strict=True):
        torch.testing.assert_close(found, h, rtol=1e-11, atol=1e-13)


def test_what_would_not_be_followed_is_refused():
    """Memory that two tensors share, written through one of them: the Laplacian within a loss does so too."""
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    parameters, x = list(net.parameters()), torch.ones(6, 2, dtype=torch.float64)

    def through_a_view():
        y = net(x) * 2
        y[:, 0].mul_(3)
        return y.square().sum()

    def behind_a_view():
        y = net(x) * 2
        z = y.view(-1)
        y.mul_(3)
        return z.square().sum()

    def by_entry():
        y = net(x) * 2
        y[0] = 0.0
        return y.square().sum()

    for loss in (through_a_view, behind_a_view, lambda: laplacian(net, x).square().mean()):
        with pytest.raises(NotImplementedError, match="shares memory"):
            Linearised(parameters, loss)
    with pytest.raises(NotImplementedError, match="an entry"):
        Linearised(parameters, by_entry)


def test_running_statistics_move_once_however_many_products():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh())
    x = torch.linspace(-1, 1, 24).view(8, 3) ** 2
    at = Linearised(list(net.parameters()), lambda: net(x).square().mean())
    for _ in range(3):
        at.product([torch.ones_like(p) for p in net.parameters()])
    assert int(net[1].num_batches_tracked) == 1


def test_what_was_computed_outside_is_refused():
    net = nn.Linear(3, 2)
    before = net(torch.ones(1, 3))
    with pytest.raises(NotImplementedError, match="unseen"):
        Linearised(list(net.parameters()), lambda: before.square().sum())
    with pytest.raises(ValueError, match="expected a scalar"):
        Linearised(list(net.parameters()), lambda: torch.ones(()))
    with pytest.raises(NotImplementedError, match="copy_"):
        Linearised(list(net.parameters()), lambda: net(torch.ones(1, 3)).copy_(torch.ones(1, 2)).sum())
