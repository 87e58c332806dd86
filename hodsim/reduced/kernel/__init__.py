"""The reduced step, compiled: residual, exact tangent, Newton's method and whole rollouts of a perceptron's latent motion.

Derivatives by q are carried as lanes: the row of a neuron, of a feature or of a strain holds [d/dq_1, .., d/dq_r, padding], so that a
linear layer is one matrix product, and an activation or a material one loop over lanes that the compiler vectorises. See `network` for
the features, `elastic` for the sampled elements, `equation` for what is solved, `newton` and `rollout` for how. `hodsim.reduced.compiled` is
the face of all this.
"""

from hodsim.reduced.kernel.equation import EULER_LAGRANGE, VARIATIONAL, Equation
from hodsim.reduced.kernel.laws import ELEMENTS, LAWS, addresses
from hodsim.reduced.kernel.newton import CONVERGED, NO_DECREASE, NOT_FINITE, ROUNDING, TOO_MANY
from hodsim.reduced.kernel.plan import SILU, SQUARE, Plan
from hodsim.reduced.kernel.product import ROWS
from hodsim.reduced.kernel.rollout import evaluate, is_compiled, rollouts

__all__ = [
    "CONVERGED",
    "ELEMENTS",
    "EULER_LAGRANGE",
    "LAWS",
    "NOT_FINITE",
    "NO_DECREASE",
    "ROUNDING",
    "ROWS",
    "SILU",
    "SQUARE",
    "TOO_MANY",
    "VARIATIONAL",
    "Equation",
    "Plan",
    "addresses",
    "evaluate",
    "is_compiled",
    "rollouts",
]
