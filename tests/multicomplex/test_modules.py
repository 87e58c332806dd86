"""Every module class of torch.nn, family by family: it goes through with torch's own derivatives, or is refused by its name."""

import inspect

import pytest
import torch
from multicomplex_oracles import DEVICES, central, gradient
from torch import nn

from hodsim.multicomplex import derivative, derivatives, left_contraction
from hodsim.multicomplex.rules import _RULES

ROWS, SIGNAL, IMAGE, VOLUME = (3, 6), (2, 4, 9), (2, 4, 6, 6), (2, 2, 5, 5, 5)
FAMILIES = ("activation", "linear", "conv", "batchnorm", "instancenorm", "normalization", "pooling", "padding", "upsampling", "dropout",
            "flatten", "pixelshuffle", "channelshuffle", "fold")
CLASSES = sorted(name for family in FAMILIES for name in getattr(nn.modules, family).__all__ if not name.startswith("Lazy"))

# what has no rule, or none in training mode; docs/derivatives.md names them
REFUSED = {"LPPool1d": (2, 3), "LPPool2d": (2, 2), "LPPool3d": (2, 2), "LocalResponseNorm": (3,), "CrossMapLRN2d": (3,),
           "FractionalMaxPool2d": (2, 3), "FractionalMaxPool3d": (2, 3), "MaxUnpool1d": (2,), "MaxUnpool2d": (2,), "MaxUnpool3d": (2,)}
RANDOM = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "RReLU")

# arguments of the constructors that need some; channels and widths are those of the shapes
ARGUMENTS = {
    "Threshold": (0.1, 0.2), "Softmax": (1,), "Softmin": (1,), "LogSoftmax": (1,), "PReLU": (6,), "MultiheadAttention": (6, 2),
    "Linear": (6, 4), "Bilinear": (6, 6, 4), "Conv1d": (4, 3, 3, 2, 1), "Conv2d": (4, 6, 3, 1, "same", 1, 2), "Conv3d": (2, 3, 2, 1, 0, 2),
    "ConvTranspose1d": (4, 3, 3, 2), "ConvTranspose2d": (4, 3, 3, 2, 1, 1), "ConvTranspose3d": (2, 3, 2),
    "BatchNorm1d": (4,), "BatchNorm2d": (4,), "BatchNorm3d": (2,), "SyncBatchNorm": (6,),
    "InstanceNorm1d": (4,), "InstanceNorm2d": (4,), "InstanceNorm3d": (2,),
    "LayerNorm": (6,), "GroupNorm": (2, 4), "RMSNorm": (6,), "Upsample": (None, 2, "bicubic"), "UpsamplingNearest2d": ((9, 7),),
    "UpsamplingBilinear2d": (None, 2), "Unflatten": (1, (2, 3)), "PixelShuffle": (2,), "PixelUnshuffle": (2,), "ChannelShuffle": (2,),
    "Fold": ((4, 4), 2), "Unfold": (2,), **{f"{kind}Pool{d}d": (2,) for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg") for d in (1, 2, 3)},
    **{f"{kind}Pad{d}d": (2,) for kind in ("Circular", "Reflection", "Replication", "Zero") for d in (1, 2, 3)},
    **{f"ConstantPad{d}d": (1, 2.0) for d in (1, 2, 3)},
}
SHAPES = {"MultiheadAttention": (2, 3, 6), "Fold": (2, 8, 9),
          **dict.fromkeys(("GroupNorm", "Upsample", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Unfold", "Flatten"), IMAGE)}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shape_of(name: str) -> tuple[int, ...]:
    by_name = {"1d": SIGNAL, "2d": IMAGE, "3d": VOLUME}
    return SHAPES.get(name) or next((shape for d, shape in by_name.items() if d in name), ROWS)


def module(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    made = getattr(nn, name)(*REFUSED.get(name, ARGUMENTS.get(name, ())), **options).double()
    for parameter in made.parameters():                              # not the ones and zeros of a fresh normalisation
        nn.init.normal_(parameter)
    return made


def function(made: nn.Module):
    """The module as a function of one tensor, curved first, so that a linear rule shows at second order too."""
    def f(x):
        x = torch.sin(x) + x
        if isinstance(made, nn.MultiheadAttention):
            return made(x, x.cos(), x)[0]
        return made(x, x.cos()) if isinstance(made, nn.Bilinear) else made(x)

    return f


def hold_against_torch(f, shape, device="cpu"):
    """Value, D f[a] and w . D^2 f[a, .] against central differences of torch's values and gradients; D^2 f[a, a] against w . D^2 f[a, .]."""
    x, a = random(*shape, seed=1).to(device), random(*shape, seed=2).to(device)
    z = derivatives(f, x, a, a)
    torch.testing.assert_close(z.part(), f(x), rtol=1e-13, atol=1e-13)
    with torch.no_grad():
        first = central(f, x, a)
    w = random(*z.shape, seed=3).to(device)
    second = central(lambda t: gradient(f, t, w), x, a)
    torch.testing.assert_close(z.part(0), first, rtol=1e-7, atol=1e-8 * (1 + first.abs().max().item()))
    found = left_contraction(f, x, w, a)
    torch.testing.assert_close(found, second, rtol=1e-7, atol=1e-7 * (1 + second.abs().max().item()))
    torch.testing.assert_close((w * z.part(0, 1)).sum(), (found * a).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in REFUSED])
def test_modules_match_torch(name, device):
    if name == "ChannelShuffle" and torch.__version__ < (2, 8):
        pytest.skip("this PyTorch has no derivative of channel_shuffle to compare with")
    hold_against_torch(function(module(name).to(device).eval()), shape_of(name), device)


@pytest.mark.parametrize("name", [n for n in CLASSES if n not in REFUSED and "inplace" in inspect.signature(getattr(nn, n)).parameters])
def test_modules_in_place_match_torch(name):
    """The argument is a number of the function's own, which the module may overwrite."""
    plain, hasty = module(name).eval(), module(name, inplace=True).eval()
    x, a = random(*shape_of(name), seed=1), random(*shape_of(name), seed=2)
    torch.testing.assert_close(derivative(lambda t: hasty(t * 2), x, a), derivative(lambda t: plain(t * 2), x, a), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"])
def test_batch_norm_in_training_matches_torch(name):
    hold_against_torch(function(module(name, track_running_stats=False).train()), shape_of(name))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"])
def test_interpolations_match_torch(mode):
    shape = SIGNAL if mode == "linear" else VOLUME if mode == "trilinear" else IMAGE
    hold_against_torch(function(nn.Upsample(scale_factor=1.5, mode=mode)), shape)


@pytest.mark.parametrize("name", RANDOM)
def test_random_modules_are_refused_in_training(name):
    with pytest.raises(NotImplementedError, match=r"training mode .* expected module.eval\(\)"):
        derivative(module(name).train(), random(*shape_of(name)), random(*shape_of(name), seed=2))


@pytest.mark.parametrize("name", REFUSED)
def test_modules_without_a_rule_are_refused_by_name(name):
    x = random(*shape_of(name))
    made = module(name)
    with pytest.raises(NotImplementedError, match=f"no multicomplex rule for .*{name}"):
        derivative((lambda t: made(t, torch.zeros(x.shape, dtype=torch.long))) if "Unpool" in name else made, x, x)


def test_what_a_call_leaves_out_is_what_torch_takes():
    """Of the functions written in Python, whose signatures can be read."""
    compared = set()
    for function, handler in _RULES.items():
        if getattr(function, "__module__", None) != "torch.nn.functional" or not inspect.isfunction(function):
            continue
        own = inspect.signature(getattr(handler, "__wrapped__", handler)).parameters
        for name, parameter in inspect.signature(function).parameters.items():
            if name in own and parameter.default is not inspect.Parameter.empty:
                assert own[name].default == parameter.default, f"{function.__name__}({name}=)"
                compared.add((function.__name__, name))
    assert {("group_norm", "eps"), ("dropout", "training"), ("alpha_dropout", "training"), ("cross_entropy", "reduction")} <= compared
    assert len(compared) > 100
