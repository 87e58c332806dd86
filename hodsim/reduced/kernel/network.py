"""The features g(q) = [q, h(q)] of a SiLU perceptron h in lanes, and their second derivative contracted.

There are three blocks of lanes: a neuron, its rate and its acceleration. As q moves with velocity v and acceleration a, a neuron z has
z_v = Dz v and z_a = Dz a + D^2 z[v, v]. An integrator writes v = s1 q + v0 and a = s2 q + a0; seeded with their derivatives, s1 I and s2 I,
the derivative lanes are those of the whole equation, the third derivative of eq. 12 among them. An activation s maps the lanes by

    s        s' z_v                  s'' z_v^2 + s' z_a
    s' z_k   s'' z_v z_k + s' z_vk   s''' z_v^2 z_k + s'' (2 z_v z_vk + z_a z_k) + s' z_ak

D^2 g itself is only wanted contracted with the unbalanced force p, which one reverse sweep over the layers does:

    p . D^2 g = sum over l of A_l^T diag(lambda_l s''_l) A_l,    lambda_(l-1) = W_l^T (lambda_l s'_l),    A_l = dz_l/dq
"""

from __future__ import annotations

import numpy as np

from hodsim.reduced.kernel.plan import compiled


@compiled
def seed(plan, work, block, slope):
    """Set the derivative lanes of a block of q, and of the first layer: q's own derivative is slope I."""
    widths = plan.widths
    r = widths[0]
    for k in range(r):
        work.features[block, k, 1 + k] = slope
        if len(widths) > 1:
            for i in range(widths[1]):
                work.before[0, block, i, 1 + k] = slope * plan.network[i * r + k]


@compiled
def propagate(plan, work, blocks):
    """The lanes of the features from the seeds and the values of q, and of v and a, in the features' first r rows."""
    widths, network = plan.widths, plan.network
    r, layers = widths[0], len(widths) - 1
    at = 0
    for l in range(layers):
        n_in, n_out = widths[l], widths[l + 1]
        weights = network[at : at + n_out * n_in].reshape(n_out, n_in)
        at += n_out * n_in
        bias = network[at : at + n_out]
        at += n_out
        for b in range(blocks):
            if l > 0:
                np.dot(weights, work.after[l - 1, b, :n_in], work.before[l, b, :n_out])
            else:  # the derivative lanes are there already
                for i in range(n_out):
                    z = 0.0
                    for k in range(r):
                        z += weights[i, k] * work.features[b, k, 0]
                    work.before[0, b, i, 0] = z
        after = work.after[l] if l < layers - 1 else work.features[:, r:]
        activate(work.before[l], bias, blocks, work.slopes[l], after)


@compiled
def activate(before, bias, blocks, slopes, after):
    """Add the bias to the value lane and map all lanes by SiLU."""
    L = before.shape[2]
    for i in range(len(bias)):
        z = before[0, i, 0] + bias[i]
        sigmoid = 1 / (1 + np.exp(-z))
        slope = sigmoid * (1 - sigmoid)
        s1 = sigmoid + z * slope
        s2 = slope * (2 + z * (1 - 2 * sigmoid))
        slopes[0, i], slopes[1, i] = s1, s2
        for k in range(L):
            after[0, i, k] = s1 * before[0, i, k]
        after[0, i, 0] = z * sigmoid
        if blocks == 3:
            s3 = slope * (3 * (1 - 2 * sigmoid) + z * (1 - 6 * slope))
            v, a = before[1, i, 0], before[2, i, 0]
            for k in range(L):
                z_k, z_vk, z_ak = before[0, i, k], before[1, i, k], before[2, i, k]
                after[1, i, k] = s2 * v * z_k + s1 * z_vk
                after[2, i, k] = (s3 * v * v + s2 * a) * z_k + 2 * s2 * v * z_vk + s1 * z_ak
            after[1, i, 0] = s1 * v
            after[2, i, 0] = s2 * v * v + s1 * a


@compiled
def add_curvature(plan, work, p, square):
    """Add p . D^2 g to square (L, L), lane by lane; where the last propagate was."""
    widths, network = plan.widths, plan.network
    r, layers, L = widths[0], len(widths) - 1, square.shape[0]
    at = len(network)
    for l in range(layers - 1, -1, -1):
        n_in, n_out = widths[l], widths[l + 1]
        at -= n_out * (n_in + 1)
        adjoint = work.adjoint[l, :n_out]
        for i in range(n_out):
            if l == layers - 1:
                adjoint[i] = p[r + i]
            t = adjoint[i] * work.slopes[l, 1, i]
            adjoint[i] *= work.slopes[l, 0, i]
            for k in range(1, 1 + r):
                scale = t * work.before[l, 0, i, k]
                for j in range(L):
                    square[k, j] += scale * work.before[l, 0, i, j]
        if l > 0:
            weights = network[at : at + n_out * n_in].reshape(n_out, n_in)
            np.dot(weights.T, adjoint, work.adjoint[l - 1, :n_in])
