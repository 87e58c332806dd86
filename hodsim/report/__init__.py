"""Reports: reduced models against the full model on held-out load cases, as figures, pictures, a page and JSON."""

from hodsim.report.contenders import contenders
from hodsim.report.evaluate import Contender, evaluate
from hodsim.report.latent import latent_figure
from hodsim.report.page import ReportFiles, summary, write_report
from hodsim.report.records import Evaluation, Failure, Record, Spread
from hodsim.report.render import Body, Scene, animation, film, picture

__all__ = [
    "Body",
    "Contender",
    "Evaluation",
    "Failure",
    "Record",
    "ReportFiles",
    "Scene",
    "Spread",
    "animation",
    "contenders",
    "evaluate",
    "film",
    "latent_figure",
    "picture",
    "summary",
    "write_report",
]
