"""hodsim: reduced-order elastic simulation with high-order differentiable networks (HoD-Net). See README.md for a tour.

Its names are those of `public`, which is imported when the first of them is used: a worker process of a sweep needs a few layers only, and
starts in half the time without the others, PyTorch among them.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hodsim.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """A layer, or a public name."""
    if not name.startswith("__") and find_spec(f"hodsim.{name}"):
        return import_module(f"hodsim.{name}")
    if name == "__all__" or not name.startswith("__"):
        public = import_module("hodsim.public")
        if name in ("__all__", *public.__all__):
            return getattr(public, name)
    raise AttributeError(f"module 'hodsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *import_module("hodsim.public").__all__))
