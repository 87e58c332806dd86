"""A small rasteriser: shaded triangle surfaces in numpy arrays, without OpenGL or a window.

Each triangle is filled by its barycentric coordinates against a depth buffer; normals are interpolated across faces except over creases
of the rest shape, and edges of the mesh are drawn as thin lines. Light is added up in linear colour, on a grid finer than the image.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_matrix

SUPERSAMPLING = 2
GAMMA = 2.2
CREASE = math.cos(math.radians(35))
KEY = np.array([-0.45, 0.70, 0.55])  # towards the lights, in the camera's axes: right, up, towards the viewer
FILL = np.array([0.80, 0.10, 0.60])
GHOST_OPACITY = 0.45
SHADOW_DEPTH, SHADOW_BLUR = 0.28, 0.008  # darkening, and blur in parts of the image's width
TO_SRGB = np.round(255 * np.linspace(0, 1, 4096) ** (1 / GAMMA)).astype(np.uint8)


class Shading:
    """Normals of a deforming surface at the corners of its triangles (n, 3), smooth within each crease of the rest shape."""

    def __init__(self, rest: np.ndarray, triangles: np.ndarray):
        n = len(triangles)
        faces = np.repeat(np.arange(n), 3)
        around = csr_matrix((np.ones(3 * n), (triangles.ravel(), faces)), shape=(len(rest), n))  # vertex -> its faces
        pairs = around[triangles.ravel()].tocoo()  # corner -> the faces at its vertex
        normals = _unit(_face_normals(rest, triangles))
        smooth = np.einsum("ij,ij->i", normals[pairs.row // 3], normals[pairs.col]) > CREASE
        self.triangles = np.ascontiguousarray(triangles)
        self._average = csr_matrix((np.ones(smooth.sum()), (pairs.row[smooth], pairs.col[smooth])), shape=(3 * n, n))

    def normals(self, positions: np.ndarray) -> np.ndarray:
        """Unit normals (n, 3, 3) at the corners for positions (vertices, 3)."""
        return _unit(self._average @ _face_normals(positions, self.triangles)).reshape(-1, 3, 3)


def _face_normals(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Normals weighted by area (n, 3)."""
    a, b, c = np.moveaxis(positions[triangles], 1, 0)
    return np.cross(b - a, c - a)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


class Camera:
    """An orthographic view, z up, that holds the given points (n, 3) in an image of the given width [pixels].

    The horizontal axis along which the points reach farthest runs across the image.
    """

    def __init__(self, points: np.ndarray, width: int, *, azimuth: float = 24.0, elevation: float = 17.0, margin: float = 0.05):
        low, high = points.min(axis=0), points.max(axis=0)
        turn = np.radians(azimuth + (90.0 if high[1] - low[1] > high[0] - low[0] else 0.0))
        tilt = np.radians(elevation)
        right = np.array([np.cos(turn), np.sin(turn), 0.0])
        towards = np.array([np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
        self.axes = np.stack([right, np.cross(towards, right), towards])
        seen = points @ self.axes.T
        low, high = seen.min(axis=0)[:2], seen.max(axis=0)[:2]
        extent = np.maximum(high - low, 1e-9 * np.abs(seen).max()) * (1 + 2 * margin)
        self.width = width
        self.height = int(2 * round(width * float(np.clip(extent[1] / extent[0], 0.35, 0.8)) / 2))
        self._scale = min(width / extent[0], self.height / extent[1])
        self._centre = (low + high) / 2

    def project(self, positions: np.ndarray) -> np.ndarray:
        """Pixels right and down, and nearness (vertices, 3), on the supersampled grid."""
        seen = positions @ self.axes.T
        flat = (seen[:, :2] - self._centre) * self._scale * [1.0, -1.0] + [self.width / 2, self.height / 2]
        return np.column_stack([flat * SUPERSAMPLING, seen[:, 2]])


class Layer:
    """What a camera sees of surfaces: linear colour (height, width, 3) and nearness, -inf where nothing is, supersampled."""

    def __init__(self, camera: Camera):
        size = (SUPERSAMPLING * camera.height, SUPERSAMPLING * camera.width)
        self.camera = camera
        self.colour = np.ones((*size, 3), np.float32)
        self.nearness = np.full(size, -np.inf, np.float32)

    def draw(self, positions: np.ndarray, shading: Shading, colour: np.ndarray) -> None:
        """Add a surface (vertices, 3) [m] with the linear colour (3,)."""
        normals = np.ascontiguousarray(shading.normals(positions) @ self.camera.axes.T)
        points = self.camera.project(positions)
        _fill(points, shading.triangles, normals, colour, _unit(KEY), _unit(FILL), self.colour, self.nearness)

    def add_ghost(self, ghost: Layer) -> None:
        """Show another layer's surfaces, translucent, where this one has none."""
        _blend(self.colour, self.nearness, ghost.colour, ghost.nearness, GHOST_OPACITY)

    def shade_floor(self, positions: np.ndarray, shading: Shading, height: float) -> None:
        """Darken the background by a soft shadow of the surface on the floor z = height [m], light falling straight down."""
        points = self.camera.project(np.column_stack([positions[:, :2], np.full(len(positions), height)])) / SUPERSAMPLING
        sigma = SHADOW_BLUR * self.camera.width
        reach = int(4 * sigma) + 1
        size = np.array([self.camera.width, self.camera.height])
        low = np.clip(points[:, :2].min(axis=0).astype(int) - reach, 0, size)
        high = np.clip(points[:, :2].max(axis=0).astype(int) + reach, low, size)
        covered = np.zeros((high - low)[::-1], np.float32)  # the part of the image that the shadow reaches
        if not covered.size:
            return
        _cover(points - [*low, 0], shading.triangles, covered)
        light = 1 - SHADOW_DEPTH * gaussian_filter(covered, sigma, truncate=3.0)
        (left, top), (right, bottom), s = low * SUPERSAMPLING, high * SUPERSAMPLING, SUPERSAMPLING
        self.colour[top:bottom, left:right] *= light.repeat(s, axis=0).repeat(s, axis=1)[:, :, None]

    def image(self) -> np.ndarray:
        """sRGB (height, width, 3) uint8."""
        image = np.empty((self.camera.height, self.camera.width, 3), np.uint8)
        _resolve(self.colour, SUPERSAMPLING, TO_SRGB, image)
        return image


def linear_colour(code: str) -> np.ndarray:
    """Linear RGB (3,) of a colour written #rrggbb."""
    return np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]) ** GAMMA


@njit(cache=True)
def _fill(points, triangles, normals, colour, key, fill, image, nearness):
    """Rasterise front faces; nearer pixels win."""
    height, width = nearness.shape
    for t in range(len(triangles)):
        a, b, c = points[triangles[t, 0]], points[triangles[t, 1]], points[triangles[t, 2]]
        area = (c[0] - a[0]) * (b[1] - a[1]) - (b[0] - a[0]) * (c[1] - a[1])  # positive when seen from outside: y runs down
        if not area > 0:
            continue
        na, nb, nc = normals[t, 0], normals[t, 1], normals[t, 2]
        # heights of the triangle over its sides turn barycentric coordinates into distances from the sides [pixels]
        over_a = area / math.hypot(c[0] - b[0], c[1] - b[1])
        over_b = area / math.hypot(a[0] - c[0], a[1] - c[1])
        over_c = area / math.hypot(b[0] - a[0], b[1] - a[1])
        for y in range(max(0, int(min(a[1], b[1], c[1]))), min(height, int(max(a[1], b[1], c[1])) + 2)):
            for x in range(max(0, int(min(a[0], b[0], c[0]))), min(width, int(max(a[0], b[0], c[0])) + 2)):
                px, py = x + 0.5, y + 0.5
                wa = ((c[0] - px) * (b[1] - py) - (b[0] - px) * (c[1] - py)) / area
                wb = ((a[0] - px) * (c[1] - py) - (c[0] - px) * (a[1] - py)) / area
                wc = 1 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                near = wa * a[2] + wb * b[2] + wc * c[2]
                if near <= nearness[y, x]:
                    continue
                nearness[y, x] = near
                # written out by component: an array expression would be allocated for each pixel
                nx = wa * na[0] + wb * nb[0] + wc * nc[0]
                ny = wa * na[1] + wb * nb[1] + wc * nc[1]
                nz = wa * na[2] + wb * nb[2] + wc * nc[2]
                unit = 1 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-30)
                towards_key = max(0.0, unit * (nx * key[0] + ny * key[1] + nz * key[2]))
                towards_fill = max(0.0, unit * (nx * fill[0] + ny * fill[1] + nz * fill[2]))
                light = 0.58 + 0.12 * unit * ny + 0.62 * towards_key + 0.30 * towards_fill
                side = min(wa * over_a, wb * over_b, wc * over_c)
                light *= 0.72 + 0.28 * min(1.0, max(0.0, side - 0.2))
                glint = 0.10 * max(0.0, 2 * towards_key * unit * nz - key[2]) ** 24  # Phong, the viewer along the third axis
                for i in range(3):
                    image[y, x, i] = min(1.0, light * colour[i] + glint)


@njit(cache=True)
def _cover(points, triangles, covered):
    """Set the pixels that the triangles cover, whichever way they face."""
    height, width = covered.shape
    for t in range(len(triangles)):
        a, b, c = points[triangles[t, 0]], points[triangles[t, 1]], points[triangles[t, 2]]
        area = (c[0] - a[0]) * (b[1] - a[1]) - (b[0] - a[0]) * (c[1] - a[1])
        if area == 0:
            continue
        for y in range(max(0, int(min(a[1], b[1], c[1]))), min(height, int(max(a[1], b[1], c[1])) + 2)):
            for x in range(max(0, int(min(a[0], b[0], c[0]))), min(width, int(max(a[0], b[0], c[0])) + 2)):
                px, py = x + 0.5, y + 0.5
                wa = ((c[0] - px) * (b[1] - py) - (b[0] - px) * (c[1] - py)) / area
                wb = ((a[0] - px) * (c[1] - py) - (c[0] - px) * (a[1] - py)) / area
                if wa >= 0 and wb >= 0 and wa + wb <= 1:
                    covered[y, x] = 1.0


@njit(cache=True)
def _blend(colour, nearness, ghost_colour, ghost_nearness, opacity):
    height, width = nearness.shape
    for y in range(height):
        for x in range(width):
            if nearness[y, x] == -np.inf and ghost_nearness[y, x] > -np.inf:
                for i in range(3):
                    colour[y, x, i] += opacity * (ghost_colour[y, x, i] - colour[y, x, i])


@njit(cache=True)
def _resolve(colour, s, table, image):
    """Average s x s samples a pixel and look their linear colour up in the table."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for i in range(3):
                total = 0.0
                for dy in range(s):
                    for dx in range(s):
                        total += colour[s * y + dy, s * x + dx, i]
                image[y, x, i] = table[int(total / (s * s) * (len(table) - 1) + 0.5)]
