"""Layers written as formulas of simpler ones: softmax, normalisation, attention, losses.

Each formula is torch's own, in an order that does not overflow.
"""

from __future__ import annotations

from math import log, pi, prod, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.functions import power, reciprocals
from hodsim.multicomplex.number import Multicomplex, one_real_part
from hodsim.multicomplex.rules import rule

# -- softmax -----------------------------------------------------------------------------------------------------------------


def _centre(z: Multicomplex, dim) -> Multicomplex:
    """A shift that softmax does not see: the maximum of the real part and, in the other parts, their mean under the softmax.

    With the mean at zero the higher derivatives of exp and of its sum hardly cancel; without, order 5 loses up to 1000 eps on small nets.
    Nothing depends on the shift, so no gradient flows through it."""
    z = z.stored()
    axes = tuple(d if d < 0 else d + 1 for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    count, rows = z.layout.sizes[0], z.rows.detach()
    maximum = rows[:count].amax(axes, keepdim=True)
    weights = (rows[:1] - maximum[:1]).exp()
    mean = (rows[count:] * weights).sum(axes, keepdim=True) / weights.sum(axes, keepdim=True)
    return Multicomplex(torch.cat([maximum, mean]), z.layout, z.degree)


@rule(F.softmax)
def softmax(input, dim=None, _stacklevel=3, dtype=None):
    dim = _dimension(input, dim, "softmax")
    z = _cast(input, dtype)
    e = (z - _centre(z, dim)).exp()
    return e / e.sum(dim, keepdim=True)


@rule(F.log_softmax)
def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    dim = _dimension(input, dim, "log_softmax")
    z = _cast(input, dtype)
    z = z - _centre(z, dim)
    return z - z.exp().sum(dim, keepdim=True).log()


@rule(torch.softmax)                                                 # after F's: the method is torch's, with the dtype in third place
def torch_softmax(input, dim, dtype=None):
    return softmax(input, dim, dtype=dtype)


@rule(torch.log_softmax)
def torch_log_softmax(input, dim, dtype=None):
    return log_softmax(input, dim, dtype=dtype)


@rule(F.softmin)
def softmin(input, dim=None, _stacklevel=3, dtype=None):
    return softmax(-input, dim, _stacklevel, dtype)


@rule(torch.logsumexp)
def logsumexp(input, dim, keepdim=False):
    centre = _centre(input, dim)
    value = (input - centre).exp().sum(dim, keepdim=True).log() + centre
    return value if keepdim else value.squeeze(dim)


def _dimension(z, dim: int | None, name: str) -> int:
    if dim is None:
        raise ValueError(f"{name} has dim=None; expected a number, since torch's choice of it is deprecated")
    return dim


def _cast(z, dtype):
    return z if dtype is None else z.to(dtype)


# -- activations with more than one operand ----------------------------------------------------------------------------------


@rule(F.glu)
def glu(input, dim=-1):
    a, b = input.chunk(2, dim)
    return a * torch.sigmoid(b)


@rule(F.prelu, torch.prelu)
def prelu(input, weight):
    if weight.numel() > 1:
        weight = weight.reshape(-1, *(1,) * (input.ndim - 2)) if input.ndim > 1 else weight
    negative = input - F.relu(input)
    return F.relu(input) + negative * weight


@rule(F.rrelu)
def rrelu(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    if training:
        raise NotImplementedError("rrelu in training mode draws a new slope in each call; expected module.eval() before differentiating")
    return F.leaky_relu(input, (lower + upper) / 2)


# -- normalisation -----------------------------------------------------------------------------------------------------------


def standardised(z, dims, eps: float):
    """(z - mean) / sqrt(var + eps) over dims, with the biased variance; and mean and variance."""
    mean = z.mean(dims, keepdim=True)
    centred = z - mean
    variance = (centred * centred).mean(dims, keepdim=True)
    return centred * torch.rsqrt(variance + eps), mean, variance


def _affine(z, weight, bias):
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


@rule(F.layer_norm, torch.layer_norm)
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    return _affine(standardised(input, tuple(range(-len(normalized_shape), 0)), eps)[0], weight, bias)


@rule(F.rms_norm, torch.rms_norm) if hasattr(F, "rms_norm") else lambda f: f
def rms_norm(input, normalized_shape, weight=None, eps=None):
    dims = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(input * torch.rsqrt((input * input).mean(dims, keepdim=True) + eps), weight, None)


@rule(F.group_norm, torch.group_norm)
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    grouped = input.reshape(input.shape[0], num_groups, -1)
    z = standardised(grouped, (-1,), eps)[0].reshape(*input.shape)
    return _affine(z, _channels(weight, input.ndim), _channels(bias, input.ndim))


@rule(F.instance_norm)
def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    if not use_input_stats or running_mean is not None:
        raise NotImplementedError("instance_norm with running statistics; expected track_running_stats=False")
    z = standardised(input, tuple(range(2, input.ndim)), eps)[0]
    return _affine(z, _channels(weight, input.ndim), _channels(bias, input.ndim))


@rule(F.batch_norm)
def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Evaluation: an affine map. Training: the statistics depend on the whole batch; the running ones are updated as torch does."""
    weight, bias = _channels(weight, input.ndim), _channels(bias, input.ndim)
    if not training:
        if running_mean is None:
            raise ValueError("batch_norm in evaluation mode without running statistics; expected training=True")
        scale = _channels((running_var + eps).rsqrt(), input.ndim)
        return _affine((input + _channels(-running_mean, input.ndim)) * scale, weight, bias)
    dims = (0, *range(2, input.ndim))
    z, mean, variance = standardised(input, dims, eps)
    if running_mean is not None:
        one_real_part(input, "batch_norm in training mode")
        count = prod(input.shape[d] for d in dims)
        with torch.no_grad():
            running_mean.lerp_(mean.real.flatten().to(running_mean), momentum)
            running_var.lerp_(variance.real.flatten().to(running_var) * count / max(count - 1, 1), momentum)
    return _affine(z, weight, bias)


@rule(torch.batch_norm)
def torch_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled):
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _channels(values, ndim: int):
    """(C,) as (C, 1, .., 1), to broadcast with (N, C, ..)."""
    return values if values is None or ndim == 2 else values.reshape(-1, *(1,) * (ndim - 2))


@rule(F.normalize)
def normalize(input, p=2.0, dim=1, eps=1e-12):
    if p != 2:
        raise NotImplementedError(f"normalize with p={p}; expected 2")
    squares = (input * input).sum(dim, keepdim=True)
    return input * torch.rsqrt(torch.clamp(squares, min=eps**2))


@rule(torch.var)
def var(input, dim=None, unbiased=True, keepdim=False, correction=None):
    if isinstance(dim, bool):                                        # torch's var(input, unbiased)
        dim, unbiased = None, dim
    dims = tuple(range(input.ndim)) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    count = prod(input.shape[d] for d in dims)
    centred = input - input.mean(dims, keepdim=True)
    return (centred * centred).sum(dims, keepdim) / (count - (correction if correction is not None else int(unbiased)))


@rule(torch.std)
def std(input, dim=None, unbiased=True, keepdim=False, correction=None):
    return torch.sqrt(var(input, dim, unbiased, keepdim, correction))


@rule(torch.norm, torch.linalg.vector_norm)
def norm(input, p=2, dim=None, keepdim=False):
    if p not in (2, 2.0, "fro"):
        raise NotImplementedError(f"norm with p={p}; expected 2")
    return (input * input).sum(dim, keepdim).compose(_root)


def _root(x: Tensor, order: int) -> list[Tensor]:
    """sqrt, with zero for its derivatives at 0: the subgradient that torch takes for a norm."""
    away = x > 0
    return [x.sqrt(), *(torch.where(away, d, 0.0) for d in power(torch.where(away, x, 1.0), order, 0.5)[1:])]


# -- attention ---------------------------------------------------------------------------------------------------------------


@rule(F.scaled_dot_product_attention)
def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q k^T / sqrt(d) + mask) v."""
    if dropout_p:
        raise NotImplementedError(f"attention with dropout_p={dropout_p}; expected 0: call module.eval() before differentiating")
    if enable_gqa:
        raise NotImplementedError("attention with enable_gqa=True; expected equally many heads: repeat keys and values")
    scores = torch.matmul(query * (1 / sqrt(query.shape[-1]) if scale is None else scale), key.transpose(-1, -2))
    if is_causal:
        rows, columns = scores.shape[-2:]
        attn_mask = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=scores.dtype).masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
        scores = scores + attn_mask
    return torch.matmul(torch.softmax(scores, -1), value)


@rule(F.multi_head_attention_forward)
def multi_head_attention(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn,
                         dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True,
                         attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None,
                         static_k=None, static_v=None, average_attn_weights=True, is_causal=False):
    """Tokens (L, N, E) or (L, E): project, attend by head, project."""
    odd = {"bias_k": bias_k, "bias_v": bias_v, "add_zero_attn": add_zero_attn or None, "key_padding_mask": key_padding_mask,
           "static_k": static_k, "static_v": static_v, "dropout": dropout_p if training and dropout_p else None}
    unknown = [name for name, value in odd.items() if value is not None]
    if unknown:
        raise NotImplementedError(f"attention with {', '.join(unknown)}; expected them unused, and module.eval() where there is dropout")
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)

    def heads(tokens, weight, bias):                                 # (L, *N, E) -> (*N, heads, L, E / heads)
        projected = F.linear(tokens, weight, bias)
        return torch.movedim(projected.reshape(*projected.shape[:-1], num_heads, -1), 0, -2)

    q, k, v = (heads(t, w, b) for t, w, b in zip((query, key, value), weights, biases, strict=True))
    if is_causal and attn_mask is not None:
        is_causal = False                                            # torch: a hint; the mask says it
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.view(*q.shape[:-2], *attn_mask.shape[-2:])
    attended = scaled_dot_product_attention(q, k, v, attn_mask, is_causal=is_causal)
    joined = torch.movedim(attended, -2, 0)
    out = F.linear(joined.reshape(*joined.shape[:-2], -1), out_proj_weight, out_proj_bias)
    if not need_weights:
        return out, None
    scores = torch.matmul(q * (1 / sqrt(q.shape[-1])), k.transpose(-1, -2))
    weights = torch.softmax(scores if attn_mask is None else scores + attn_mask, -1)
    return out, weights.mean(-3) if average_attn_weights else weights


# -- losses ------------------------------------------------------------------------------------------------------------------


def _reduced(z, reduction: str):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")
    return z if reduction == "none" else z.mean() if reduction == "mean" else z.sum()


def _weighted(z, weights: Tensor, reduction: str):
    """The mean is that of the weights."""
    z = z * weights
    return z.sum() / weights.sum() if reduction == "mean" else _reduced(z, reduction)


def _settled(size_average, reduce, reduction: str) -> str:
    if size_average is not None or reduce is not None:
        raise NotImplementedError("size_average and reduce are deprecated; expected reduction")
    return reduction


@rule(F.mse_loss)
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    squares = torch.square(input - target)
    if weight is not None:
        raise NotImplementedError("mse_loss with weight; expected weights in the residual")
    return _reduced(squares, _settled(size_average, reduce, reduction))


@rule(F.l1_loss)
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    if weight is not None:
        raise NotImplementedError("l1_loss with weight; expected weights in the residual")
    return _reduced(torch.abs(input - target), _settled(size_average, reduce, reduction))


@rule(F.cross_entropy)
def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """-sum over classes of the target's probability times log softmax; classes along dimension 1 (0 without a batch)."""
    dim = 1 if input.ndim > 1 else 0
    logs, kept = log_softmax(input, dim), None
    if isinstance(target, Tensor) and not target.is_floating_point():
        if label_smoothing == 0:
            return nll_loss(logs, target, weight, size_average, ignore_index, reduce, reduction)
        if weight is not None:
            raise NotImplementedError("cross_entropy with label_smoothing, weight and class indices; expected class probabilities")
        kept = target != ignore_index
        place = torch.where(kept, target, 0).unsqueeze(dim)
        target = kept.new_zeros(input.shape).scatter(dim, place, kept.unsqueeze(dim)).to(input.dtype)
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    if weight is not None:
        logs = logs * weight.view(-1, *(1,) * (input.ndim - dim - 1))
    losses, settled = -(logs * target).sum(dim), _settled(size_average, reduce, reduction)
    if kept is None:
        return _reduced(losses, settled)
    return _weighted(losses, kept, settled)


@rule(F.nll_loss)
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    dim = 1 if input.ndim > 1 else 0
    kept = target != ignore_index
    place = torch.where(kept, target, 0)
    scale = kept.to(input.dtype) if weight is None else weight[place] * kept
    picked = input.map(lambda rows: rows.gather(dim + 1, place.unsqueeze(dim).expand(len(rows), *place.unsqueeze(dim).shape))).squeeze(dim)
    return _weighted(-picked, scale, _settled(size_average, reduce, reduction))


@rule(F.binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    if pos_weight is not None:
        raise NotImplementedError("binary_cross_entropy_with_logits with pos_weight; expected None")
    losses = F.softplus(input) - input * target
    return _reduced(losses if weight is None else losses * weight, _settled(size_average, reduce, reduction))


@rule(F.binary_cross_entropy)
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """torch's bounds where a probability is 0 or 1: log at least -100, 1 / p at most 1e12."""
    losses = -(_bounded_log(input) * target + _bounded_log(1 - input) * (1 - target))
    return _reduced(losses if weight is None else losses * weight, _settled(size_average, reduce, reduction))


def _bounded_log(p):
    def tower(x: Tensor, order: int) -> list[Tensor]:
        return [x.log().clamp(min=-100), *reciprocals(x.clamp(min=1e-12), order)]

    return p.compose(tower) if isinstance(p, Multicomplex) else tower(p, 0)[0]


@rule(F.poisson_nll_loss)
def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    losses = torch.exp(input) - input * target if log_input else input - torch.log(input + eps) * target
    if full:
        stirling = target * target.log() - target + 0.5 * torch.log(2 * pi * target)
        losses = losses + torch.where(target > 1, stirling, 0.0)
    return _reduced(losses, _settled(size_average, reduce, reduction))


@rule(F.gaussian_nll_loss)
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    variance = torch.clamp(var, min=eps) if isinstance(var, (Tensor, Multicomplex)) else max(var, eps)
    logs = torch.log(variance) if isinstance(variance, (Tensor, Multicomplex)) else log(variance)
    losses = 0.5 * (torch.square(input - target) / variance + logs)
    return _reduced(losses + 0.5 * log(2 * pi) if full else losses, reduction)


@rule(F.kl_div)
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    losses = torch.exp(target) * (target - input) if log_target else torch.xlogy(target, target) - input * target
    if reduction == "batchmean":
        return losses.sum() / input.shape[0]
    return _reduced(losses, _settled(size_average, reduce, reduction))


@rule(F.huber_loss)
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    if weight is not None:
        raise NotImplementedError("huber_loss with weight; expected None")
    near = torch.clamp(torch.abs(input - target), max=delta)
    return _reduced(near * (torch.abs(input - target) - 0.5 * near), reduction)


@rule(F.smooth_l1_loss)
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    settled = _settled(size_average, reduce, reduction)
    return l1_loss(input, target, reduction=settled) if beta == 0 else huber_loss(input, target, settled, beta) / beta
