"""Project files: from a mesh to a report without writing code."""

from hodsim.project.project import SHIPPED, Project, side
from hodsim.project.settings import Settings

__all__ = ["SHIPPED", "Project", "Settings", "side"]
