"""Figures of notebook 02, what averaging buys."""

import seaborn as sns
from matplotlib.ticker import LogLocator

from fvit.report.style import DASHES, lines, one_panel, ticks_at


def plot_smoothing_1d(df):
    """A function and its averages; df: x, value, curve."""
    ax = one_panel(4.6, 2.6)
    lines(ax, df, "curve", "x", "value", colours=["0.6", *sns.color_palette()], markers=None, dashes=DASHES[:4],
          linewidth=1.4)
    ax.set(xlabel="x", ylabel="value and its average")
    ax.legend(frameon=False, loc="upper left")
    return ax.figure


def plot_standard_error(df):
    """Scatter of means against the number of draws, with the standard error as lines; a colour and marker per image.

    df   n_samples, image_id, scatter, standard_error
    """
    ax = one_panel(3.6, 2.6)
    ax.set_yscale("log")
    lines(ax, df, "image_id", "n_samples", "scatter", dashes=[""])
    lines(ax, df, "image_id", "n_samples", "standard_error", markers=None, linewidth=1, names=lambda image: None)
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
    ax.set(xscale="log", xlabel="draws n", ylabel="scatter of the mean (attention share)")
    ticks_at(ax, df["n_samples"])
    ax.legend(frameon=False, fontsize="x-small", title="scene")
    return ax.figure
