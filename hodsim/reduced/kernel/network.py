"""The features g(q) = [q, h(q)] of a perceptron h, their derivative in lanes, and what is pulled back through them.

There are three blocks: a neuron, its rate and its acceleration. As q moves with velocity v and acceleration a, a neuron z has z_v = Dz v and
z_a = Dz a + D^2 z[v, v]; an activation s maps the three to

    s    s' z_v    s'' z_v^2 + s' z_a

and their derivatives, a lane for each latent coordinate, to

    s' z_k    s'' z_v z_k + s' z_vk    s''' z_v^2 z_k + s'' (2 z_v z_vk + z_a z_k) + s' z_ak

An integrator writes v = s1 q + v0 and a = s2 q + a0; seeded with their derivatives, s1 I and s2 I, the lanes are those of the whole
equation, the third derivative of eq. 12 among them. A residual needs values only, the lanes are for the tangent. One reverse sweep takes
an unbalanced force p on the features to Dg^T p, and leaves behind what p . D^2 g needs:

    lambda_(l-1) = W_l^T (lambda_l s'_l),    p . D^2 g = sum over l of A_l^T diag(lambda_l s''_l) A_l,    A_l = dz_l/dq
"""

from __future__ import annotations

from hodsim.reduced.kernel.activation import activate
from hodsim.reduced.kernel.plan import compiled, merged
from hodsim.reduced.kernel.product import apply, apply_transposed, lanes_of_neurons, square_of_neurons


@compiled
def seed(plan, work, block, slope):
    """Set the lanes of a block of q, and of the first layer: q's own derivative is slope I."""
    widths = plan.widths
    r = widths[0]
    lanes = work.own_lanes if len(plan.mixing) else work.lanes
    before, network = work.before, plan.network
    for k in range(r):
        lanes[block, k, k] = slope
        if len(widths) > 1:
            for i in range(widths[1]):
                before[0, block, i, k] = slope * network[i * r + k]


@merged
def propagate_values(plan, work, blocks):
    """The features from q (and v and a), which are the first r of the decoder's own."""
    widths, network = plan.widths, plan.network
    r, layers = widths[0], len(widths) - 1
    own = work.own if len(plan.mixing) else work.values
    at = 0
    for l in range(layers):
        n_in, n_out = widths[l], widths[l + 1]
        weights = network[at : at + n_out * n_in].reshape(n_out, n_in)
        at += n_out * n_in
        bias = network[at : at + n_out]
        at += n_out
        z, y, slopes = work.z[l], work.y[l], work.slopes[l]
        for b in range(blocks):
            if l == 0:
                apply(weights, own[b, :r], z[b, :n_out])
            else:
                apply(weights, work.y[l - 1, b, :n_in], z[b, :n_out])
        for i in range(n_out):
            z[0, i] += bias[i]
        activate(plan.activation, z[0], n_out, y[0], slopes)
        if blocks == 3:
            for i in range(n_out):
                y[1, i] = slopes[0, i] * z[1, i]
                y[2, i] = slopes[1, i] * z[1, i] ** 2 + slopes[0, i] * z[2, i]
    for b in range(blocks):
        if layers:
            own[b, r:] = work.y[layers - 1, b, : widths[layers]]
        if len(plan.mixing):
            apply(plan.mixing, own[b], work.values[b])


@merged
def propagate_lanes(plan, work, blocks):
    """The lanes of the features from the seeds, where the values are."""
    widths, network = plan.widths, plan.network
    r, layers, L = widths[0], len(widths) - 1, work.lanes.shape[2]
    own = work.own_lanes if len(plan.mixing) else work.lanes
    at = 0
    for l in range(layers):
        n_in, n_out = widths[l], widths[l + 1]
        weights = network[at : at + n_out * n_in].reshape(n_out, n_in)
        at += n_out * (n_in + 1)
        before, slopes, z = work.before[l], work.slopes[l], work.z[l]
        after = work.after[l] if l < layers - 1 else own[:, r:]
        if l > 0:
            for b in range(blocks):
                lanes_of_neurons(weights, work.after[l - 1, b, :n_in], before[b])
        for i in range(n_out):
            s1 = slopes[0, i]
            for k in range(L):
                after[0, i, k] = s1 * before[0, i, k]
            if blocks == 3:
                rate, twice = slopes[1, i] * z[1, i], 2 * slopes[1, i] * z[1, i]
                acceleration = slopes[2, i] * z[1, i] ** 2 + slopes[1, i] * z[2, i]
                for k in range(L):
                    z_k, z_vk, z_ak = before[0, i, k], before[1, i, k], before[2, i, k]
                    after[1, i, k] = rate * z_k + s1 * z_vk
                    after[2, i, k] = acceleration * z_k + twice * z_vk + s1 * z_ak
    if len(plan.mixing):
        for b in range(blocks):
            lanes_of_neurons(plan.mixing, own[b], work.lanes[b])


@merged
def pull_back(plan, work, p, R):
    """R = Dg^T p (r,) by a reverse sweep, where the values are; keeps the adjoint of each layer."""
    widths, network = plan.widths, plan.network
    r, layers = widths[0], len(widths) - 1
    own = p
    if len(plan.mixing):
        own = work.own_p
        apply_transposed(plan.mixing, p, own)
    for k in range(r):
        R[k] = own[k]
    at = len(network)
    for l in range(layers - 1, -1, -1):
        n_in, n_out = widths[l], widths[l + 1]
        at -= n_out * (n_in + 1)
        weights = network[at : at + n_out * n_in].reshape(n_out, n_in)
        adjoint, scaled, slopes = work.adjoint[l, :n_out], work.scaled[:n_out], work.slopes[l, 0]
        for i in range(n_out):
            if l == layers - 1:
                adjoint[i] = own[r + i]
            scaled[i] = adjoint[i] * slopes[i]
        if l > 0:
            apply_transposed(weights, scaled, work.adjoint[l - 1, :n_in])
        else:
            for i in range(n_out):
                for k in range(r):
                    R[k] += weights[i, k] * scaled[i]


@merged
def add_curvature(plan, work, square):
    """Add p . D^2 g to square (L, L), for the p of the last `pull_back`, where the lanes are; overwrites the lanes after each layer."""
    widths = plan.widths
    r, L = widths[0], square.shape[0]
    for l in range(len(widths) - 1):
        n = widths[l + 1]
        A, scaled = work.before[l, 0, :n], work.after[l, 0, :n]
        for i in range(n):
            t = work.adjoint[l, i] * work.slopes[l, 1, i]
            for k in range(L):
                scaled[i, k] = t * A[i, k]
        square_of_neurons(scaled, A, r, work.square[1])
        for k in range(r):
            for j in range(L):
                square[k, j] += work.square[1, k, j]
