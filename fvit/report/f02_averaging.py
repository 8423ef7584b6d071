"""Figures of notebook 02, what averaging buys."""

import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from fvit.report.panels import decode
from fvit.report.style import DASHES, lines, one_panel, ticks_at


def plot_smoothing_1d(df):
    """A function and its averages; df: x, value, curve."""
    ax = one_panel(4.6, 2.6)
    lines(ax, df, "curve", "x", "value", colours=["0.6", *sns.color_palette()], markers=None, dashes=DASHES[:4],
          linewidth=1.4)
    ax.set(xlabel="x", ylabel="value and its average")
    ax.legend(frameon=False, loc="upper left")
    return ax.figure


def plot_smoothing_2d(df, width):
    """A region of the plane, its average over noise, and what is certified, in one square of `width` units.

    df   rows of `panels.encode` of "bare decision" (0 or 1), "smoothed" (0 to 1), "certified to stay inside" (0 or 1)
    """
    bare, smooth, stays = decode(df).values()
    ax = one_panel(4.6, 3.4)
    places = (np.arange(len(smooth)) + 0.5) / len(smooth) * width - width / 2
    filled = ax.pcolormesh(places, places, smooth, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    looks = {"decision": (bare, "black", "-", 1), "smoothed: more than half": (smooth, "#0173b2", "--", 1.8),
             "certified to stay there": (stays, "#d55e00", "-", 2.2)}
    for values, shade_of, dash, size in looks.values():
        ax.contour(places, places, values, [0.5], colors=[shade_of], linestyles=[dash], linewidths=size)
    ax.figure.colorbar(filled, ax=ax, shrink=0.8, label="share of the noise that says inside")
    keys = [Line2D([], [], color=shade_of, linestyle=dash, linewidth=size, label=name)
            for name, (_, shade_of, dash, size) in looks.items()]
    ax.figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    ax.set_aspect("equal")
    ax.grid(visible=False)
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
