"""Every setting of a project, with its unit, its default and what is allowed: one class a section."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from hodsim.snapshots import BENDING, KINDS, USUAL, Kind, LoadCase, group_names

NonNegative = Annotated[float, Field(ge=0)]
WIDEST, MANY = 10_000, 1_000_000  # a wider network, or more cases, steps or elements to choose, fit no machine
Count = Annotated[int, Field(ge=0, le=MANY)]
PositiveInt = Annotated[int, Field(gt=0, le=MANY)]
Width = Annotated[int, Field(gt=0, le=WIDEST)]
LAWS = Literal["StVK", "NeoHookean", "StableNeoHookean"]
RATIO = Field(gt=-1, lt=0.5)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Material(Section):
    """The elastic solid."""

    kind: LAWS = Field(default="StVK", description="StVK, NeoHookean or StableNeoHookean")
    youngs_modulus: PositiveFloat = Field(default=1e6, description="[Pa]")
    poisson_ratio: Annotated[float, RATIO] = Field(default=0.4, description="between -1 and 0.5")
    density: PositiveFloat = Field(default=1e3, description="[kg/m^3]")


class Region(Section):
    """What differs in a region of the mesh; the rest is that of [material]."""

    kind: LAWS | None = Field(default=None, description="the law: StVK, NeoHookean or StableNeoHookean")
    youngs_modulus: PositiveFloat | None = Field(default=None, description="[Pa]")
    poisson_ratio: Annotated[float, RATIO] | None = Field(default=None, description="between -1 and 0.5")
    density: PositiveFloat | None = Field(default=None, description="[kg/m^3]")


class Pins(Section):
    """What is held."""

    on: tuple[str, ...] = Field(default=("x-min",), min_length=1, description="sides of the bounding box (x-min, x-max, ...) or groups of the mesh")


class Damping(Section):
    """Rayleigh damping C = mass M + stiffness K."""

    mass: NonNegative = Field(default=0.0, description="[1/s] damps slow motion")
    stiffness: NonNegative = Field(default=0.0, description="[s] damps fast vibration")


class Simulation(Section):
    """Time stepping of the snapshots."""

    dt: PositiveFloat = Field(default=0.01, description="time step [s]")
    steps: PositiveInt = Field(default=200, description="steps of each load case")
    scheme: Literal["backward-euler", "bdf2", "newmark"] = Field(default="backward-euler", description="backward-euler, bdf2 or newmark")


class Loads(Section):
    """The load shapes: what amplitude one is of tip, body and twist, and of loads on groups of the mesh or sides (x-max, ...)."""

    reach: PositiveFloat = Field(default=0.6, description="deflection of the linear model by tip and body, times the length of the body")
    twist: PositiveFloat = Field(default=1.5, description="rotation of the tip of the linear model by twist [rad]")
    tractions: dict[str, PositiveFloat] = Field(default={}, description='force per area [Pa] of "traction NAME", {NAME = 200}')
    forces: dict[str, PositiveFloat] = Field(default={}, description='total force [N] of "force NAME", {NAME = 5}')

    @property
    def shapes(self) -> dict[str, int]:
        """The names of the load shapes, with how many components each has."""
        return dict.fromkeys(BENDING, 3) | {"twist": 1} | dict.fromkeys(group_names(self.tractions, self.forces), 3)


class Sweep(Section):
    """Random load cases. More of them contain the fewer: a sweep may grow."""

    train: PositiveInt = Field(default=100, description="load cases to train on")
    validation: PositiveInt = Field(default=10, description="load cases to choose by")
    test: PositiveInt = Field(default=20, description="load cases held out for the report")
    shapes: tuple[str, ...] = Field(default=(), description='load shapes to draw from, ["tip", "traction NAME"] for one; [] for all there are')
    signals: tuple[Kind, ...] = Field(default=USUAL, min_length=1, description="in turn: " + ", ".join(KINDS))
    strength: PositiveFloat = Field(default=1.0, description="loads of training cases reach so many times [loads]; the others stay within")
    added: tuple[Count, ...] = Field(default=(), description="numbers of further cases to train on, as `hodsim train --target-error` picks them")
    precision: Literal["float32", "float64"] = Field(default="float32", description="float32 or float64, of what is stored")


class PiecewiseTerm(Section):
    """A load shape times values that switch."""

    shape: str
    signal: Literal["piecewise"]
    ends: tuple[PositiveFloat, ...] = Field(min_length=1)
    values: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> PiecewiseTerm:
        if len(self.values) != len(self.ends) or list(self.ends) != sorted(set(self.ends)):
            raise ValueError(f"{len(self.values)} values until {list(self.ends)} s; expected one value for each end, and ends that increase")
        return self


class PeriodicTerm(Section):
    """A load shape times a sine."""

    shape: str
    signal: Literal["periodic"]
    amplitude: tuple[float, ...]
    frequency: NonNegative
    phase: float = 0.0


class Case(Section):
    """One load case that is given in place of a random one."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    split: Literal["train", "validation", "test"]
    terms: tuple[Annotated[PiecewiseTerm | PeriodicTerm, Field(discriminator="signal")], ...] = Field(min_length=1)

    def load_case(self) -> LoadCase:
        return LoadCase.from_json(json.dumps(self.model_dump()))


class Subspace(Section):
    """The network."""

    latent: Width | Literal["auto"] = Field(default=6, description='latent dimension r; "auto" tries several')
    hidden: tuple[Width, ...] = Field(default=(64, 64), min_length=1, description="widths of the hidden layers of the decoder")
    coordinates: int = Field(default=24, ge=2, le=WIDEST, description="principal coordinates of the poses that the network works in")

    @model_validator(mode="after")
    def _fits(self) -> Subspace:
        if self.latent != "auto" and self.latent >= self.coordinates:
            raise ValueError(f"latent is {self.latent}; expected fewer than the {self.coordinates} coordinates")
        return self


class Terms(Section):
    """Weights of the terms of the loss, beside that of a pose's error in the mass norm; 0 leaves one out."""

    elastic: NonNegative = Field(default=1.0, description="the elastic energy of the error")
    velocity: NonNegative = Field(default=0.0, description="the error of the velocity")
    force: NonNegative = Field(default=0.0, description="what the spurious elastic force along the subspace does to a body at rest")
    tangent: NonNegative = Field(default=0.0, description="the same of its change along the motion")
    contractive: NonNegative = Field(default=0.0, description="the squares of the encoder's first derivatives")


class Training(Section):
    """How it is trained: by Adam, then by Newton-Krylov."""

    epochs: PositiveInt = Field(default=300, description="passes over the training poses")
    batch: PositiveInt = Field(default=256, description="poses a step")
    learning_rate: PositiveFloat = Field(default=3e-3, description="the highest; it warms up and decays")
    rounds: Count = Field(default=8, description="rounds of Newton-Krylov on all poses, after Adam, while validation gains")
    chosen_by: Literal["simulations", "loss"] = Field(default="simulations", description="simulations or loss, of the validation cases")
    stride: PositiveInt = Field(default=4, description="every so many-th pose is trained on")
    precision: Literal["float64", "mixed"] = Field(default="float64", description="float64, or mixed, for GPUs: float32 and bfloat16")
    terms: Terms = Terms()


class Cubature(Section):
    """Elements that sample the elastic force."""

    elements: Count | Literal["auto"] = Field(default="auto", description='"auto": as many as validation asks for; 0: all; or a number')


class Report(Section):
    """The comparison on held-out load cases."""

    pca: tuple[PositiveInt, ...] = Field(default=(6, 12, 20), description="dimensions of the linear subspaces to compare with")


class Settings(Section):
    """All settings of a project. Units: metre, kilogram, second, pascal, newton."""

    mesh: str = Field(min_length=1, description="tetrahedral mesh [m], relative to this file")
    output: str = Field(default="out", min_length=1, description="folder for everything that is made, relative to this file")
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="of the sweep, the initial weights and the order of training")
    material: Material = Material()
    regions: dict[str, Region] = Field(
        default={},
        description="kind, youngs_modulus, poisson_ratio or density of regions of the mesh by name, [regions.NAME], where not [material]'s",
    )
    pins: Pins = Pins()
    damping: Damping = Damping()
    simulation: Simulation = Simulation()
    loads: Loads = Loads()
    sweep: Sweep = Sweep()
    cases: tuple[Case, ...] = Field(default=(), description="load cases of your own, [[cases]], in place of [sweep]'s")
    subspace: Subspace = Subspace()
    training: Training = Training()
    cubature: Cubature = Cubature()
    report: Report = Report()

    @model_validator(mode="after")
    def _has_every_split(self) -> Settings:
        splits, names = {case.split for case in self.cases}, [case.name for case in self.cases]
        if self.cases and len(splits) < 3:
            raise ValueError(f"cases are for {', '.join(sorted(splits))}; expected some for each of train, validation and test")
        if len(set(names)) < len(names):
            raise ValueError(f"cases are called {', '.join(names)}; expected a name of its own for each")
        return self

    @model_validator(mode="after")
    def _knows_its_load_shapes(self) -> Settings:
        components = self.loads.shapes
        used = [(f"sweep.shapes[{i}]", shape) for i, shape in enumerate(self.sweep.shapes)]
        terms = {f"cases[{i}].terms[{j}]": term for i, case in enumerate(self.cases) for j, term in enumerate(case.terms)}
        for place, shape in [*used, *((f"{place}.shape", term.shape) for place, term in terms.items())]:
            if shape not in components:
                raise ValueError(f"{place} is {json.dumps(shape)}; expected one of {', '.join(components)}, as [loads] says")
        for place, term in terms.items():
            for value in term.values if isinstance(term, PiecewiseTerm) else (term.amplitude,):
                if len(value) != components[term.shape]:
                    raise ValueError(f"{place}: a value of {term.shape} is {list(value)}; expected {components[term.shape]} numbers")
        return self
