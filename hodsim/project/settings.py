"""Every setting of a project, with its unit, its default and what is allowed: one class a section."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from hodsim.snapshots import LoadCase

NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
COMPONENTS = {"tip": 3, "body": 3, "twist": 1}  # of the load shapes of `bending_loads`


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Material(Section):
    """The elastic solid."""

    kind: Literal["StVK", "NeoHookean", "StableNeoHookean"] = Field(default="StVK", description="StVK, NeoHookean or StableNeoHookean")
    youngs_modulus: PositiveFloat = Field(default=1e6, description="[Pa]")
    poisson_ratio: float = Field(default=0.4, gt=-1, lt=0.5, description="between -1 and 0.5")
    density: PositiveFloat = Field(default=1e3, description="[kg/m^3]")


class Region(Section):
    """What differs in a region of the mesh; the rest is that of [material]."""

    youngs_modulus: PositiveFloat | None = Field(default=None, description="[Pa]")
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
    """The load shapes tip, body and twist: what amplitude one does to the linear model."""

    reach: PositiveFloat = Field(default=0.6, description="deflection by tip and body, times the length of the body")
    twist: PositiveFloat = Field(default=1.5, description="rotation of the tip by twist [rad]")


class Sweep(Section):
    """Random load cases. More of them contain the fewer: a sweep may grow."""

    train: PositiveInt = Field(default=100, description="load cases to train on")
    validation: PositiveInt = Field(default=10, description="load cases to choose by")
    test: PositiveInt = Field(default=20, description="load cases held out for the report")
    added: tuple[Count, ...] = Field(default=(), description="numbers of further cases to train on, as `hodsim train --target-error` picks them")
    precision: Literal["float32", "float64"] = Field(default="float32", description="float32 or float64, of what is stored")


class PiecewiseTerm(Section):
    """A load shape times values that switch."""

    shape: Literal["tip", "body", "twist"]
    signal: Literal["piecewise"]
    ends: tuple[PositiveFloat, ...] = Field(min_length=1)
    values: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> PiecewiseTerm:
        if len(self.values) != len(self.ends) or list(self.ends) != sorted(set(self.ends)):
            raise ValueError(f"{len(self.values)} values until {list(self.ends)} s; expected one value for each end, and ends that increase")
        _check_components(self.shape, *self.values)
        return self


class PeriodicTerm(Section):
    """A load shape times a sine."""

    shape: Literal["tip", "body", "twist"]
    signal: Literal["periodic"]
    amplitude: tuple[float, ...]
    frequency: NonNegative
    phase: float = 0.0

    @model_validator(mode="after")
    def _fits(self) -> PeriodicTerm:
        _check_components(self.shape, self.amplitude)
        return self


class Case(Section):
    """One load case that is given in place of a random one."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    split: Literal["train", "validation", "test"]
    terms: tuple[Annotated[PiecewiseTerm | PeriodicTerm, Field(discriminator="signal")], ...] = Field(min_length=1)

    def load_case(self) -> LoadCase:
        return LoadCase.from_json(json.dumps(self.model_dump()))


class Subspace(Section):
    """The network."""

    latent: PositiveInt | Literal["auto"] = Field(default=6, description='latent dimension r; "auto" tries several')
    hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1, description="widths of the hidden layers of the decoder")
    coordinates: int = Field(default=24, ge=2, description="principal coordinates of the poses that the network works in")

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
    seed: Count = Field(default=0, description="of the sweep, the initial weights and the order of training")
    material: Material = Material()
    regions: dict[str, Region] = Field(
        default={}, description="youngs_modulus and density of regions of the mesh by name, [regions.NAME], in place of [material]'s"
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


def _check_components(shape: str, *values: tuple[Any, ...]) -> None:
    for value in values:
        if len(value) != COMPONENTS[shape]:
            raise ValueError(f"a value of {shape} is {list(value)}; expected {COMPONENTS[shape]} numbers")
