"""One slice as a figure of its own, for print: PDF, SVG or PNG."""

from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from samirage.errors import UserError
from samirage.files import whole_file
from samirage.report.plots.maps import Panel, maps_plot
from samirage.report.plots.profile import profile_plot
from samirage.report.plots.style import styled
from samirage.report.plots.switching import forget_names

_DPI = 200


def slice_plot(found: xr.Dataset) -> Figure:
    """Draw all there is to see on a slice: f; and f^SAM with the gradient that SAM follows, if they were computed.

    Args:
        found: A slice; see `samirage.landscape.scan`.

    Returns:
        The figure.
    """
    if found.attrs["kind"] == "line":
        return profile_plot(found)
    panels = [Panel(found, "loss", "f", field="descent" if "descent" in found else None)]
    if "loss_sam" in found:
        seen = f"f^SAM at ρ = {float(found.attrs['rho']):g}"
        panels.append(Panel(found, "loss_sam", seen, field="descent_sam" if "descent_sam" in found else None))
    return maps_plot(panels, columns=2)


@styled
def save_slice(found: xr.Dataset, path: Path) -> None:
    """Draw a slice and write the figure; the file appears whole or not at all.

    Args:
        found: A slice.
        path: Where; its suffix is the format: .pdf, .svg or .png.

    Raises:
        UserError: If the format is unknown, or the file cannot be written.
    """
    if path.suffix not in {".pdf", ".svg", ".png"}:
        raise UserError(f"a figure must end in .pdf, .svg or .png; got {path}")
    figure = slice_plot(found)
    figure.set_facecolor("white")
    with whole_file(path) as temporary:
        forget_names(figure)
        figure.savefig(temporary, format=path.suffix[1:], dpi=_DPI, facecolor="white")
