"""Figures of notebook 02, what averaging buys."""

import numpy as np
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import LogLocator

from fvit.report.panels import decode
from fvit.report.style import DASHES, lines, one_panel, ticks_at

GREYS = LinearSegmentedColormap.from_list("greys", ["white", "0.55"])  # light enough for lines and letters on it
BORDERS = (  # name, the corner where it stands, look
    ("the decision", (-1, 1), {"colors": "black", "linestyles": "-", "linewidths": 0.9}),
    ("its average: more than half\nof the noise says inside", (1, -1),
     {"colors": "#0173b2", "linestyles": "--", "linewidths": 1.8}),
    ("certified to stay inside", (1, 1), {"colors": "#b34700", "linestyles": "-", "linewidths": 2.6}))


def plot_smoothing_1d(df, spike=-0.6):
    """A function and its averages, each named left of the `spike`, where they are apart; df: x, value, curve."""
    ax = one_panel(4.6, 2.6)
    lines(ax, df, "curve", "x", "value", colours=["0.55", *sns.color_palette()], markers=None, dashes=DASHES[:4],
          linewidth=1.4)
    near = df.assign(off=(df["x"] - spike).abs()).sort_values("off").drop_duplicates("curve")
    last = -np.inf
    for row in near.sort_values("value").itertuples():
        last = max(row.value, last + 0.08)
        ax.annotate(row.curve, (row.x, min(last, 0.93)), (-14, 1), textcoords="offset points", ha="right", va="bottom",
                    fontsize="small")
    ax.set(xlabel="x", ylabel="value and its average")
    return ax.figure


def plot_smoothing_2d(df, width, radius):
    """A region of the plane, its average over noise, and what no step of length `radius` moves out of it, in one square
    of `width` units.

    df   rows of `panels.encode` of three maps, each on a grid of its own: the decision (0 or 1), its average (0 to 1),
         and what is promised of the average after a step; the border of each is where it is one half
    """
    maps, ax = list(decode(df).values()), one_panel(4.6, 3.4)
    grids = [np.linspace(-width / 2, width / 2, len(values)) for values in maps]
    filled = ax.pcolormesh(grids[1], grids[1], maps[1], cmap=GREYS, vmin=0, vmax=1, rasterized=True)
    ax.figure.colorbar(filled, ax=ax, shrink=0.8, label="share of the noise that says inside")
    for values, places, (name, corner, look) in zip(maps, grids, BORDERS, strict=True):
        border = ax.contour(places, places, values, [0.5], **look)
        points = np.concatenate([path.vertices for path in border.get_paths()])
        ax.annotate(name, xy=max(points, key=lambda point: point @ corner), xytext=np.multiply(corner, 0.46 * width),
                    ha="left" if corner[0] < 0 else "right", va="top" if corner[1] > 0 else "bottom", fontsize="small",
                    arrowprops={"arrowstyle": "-", "color": "0.3", "linewidth": 0.7, "shrinkB": 0})
    start = points[points[:, 0].argmin()]  # of the certified region
    ax.annotate("", xy=start, xytext=start - [radius, 0],
                arrowprops={"arrowstyle": "<|-|>", "color": "black", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7})
    ax.annotate("a step", start, (7, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_aspect("equal")
    ax.grid(visible=False)
    return ax.figure


def plot_standard_error(df):
    """Scatter of means against the number of draws, with the standard error as lines; a colour and marker per image.

    df   n_samples, image_id, scatter, standard_error
    """
    ax = one_panel(3.8, 2.6)
    ax.set_yscale("log")
    lines(ax, df, "image_id", "n_samples", "scatter", dashes=[""])
    lines(ax, df, "image_id", "n_samples", "standard_error", markers=None, linewidth=1)
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 1.5, 2, 3, 5, 7)), major_formatter="{x:g}")
    ax.set(xscale="log", xlabel="draws n", ylabel="scatter of the mean\n(attention share)")
    ticks_at(ax, df["n_samples"])
    ax.text(0.97, 0.95, "marks: measured, one kind a scene\nlines: scatter of one draw / root of n", ha="right",
            va="top", transform=ax.transAxes, fontsize="small", linespacing=1.5)
    return ax.figure
