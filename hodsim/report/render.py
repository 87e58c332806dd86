"""Pictures and animations of deforming bodies side by side, each with the first one behind it as a ghost: the error can be seen.

Files are PNG for pictures, MP4 or GIF, by suffix, for animations.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hodsim.checks import positive, shape
from hodsim.report.raster import Camera, Layer, Shading, linear_colour
from hodsim.storage import write_atomically

INK, FAINT, GHOST = "#1b1b1b", "#6b6b6b", "#9a9ea6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito: told apart by colour-blind readers
CAPTION = 44  # pixels above each panel
GAP = 12

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Body:
    """A deforming surface: its label, displacements (frames, vertices, 3) [m], NaN where there is none, colour and a remark."""

    label: str
    displacements: np.ndarray
    colour: str
    remark: str = ""


class Scene:
    """Bodies over one rest shape, vertices (V, 3) [m] and outward triangles (n, 3), at times (frames,) [s].

    The first body is the reference: the view is fitted to it, and it appears as a grey ghost behind the others.
    """

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, bodies: Sequence[Body], times: np.ndarray, *, panel_width: int = 520):
        if not bodies:
            raise ValueError("a scene has 0 bodies; expected at least one")
        for body in bodies:
            shape(f"displacements of {body.label}", body.displacements, (len(times), len(vertices), 3))
        self.vertices, self.bodies, self.times = vertices, tuple(bodies), times
        self._shading = Shading(vertices, triangles)
        seen = (vertices + bodies[0].displacements)[:, np.unique(triangles)].reshape(-1, 3)
        seen = np.concatenate([seen[np.isfinite(seen).all(axis=1)], vertices])
        low, high = seen.min(axis=0), seen.max(axis=0)
        self._floor = low[2] - 0.06 * float(np.linalg.norm(high - low))
        shadow = np.column_stack([seen[:, :2], np.full(len(seen), self._floor)])
        self._camera = Camera(np.concatenate([seen, shadow]), panel_width)
        self._columns = len(bodies) if len(bodies) < 4 else math.ceil(len(bodies) / 2)

    def __len__(self) -> int:
        return len(self.times)

    def image(self, frame: int) -> np.ndarray:
        """The bodies at a frame, side by side: sRGB (height, width, 3) uint8, height and width even."""
        rows = math.ceil(len(self.bodies) / self._columns)
        width, height = self._camera.width + GAP, self._camera.height + CAPTION + GAP
        canvas = Image.new("RGB", (self._columns * width + GAP, rows * height + GAP), "white")
        ghost = self._ghost(frame)
        for i, body in enumerate(self.bodies):
            row, column = divmod(i, self._columns)
            left, top = GAP + column * width, GAP + row * height
            canvas.paste(Image.fromarray(self._panel(body, frame, ghost)), (left, top + CAPTION))
            self._caption(ImageDraw.Draw(canvas), body, frame, left, top)
        ImageDraw.Draw(canvas).text(
            (canvas.width - GAP, canvas.height - GAP), f"t = {self.times[frame]:.2f} s", FAINT, _font(15), anchor="rs"
        )
        return np.asarray(canvas)[: canvas.height // 2 * 2, : canvas.width // 2 * 2]

    def _ghost(self, frame: int) -> Layer:
        """The reference alone, in grey."""
        layer, reference = Layer(self._camera), self.bodies[0]
        if self._exists(reference, frame):
            layer.draw(self.vertices + reference.displacements[frame], self._shading, linear_colour(GHOST))
        return layer

    def _panel(self, body: Body, frame: int, ghost: Layer) -> np.ndarray:
        layer = Layer(self._camera)
        if self._exists(body, frame):
            positions = self.vertices + body.displacements[frame]
            layer.shade_floor(positions, self._shading, self._floor)
            layer.draw(positions, self._shading, linear_colour(body.colour))
        if body is not self.bodies[0]:
            layer.add_ghost(ghost)
        return layer.image()

    def _caption(self, draw: ImageDraw.ImageDraw, body: Body, frame: int, left: int, top: int) -> None:
        remark = body.remark if self._exists(body, frame) else "failed"
        draw.rounded_rectangle((left, top + 5, left + 16, top + 21), 4, body.colour)
        draw.text((left + 26, top + 19), body.label, INK, _font(19, bold=True), anchor="ls")
        draw.text((left + 26, top + 38), remark, FAINT, _font(14), anchor="ls")

    def _exists(self, body: Body, frame: int) -> bool:
        return bool(np.isfinite(body.displacements[frame]).all())


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def picture(path: Path | str, scene: Scene, *, frame: int = -1) -> Path:
    """Write a frame of the scene as PNG and return the path."""
    file = io.BytesIO()
    Image.fromarray(scene.image(frame)).save(file, "PNG", optimize=True)
    return write_atomically(path, file.getvalue())


def animation(path: Path | str, scene: Scene, *, fps: float | None = None, progress: Progress | None = None) -> Path:
    """Write the scene as MP4 (H.264) or GIF, by the suffix of path, and return the path.

    Without fps [1/s] it plays in real time. progress is called with the frames done and in all.
    Raises ValueError for another suffix.
    """
    if fps is None:
        fps = (len(scene) - 1) / float(scene.times[-1] - scene.times[0]) if len(scene) > 1 else 1.0

    def frames() -> Iterator[np.ndarray]:
        for frame in range(len(scene)):
            yield scene.image(frame)
            if progress is not None:
                progress(frame + 1, len(scene))

    return film(path, frames(), fps=fps)


def film(path: Path | str, frames: Iterator[np.ndarray], *, fps: float) -> Path:
    """Write frames (height, width, 3) uint8, shown for 1 / fps [s] each, as MP4 (H.264) or GIF, by the suffix of path.

    Raises ValueError for another suffix, before a frame is asked for.
    """
    path = Path(path)
    encoders = {".mp4": _mp4, ".gif": _gif}
    if path.suffix.lower() not in encoders:
        raise ValueError(f"{path} has the suffix {path.suffix!r}; expected .mp4 or .gif")
    return write_atomically(path, encoders[path.suffix.lower()](frames, positive("fps", fps)))


def _mp4(frames: Iterator[np.ndarray], fps: float) -> bytes:
    first = next(frames)
    height, width, _ = first.shape
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "animation.mp4"
        encoding = ["-crf", "23", "-movflags", "+faststart"]
        writer = imageio_ffmpeg.write_frames(
            str(file),
            (width, height),
            fps=fps,  # pyright: ignore[reportArgumentType]  (annotated as int; any number will do)
            codec="libx264",
            macro_block_size=2,
            output_params=encoding,
        )
        writer.send(None)  # the generator's start
        writer.send(first)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return file.read_bytes()


def _gif(frames: Iterator[np.ndarray], fps: float) -> bytes:
    first, *rest = (Image.fromarray(frame).quantize(64) for frame in frames)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=1e3 / fps, loop=0, optimize=True)
    return file.getvalue()
