"""Figures: stored data in, matplotlib `Figure` out. Nothing here reads or writes files."""

from samirage.report.figures.back import back_figure
from samirage.report.figures.confusion import confusion_figure
from samirage.report.figures.life import life_figure
from samirage.report.figures.portrait import portrait_figure
from samirage.report.figures.remedies import remedies_figure
from samirage.report.figures.shift import shift_figure
from samirage.report.figures.style import figure_svg
from samirage.report.figures.summary import summary_figure
from samirage.report.figures.training import training_figure
from samirage.report.figures.wells import wells_figure

__all__ = [
    "back_figure",
    "confusion_figure",
    "figure_svg",
    "life_figure",
    "portrait_figure",
    "remedies_figure",
    "shift_figure",
    "summary_figure",
    "training_figure",
    "wells_figure",
]
