"""Figures of notebook 02, what averaging buys."""

import seaborn as sns
from matplotlib.ticker import LogLocator

from fvit.report.style import MARKERS, _axes


def plot_smoothing_1d(df, ax=None):
    """A function and its averages; df: x, value, curve."""
    ax = _axes(ax, (4.6, 2.6))
    styles = zip(["-", "--", "-.", ":"], ["0.6", *sns.color_palette()], strict=False)
    for (curve, part), (style, colour) in zip(df.groupby("curve", sort=False), styles, strict=False):
        ax.plot(part["x"], part["value"], style, color=colour, label=curve, linewidth=1.4)
    ax.set(xlabel="x", ylabel="value and its average")
    ax.legend(frameon=False, loc="upper left")
    return ax.figure


def plot_standard_error(df, ax=None):
    """Scatter of means against the number of draws, with the standard error as lines; a colour and marker per image.

    df   n_samples, image_id, scatter, standard_error
    """
    ax = _axes(ax, (3.6, 2.6))
    ax.set_yscale("log")
    for (image, part), marker in zip(df.groupby("image_id", sort=False), MARKERS, strict=False):
        points = ax.plot(part["n_samples"], part["scatter"], marker, markersize=4, label=image)
        ax.plot(part["n_samples"], part["standard_error"], "-", color=points[0].get_color(), linewidth=1)
    n = sorted(df["n_samples"].unique())
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
    ax.set(xscale="log", xlabel="draws n", ylabel="scatter of the mean (attention share)")
    ax.set_xticks(n, [str(v) for v in n])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize="x-small", title="scene")
    return ax.figure
