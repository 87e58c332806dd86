"""Pictures against what must be seen: where a body is, which way it faces, how pictures differ between poses."""

import io

import imageio_ffmpeg
import numpy as np
import pytest
from made_up import REST, TRIANGLES
from PIL import Image

from hodsim.mesh import TetMesh
from hodsim.report import Body, Scene, animation, picture
from hodsim.report.raster import Camera, Layer, Shading, linear_colour

TIMES = np.linspace(0, 0.5, 6)
CUBE = TetMesh.box((1.0, 1.0, 1.0), (2, 2, 2))


def raised(height: float) -> np.ndarray:
    """The strip's end rises to the height over the frames."""
    displacements = np.zeros((len(TIMES), len(REST), 3))
    displacements[:, 3, 2] = height * TIMES / TIMES[-1]
    return displacements


def scene(**options) -> Scene:
    bodies = [Body("full model", raised(0.5), "#5c626b"), Body("reduced", raised(0.3), "#0072b2", "an error to be seen")]
    return Scene(REST, TRIANGLES, bodies, TIMES, panel_width=160, **options)


def test_normals_of_a_cube_are_its_axes():
    """Smoothing stops at the creases: each corner has the normal of its own face."""
    normals = Shading(CUBE.vertices, CUBE.surface).normals(CUBE.vertices)
    np.testing.assert_allclose(np.sort(np.abs(normals), axis=2), np.broadcast_to([0.0, 0.0, 1.0], normals.shape), atol=1e-15)
    centres = CUBE.vertices[CUBE.surface].mean(axis=1) - 0.5
    assert (np.einsum("nj,nkj->nk", centres, normals) > 0).all()  # outward


def test_normals_turn_with_the_body():
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    shading = Shading(CUBE.vertices, CUBE.surface)
    np.testing.assert_allclose(shading.normals(CUBE.vertices @ quarter.T), shading.normals(CUBE.vertices) @ quarter.T, atol=1e-15)


def test_the_covered_area_is_that_of_the_projection():
    """A unit cube seen along a direction n covers |n_x| + |n_y| + |n_z| of unit area."""
    camera = Camera(CUBE.vertices, 400)
    layer = Layer(camera)
    layer.draw(CUBE.vertices, Shading(CUBE.vertices, CUBE.surface), linear_colour("#888888"))
    metre = abs(np.diff(camera.project(np.array([np.zeros(3), camera.axes[0]]))[:, 0])[0])
    assert np.isfinite(layer.nearness).sum() / metre**2 == pytest.approx(np.abs(camera.axes[2]).sum(), rel=0.01)


def test_the_nearer_surface_hides_the_farther():
    """Whichever is drawn first; the nearer one is larger, so that it hides the other's edges too."""
    camera = Camera(CUBE.vertices, 120, margin=0.3)
    shading, far = Shading(CUBE.vertices, CUBE.surface), CUBE.vertices
    near = 1.1 * (far - 0.5) + 0.5 + camera.axes[2]
    red, blue = linear_colour("#d50000"), linear_colour("#0000d5")
    images = []
    for order in (((near, red), (far, blue)), ((far, blue), (near, red))):
        layer = Layer(camera)
        for positions, colour in order:
            layer.draw(positions, shading, colour)
        images.append(layer.image().astype(int))
    np.testing.assert_array_equal(*images)
    assert (images[0][..., 0] - images[0][..., 2] > 40).any() and not (images[0][..., 2] - images[0][..., 0] > 40).any()


def test_pictures_differ_between_poses_and_show_each_body(tmp_path):
    first = np.asarray(Image.open(picture(tmp_path / "first.png", scene(), frame=0))).astype(int)
    last = np.asarray(Image.open(picture(tmp_path / "last.png", scene()))).astype(int)
    assert first.shape == last.shape and first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert (np.abs(first - last).max(axis=2) > 20).mean() > 0.01
    blue = (last[..., 2] - last[..., 0] > 60).nonzero()[1]
    assert len(blue) > 50 and blue.min() > last.shape[1] / 2  # the second body has the right-hand panel


def test_a_failed_body_is_left_out(tmp_path):
    gone = raised(0.3)
    gone[3:] = np.nan
    partial = Scene(REST, TRIANGLES, [Body("full model", raised(0.5), "#5c626b"), Body("reduced", gone, "#0072b2")], TIMES, panel_width=160)
    panel = partial.image(5)[40:, 190:].astype(int)
    assert not (panel[..., 2] - panel[..., 0] > 60).any() and (panel < 230).any()  # no blue body, the grey one still behind


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_animations_have_every_frame(tmp_path, suffix):
    seen = []
    path = animation(tmp_path / f"swing{suffix}", scene(), progress=lambda *now: seen.append(now))
    assert seen == [(i, 6) for i in range(1, 7)]
    if suffix == ".mp4":
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(path)
        assert frames == 6 and seconds == pytest.approx(0.6, abs=0.11)
    else:
        assert Image.open(io.BytesIO(path.read_bytes())).n_frames == 6


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"suffix '.avi'; expected .mp4 or .gif"):
        animation(tmp_path / "swing.avi", scene())
    with pytest.raises(ValueError, match="0 bodies"):
        Scene(REST, TRIANGLES, [], TIMES)
    with pytest.raises(ValueError, match=r"displacements of short has shape \(2, 4, 3\); expected \(6, 4, 3\)"):
        Scene(REST, TRIANGLES, [Body("short", raised(0.5)[:2], "#5c626b")], TIMES)
