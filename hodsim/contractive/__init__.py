"""The high-order contractive autoencoder's loss (HoD-Net, eqs. 10 and 11)."""

from hodsim.contractive.directions import AllAxes, Directions, Hutchinson, RandomInputs
from hodsim.contractive.penalty import Terms, contractive_loss, contractive_terms
from hodsim.contractive.ratio import contractive_ratio

__all__ = ["AllAxes", "Directions", "Hutchinson", "RandomInputs", "Terms", "contractive_loss", "contractive_ratio", "contractive_terms"]
