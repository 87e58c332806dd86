"""Subspaces of the full model's displacements: linear (PCA, modal), quadratic and a network's (HoD-Net autoencoder)."""

from hodsim.subspace.archive import Model
from hodsim.subspace.autoencoder import Autoencoder
from hodsim.subspace.modal import modal, vibrations
from hodsim.subspace.modal_derivatives import modal_derivatives
from hodsim.subspace.pca import pca, principal_directions
from hodsim.subspace.quadratic import quadratic
from hodsim.subspace.subspace import Subspace

__all__ = ["Autoencoder", "Model", "Subspace", "modal", "modal_derivatives", "pca", "principal_directions", "quadratic", "vibrations"]
