"""Linear tetrahedra: from nodal displacements to energy, force and stiffness, assembled on a fixed sparsity pattern.

With shape gradients g_a (constant in an element, sum over a of g_a = 0) and volume V,

    F = I + sum_a u_a g_a^T,     f_a = V P g_a,     K_ab[i, k] = V sum_jl g_a[j] A_ijkl g_b[l]

Each row of tetrahedra is sorted (its orientation does not matter here), so that every block K_ab with a <= b lies in the upper triangle:
only those are summed, and the symmetric counterpart is copied when the CSR data are written. Elements are lanes of the innermost
loops and are visited in chunks that stay in the cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix, kron

from hodsim.fem.materials import Material

CHUNK = 512  # elements; their stiffness tensors take 330 kB
PAIRS = [(a, b) for a in range(4) for b in range(a, 4)]

compiled = njit(cache=True, error_model="numpy", fastmath={"contract"})


class Elements:
    """Elements of a mesh whose first n_free vertices may move; what concerns the others is left out of forces and stiffness.

    vertices (V, 3) [m], tetrahedra (T, 4); weights (T,) multiply what each element contributes, 1 unless given (cubature). Displacements and
    forces are (V, 3). Buffers are reused: not for several threads at once."""

    def __init__(self, vertices: np.ndarray, tetrahedra: np.ndarray, n_free: int, *, weights: np.ndarray | None = None):
        self.vertices, self.tetrahedra = vertices, np.sort(tetrahedra, axis=1)
        self.n_free = n_free
        x = vertices[self.tetrahedra]
        edges = x[:, 1:] - x[:, :1]  # rows x_a - x_0
        self.volumes = np.abs(np.linalg.det(edges)) / 6
        if weights is not None:
            self.volumes *= weights
        g = np.swapaxes(np.linalg.inv(edges), 1, 2)  # rows g_1, g_2, g_3
        self.gradients = _as_lanes(np.concatenate([-g.sum(axis=1, keepdims=True), g], axis=1))  # (4, 3, T)
        self._F, self._P = (np.empty((3, 3, len(x))) for _ in range(2))
        self._A, self._K = np.empty(81 * CHUNK), np.empty(9 * len(PAIRS) * CHUNK)
        self._build_pattern()

    def _build_pattern(self) -> None:
        """Symbolic assembly: the upper blocks (i <= j), where each element adds to them, and where they lie in the CSR data."""
        n, tetrahedra = self.n_free, self.tetrahedra
        rows = np.stack([tetrahedra[:, a] for a, _ in PAIRS])  # (10, T)
        columns = np.stack([tetrahedra[:, b] for _, b in PAIRS])
        free = columns < n  # sorted rows: then the row is free as well
        keys, slots = np.unique(rows[free] * n + columns[free], return_inverse=True)
        self._slots = np.full(rows.shape, len(keys), np.int32)  # what involves a pinned vertex goes to a last block, which is dropped
        self._slots[free] = slots
        self._blocks = np.empty((len(keys) + 1, 9))
        i, j = keys // n, keys % n
        upper = csr_matrix((np.ones(len(keys)), (i, j)), (n, n))
        graph = (upper + upper.T).tocsr()
        graph.sort_indices()
        degree = np.diff(graph.indptr)
        order = np.searchsorted(np.repeat(np.arange(n), degree) * n + graph.indices, [i * n + j, j * n + i])  # (2, blocks)
        within = order - graph.indptr[np.stack([i, j])]
        self._first = 9 * graph.indptr[np.stack([i, j])].astype(np.int64) + 3 * within  # of K_ij and K_ji in the CSR data
        self._stride = 3 * degree[np.stack([i, j])].astype(np.int64)
        self.pattern = kron(graph, np.ones((3, 3)), "csr")
        self.pattern.sort_indices()

    def energy(self, material: Material, u: np.ndarray) -> float:
        """Elastic energy [J] of displacements u (V, 3) [m]."""
        return float(self.volumes @ material.energy_density(self.deformation_gradient(u)))

    def deformation_gradient(self, u: np.ndarray) -> np.ndarray:
        """F (T, 3, 3), a view of a buffer."""
        _deformation_gradient(u, self.tetrahedra, self.gradients, self._F)
        return _as_tensors(self._F)

    def force(self, material: Material, u: np.ndarray, out: np.ndarray) -> None:
        """Write the internal force [N] of displacements u to out (V, 3)."""
        material.stress(self.deformation_gradient(u), out=_as_tensors(self._P))
        out.fill(0.0)
        _add_forces(self._P, self.gradients, self.volumes, self.tetrahedra, out)

    def generalized_forces(self, material: Material, u: np.ndarray, J: np.ndarray) -> np.ndarray:
        """J^T f_e of each element e, (r, T), for a Jacobian J (3 n_free, r) of the free displacements."""
        material.stress(self.deformation_gradient(u), out=_as_tensors(self._P))
        out = np.empty((J.shape[1], len(self.tetrahedra)))
        _project_forces(self._P, self.gradients, self.volumes, self.tetrahedra, J, out)
        return out

    def stiffness(self, material: Material, u: np.ndarray, out: np.ndarray) -> None:
        """Write the CSR data of the stiffness df/du [N/m] on `pattern` to out."""
        F = self.deformation_gradient(u)
        self._blocks.fill(0.0)
        for start in range(0, len(F), CHUNK):
            part = F[start : start + CHUNK]
            A = self._A[: 81 * len(part)].reshape(3, 3, 3, 3, -1)
            K = self._K[: 9 * len(PAIRS) * len(part)].reshape(len(PAIRS), 9, -1)
            material.among(slice(start, start + CHUNK)).stiffness(part, out=_as_tensors(A))
            _element_stiffness(A, self.gradients, self.volumes, start, K)
            _add_blocks(K, self._slots, start, self._blocks)
        _write_data(self._blocks, self._first, self._stride, out)


def scalar_mass(tetrahedra: np.ndarray, volumes: np.ndarray, n_vertices: int, *, lumped: bool) -> csr_matrix:
    """Integral of N_a N_b over the mesh [m^3], (V, V): V/20 (1 + d_ab) in each element, or its row sums V/4 on the diagonal."""
    if lumped:
        diagonal = np.bincount(tetrahedra.ravel(), np.repeat(volumes / 4, 4), n_vertices)
        return csr_matrix((diagonal, np.arange(n_vertices), np.arange(n_vertices + 1)), (n_vertices, n_vertices))
    values = volumes[:, None, None] / 20 * (1 + np.eye(4))
    rows, columns = np.repeat(tetrahedra, 4, axis=1), np.tile(tetrahedra, (1, 4))
    return csr_matrix((values.ravel(), (rows.ravel(), columns.ravel())), (n_vertices, n_vertices))


def _as_lanes(tensors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tensors.transpose(*range(1, tensors.ndim), 0))


def _as_tensors(lanes: np.ndarray) -> np.ndarray:
    return lanes.transpose(lanes.ndim - 1, *range(lanes.ndim - 1))


@compiled
def _deformation_gradient(u, tetrahedra, g, F):
    n = F.shape[2]
    d = np.empty((4, 3, n))  # u_a - u_0: a translation cancels exactly
    for e in range(n):
        for a in range(1, 4):
            for i in range(3):
                d[a, i, e] = u[tetrahedra[e, a], i] - u[tetrahedra[e, 0], i]
    for i in range(3):
        for j in range(3):
            unit = 1.0 if i == j else 0.0
            for e in range(n):
                F[i, j, e] = unit + d[1, i, e] * g[1, j, e] + d[2, i, e] * g[2, j, e] + d[3, i, e] * g[3, j, e]


@compiled
def _add_forces(P, g, volumes, tetrahedra, f):
    n = P.shape[2]
    f_a = np.empty((4, 3, n))
    for a in range(4):
        for i in range(3):
            for e in range(n):
                f_a[a, i, e] = volumes[e] * (P[i, 0, e] * g[a, 0, e] + P[i, 1, e] * g[a, 1, e] + P[i, 2, e] * g[a, 2, e])
    for e in range(n):
        for a in range(4):
            for i in range(3):
                f[tetrahedra[e, a], i] += f_a[a, i, e]


@compiled
def _project_forces(P, g, volumes, tetrahedra, J, out):
    total = np.empty(J.shape[1])
    for e in range(P.shape[2]):
        total[:] = 0.0
        for a in range(4):
            vertex = tetrahedra[e, a]
            if 3 * vertex >= J.shape[0]:
                break  # rows are sorted: from here on vertices are pinned
            for i in range(3):
                f_ai = volumes[e] * (P[i, 0, e] * g[a, 0, e] + P[i, 1, e] * g[a, 1, e] + P[i, 2, e] * g[a, 2, e])
                for k in range(total.size):
                    total[k] += f_ai * J[3 * vertex + i, k]
        for k in range(total.size):
            out[k, e] = total[k]


@compiled
def _element_stiffness(A, gradients, volumes, start, K):
    """K (10, 9, n): the blocks a <= b, in the order of PAIRS, of the n elements from start on, whose tensors are A."""
    n = A.shape[4]
    g, V = np.empty((4, 3, n)), volumes[start : start + n]
    for a in range(4):
        for j in range(3):
            for e in range(n):
                g[a, j, e] = gradients[a, j, start + e]
    T = np.empty((3, 3, 3, n))  # T_ijk = V sum_l A_ijkl g_b[l]
    for b in range(1, 4):
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    for e in range(n):
                        T[i, j, k, e] = V[e] * (A[i, j, k, 0, e] * g[b, 0, e] + A[i, j, k, 1, e] * g[b, 1, e] + A[i, j, k, 2, e] * g[b, 2, e])
        for a in range(b + 1):
            pair = 4 * a - a * (a + 1) // 2 + b
            for i in range(3):
                for k in range(3):
                    for e in range(n):
                        K[pair, 3 * i + k, e] = g[a, 0, e] * T[i, 0, k, e] + g[a, 1, e] * T[i, 1, k, e] + g[a, 2, e] * T[i, 2, k, e]
        _mirror(K[4 * b - b * (b + 1) // 2 + b])
    for c in range(9):
        for e in range(n):
            K[0, c, e] = -(K[1, c, e] + K[2, c, e] + K[3, c, e])  # the gradients sum to zero
    _mirror(K[0])


@compiled
def _mirror(block):
    """Make a block on the diagonal (9, n) symmetric to the last bit."""
    for i in range(3):
        for k in range(i):
            for e in range(block.shape[1]):
                block[3 * i + k, e] = block[3 * k + i, e]


@compiled
def _add_blocks(K, slots, start, blocks):
    for pair in range(K.shape[0]):
        for e in range(K.shape[2]):
            slot = slots[pair, start + e]
            for c in range(9):
                blocks[slot, c] += K[pair, c, e]


@compiled
def _write_data(blocks, first, stride, data):
    """Write each upper block and its transpose below the diagonal; a block on the diagonal is symmetric and both are one."""
    for slot in range(first.shape[1]):
        for i in range(3):
            for k in range(3):
                data[first[0, slot] + i * stride[0, slot] + k] = blocks[slot, 3 * i + k]
                data[first[1, slot] + k * stride[1, slot] + i] = blocks[slot, 3 * i + k]
