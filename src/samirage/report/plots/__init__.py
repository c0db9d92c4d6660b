"""Figures: stored data in, matplotlib `Figure` out. Nothing here reads or writes files."""

from samirage.report.plots.back import back_figure
from samirage.report.plots.confusion import confusion_figure
from samirage.report.plots.construction import construction_figure
from samirage.report.plots.life import life_figure
from samirage.report.plots.maps import Panel, maps_figure
from samirage.report.plots.portrait import portrait_figure
from samirage.report.plots.profile import profile_figure
from samirage.report.plots.remedies import remedies_figure
from samirage.report.plots.shift import shift_figure
from samirage.report.plots.style import figure_svg
from samirage.report.plots.summary import summary_figure
from samirage.report.plots.surfaces import surface_pair
from samirage.report.plots.training import training_figure
from samirage.report.plots.wells import wells_figure

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
