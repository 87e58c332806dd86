"""Problems with known solutions, a few lines each; PROBLEMS names them all."""

from collections.abc import Callable

from hodsim.pinn.problem import Problem
from hodsim.pinn.problems.burgers import burgers
from hodsim.pinn.problems.heat import heat
from hodsim.pinn.problems.helmholtz import helmholtz
from hodsim.pinn.problems.plates import biharmonic, clamped_beam
from hodsim.pinn.problems.poisson import paper_poisson, poisson

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "paper": paper_poisson,
    "poisson-10": lambda: poisson(10),
    "poisson-100": lambda: poisson(100, interior=200, side=2),
    "heat": heat,
    "burgers": burgers,
    "helmholtz": helmholtz,
    "biharmonic": biharmonic,
    "beam": clamped_beam,
}

__all__ = ["PROBLEMS", "biharmonic", "burgers", "clamped_beam", "heat", "helmholtz", "paper_poisson", "poisson"]
