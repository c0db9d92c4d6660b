"""Figures: stored data in, matplotlib `Figure` out. Nothing here reads or writes files."""

from samirage.report.figures.back import back_figure
from samirage.report.figures.confusion import confusion_figure
from samirage.report.figures.construction import construction_figure
from samirage.report.figures.life import life_figure
from samirage.report.figures.maps import Panel, maps_figure
from samirage.report.figures.portrait import portrait_figure
from samirage.report.figures.profile import profile_figure
from samirage.report.figures.remedies import remedies_figure
from samirage.report.figures.shift import shift_figure
from samirage.report.figures.style import figure_svg
from samirage.report.figures.summary import summary_figure
from samirage.report.figures.surfaces import surface_pair
from samirage.report.figures.training import training_figure
from samirage.report.figures.wells import wells_figure

__all__ = [
    "Panel",
    "back_figure",
    "confusion_figure",
    "construction_figure",
    "figure_svg",
    "life_figure",
    "maps_figure",
    "portrait_figure",
    "profile_figure",
    "remedies_figure",
    "shift_figure",
    "summary_figure",
    "surface_pair",
    "training_figure",
    "wells_figure",
]
