"""`hodsim mesh`: look at a mesh file, make a beam, fill a closed surface, tidy what other programs left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hodsim.apps.arguments import Set
from hodsim.apps.console import facts, say, working
from hodsim.checks import positive
from hodsim.mesh import TetMesh
from hodsim.mesh import fill as fill_surface
from hodsim.project import Project
from hodsim.report import Body, Scene, picture

mesh = typer.Typer(name="mesh", help="Look at a mesh file, make a beam, fill a closed surface, tidy a mesh.", no_args_is_help=True)
Output = Annotated[Path, typer.Argument(help="Mesh file to write (.msh, .vtu, .vtk, .mesh, .inp, .xdmf, .node).")]


@mesh.command()
def info(
    file: Annotated[Path, typer.Argument(help="Mesh of tetrahedra, in metres, or a project (.toml, or its folder of results), for its mesh.")],
    density: Annotated[float | None, typer.Option(help="In kilograms per cubic metre, for the mass; default: that of the project, or 1000.")] = None,
    output: Annotated[Path | None, typer.Option("--picture", help="Picture to draw; default: the mesh's name with .png, in this folder.")] = None,
    set: Set = None,
) -> None:
    """Say what a mesh holds and draw it: counts, volume, mass, bounding box, quality, connected parts, groups; of a project, what is pinned, too.

    Example: hodsim mesh info body.vtu --density 1100          or          hodsim mesh info body.toml --set pins.on='["wall"]'
    """
    if density is not None:
        positive("--density", density)
    if file.suffix == ".toml" or file.is_dir():
        project = Project.open(file, set or ())
        body, weighs, told = project.mesh, project.density, of_project(project)
    else:
        if set:
            raise ValueError(f"--set {set[0]} changes a setting of a project, and {file} is a mesh; name the project")
        body, weighs, told = TetMesh.load(file), 1e3, {}
    drawn = draw(body, output or Path(f"{file.stem}.png"), file.name)
    facts(described(body, weighs if density is None else density) | told)
    say(f"saved {drawn}")


@mesh.command()
def beam(
    output: Output,
    size: Annotated[tuple[float, float, float], typer.Option(help="Lengths along x, y and z in metres.")],
    divisions: Annotated[tuple[int, int, int], typer.Option(help="Cells along x, y and z, of five tetrahedra each.")],
) -> None:
    """Make a box of tetrahedra with one corner at the origin.

    Example: hodsim mesh beam --size 1 0.1 0.1 --divisions 20 2 2 beam.msh
    """
    saved(TetMesh.box(size, divisions), output)


@mesh.command()
def fill(
    surface: Annotated[Path, typer.Argument(help="Closed surface in metres (.obj, .stl, .ply).")],
    output: Output,
    edge_length: Annotated[float | None, typer.Option(help="Length of edges inside in metres; default: a twentieth of the diagonal.")] = None,
    tolerance: Annotated[float, typer.Option(help="How far the surface may move, relative to the diagonal.")] = 1e-3,
) -> None:
    """Fill a closed surface with tetrahedra (by pytetwild, of the extra `meshes`).

    Example: hodsim mesh fill body.stl body.vtu --edge-length 0.02
    """
    with working("Filling"):
        body = fill_surface(surface, edge_length=edge_length, tolerance=tolerance)
    saved(body, output)


@mesh.command()
def tidy(
    file: Annotated[Path, typer.Argument(help="Mesh of tetrahedra.")],
    output: Output,
    scale: Annotated[float, typer.Option(help="Factor of all coordinates: 0.001 turns millimetres into metres.")] = 1.0,
) -> None:
    """Join vertices in one place, leave out unused vertices and flat tetrahedra, turn inverted ones, rescale; say how many of each.

    Example: hodsim mesh tidy part.inp body.vtu --scale 0.001
    """
    body, done = TetMesh.tidy(file, scale=scale)
    for what, count in done.items():
        if count:
            say(f"{count} {what}")
    saved(body, output)


def saved(body: TetMesh, output: Path) -> None:
    file = body.save(output)
    say(f"saved {file}: {len(body.vertices)} vertices, {len(body.tetrahedra)} tetrahedra, worst quality {body.quality.min():.2g}")


def of_project(project: Project) -> dict[str, str]:
    """What a project makes of its mesh, line by line."""
    full, materials = project.full, project.material.shares(np.arange(len(project.mesh.tetrahedra)))
    return {
        "pinned": f"{full.pinned.sum()} vertices on {', '.join(project.settings.pins.on)}; {full.n_dofs} degrees of freedom are left",
        "material": ", ".join(f"{material!r} in {len(elements)} tetrahedra" for material, elements in materials),
        "load shapes": ", ".join(project.load_shapes),
    }


def described(body: TetMesh, density: float | np.ndarray) -> dict[str, str]:
    """What there is to say of a mesh, line by line."""
    low, high = body.bounding_box
    worst, volume, parts = int(np.argmin(body.quality)), float(body.volumes.sum()), int(body.components.max()) + 1
    size = " x ".join(f"{length:.4g}" for length in high - low)
    lines = {
        "vertices": f"{len(body.vertices)}, {3 * len(body.vertices)} coordinates",
        "tetrahedra": f"{len(body.tetrahedra)}, {len(body.surface)} triangles on the surface",
        "bounding box": f"{size} m, from ({_numbers(low)}) to ({_numbers(high)}); coordinates are taken as metres",
        "volume": f"{volume:.6g} m^3",
        "mass": f"{float((density * body.volumes).sum()):.6g} kg at {_range(density)} kg/m^3",
        "mean edge": f"{body.edge_length:.4g} m",
        "quality": f"worst {body.quality.min():.3g} (tetrahedron {worst}), median {np.median(body.quality):.3g}; 1 is regular, 0 flat",
        "connected parts": f"{parts}" + ("" if parts == 1 else "; each needs a pin of its own"),
        "fingerprint": body.fingerprint,
    }
    for name, group in body.groups.items():
        kind = f"{len(group.tetrahedra)} tetrahedra" if len(group.tetrahedra) else f"{len(group.triangles)} triangles"
        lines[f"group {name!r}"] = f"{len(group.vertices)} vertices" + (f", {kind}" if len(group.tetrahedra) + len(group.triangles) else "")
    return lines


def draw(body: TetMesh, output: Path, label: str) -> Path:
    at_rest = np.zeros((1, *body.vertices.shape))
    remark = f"{len(body.vertices)} vertices, {len(body.tetrahedra)} tetrahedra"
    return picture(output, Scene(body.vertices, body.surface, [Body(label, at_rest, "#0072b2", remark)], np.zeros(1)))


def _range(values: float | np.ndarray) -> str:
    low, high = np.min(values), np.max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
