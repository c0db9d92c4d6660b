"""A matplotlib figure as a drawing of the page."""

from markupsafe import Markup
from matplotlib.figure import Figure

from samirage.report.plots.style import plot_svg
from samirage.report.sections.section import Drawing, Screens
from samirage.report.svg import natural_width


def drawing(figure: Figure, prefix: str, label: str, *, screens: Screens = "all") -> Drawing:
    """Turn a figure into a drawing.

    Args:
        figure: The figure.
        prefix: Begins every id in its SVG; unique on the page.
        label: What a screen reader says.
        screens: On which screens it is shown.

    Returns:
        The drawing.
    """
    svg = plot_svg(figure, prefix=prefix, label=label)
    return Drawing(Markup(svg), natural_width(svg), screens, label)
