"""What all figures, functions (df, ...) -> Figure, share: theme, markers, dashes; panels, lines, dots, legends."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

WIDEST = 9.1  # inches of a figure; at saving.INLINE_WIDTH letters of 8 points ("small") still are 8 on the page
MARKERS = "osD^vX"  # varied with the colour, as dashes are, so that a grey print can be read
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))


def set_theme() -> None:
    """One look for all figures, in matplotlib's own font and from its own defaults, whatever matplotlibrc is there."""
    plt.rcdefaults()
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind", font="DejaVu Sans")
    plt.rcParams.update({"pdf.fonttype": 42, "svg.hashsalt": "fvit", "image.cmap": "mako"})


def one_panel(width, height):
    """A single axes, of a figure of that many inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def panels_by(df, column, width, height, *, ylabel="", ncols=None, extra=(0, 0), sharey=True, **share):
    """Axes of equal size, one for each value of `column` in order of appearance, titled with it.

    width, height   inches of a panel; extra: of the figure besides
    ylabel          of the first panel
    ncols           panels in a row, all of them by default
    returns         (figure, [(axes, value, its rows), ...])
    """
    parts = list(df.groupby(column, sort=False))
    ncols = min(ncols or len(parts), len(parts))
    nrows = -(-len(parts) // ncols)
    size = min(width * ncols + extra[0], WIDEST), height * nrows + extra[1]
    fig, axes = plt.subplots(nrows, ncols, figsize=size, sharey=sharey, squeeze=False, layout="constrained", **share)
    for ax in axes.flat[len(parts):]:
        ax.set_axis_off()
    for ax, (value, _) in zip(axes.flat, parts, strict=False):
        ax.set_title(value)
    axes[0, 0].set_ylabel(ylabel)
    return fig, [(ax, *part) for ax, part in zip(axes.flat, parts, strict=False)]


def _series(df, by, colours, markers, dashes):
    """(value, rows, place around 0, style) of each value of `by`, in order of appearance."""
    parts = list(df.groupby(by, sort=False))
    looks = zip(cycle(colours or sns.color_palette()), cycle(markers or [None]), cycle(dashes), strict=False)
    for i, ((value, part), (colour, marker, dash)) in enumerate(zip(parts, looks, strict=False)):
        yield value, part, i - (len(parts) - 1) / 2, {"color": colour, "marker": marker, "linestyle": dash}


def errors(df):
    """Lengths of the bars below and above the means; rounding must not make one negative."""
    return np.maximum(np.stack([df["mean"] - df["low"], df["high"] - df["mean"]]), 0)


def lines(ax, df, by, x, y="mean", *, colours=None, markers=MARKERS, dashes="-", names=str, look=None, shift=None,
          intervals="bars", **style):
    """A line for each value of `by` (a column or a list of them), and where y is "mean" its intervals (low, high).

    names       value -> its label in a legend; look: value -> style of its own
    shift       (x, place of the line around 0) -> x, to move bars apart
    intervals   "bars", a "band", or "" for none
    returns     [(value, last y, colour), ...] for `label_ends`
    """
    ends, style = [], {"markersize": 4, "linewidth": 1.2} | style
    for value, part, place, varied in _series(df, by, colours, markers, dashes):
        own = style | varied | (look(value) if look else {}) | {"label": names(value)}
        at = shift(part[x], place) if shift else part[x]
        if y == "mean" and intervals == "bars":
            ax.errorbar(at, part[y], yerr=errors(part), **{"capsize": 2} | own)
        else:
            ax.plot(at, part[y], **own)
        if intervals == "band":
            ax.fill_between(at, part["low"], part["high"], color=own["color"], alpha=0.18, linewidth=0)
        ends.append((value, part[y].iloc[-1], own["color"]))
    return ends


def dots(ax, df, rows, order, by, *, gap=0.16, markers=MARKERS, names=str, look=None, **style):
    """Means with lying intervals: a row of the axes for each of `order`, which are values of column `rows`, and a
    marker for each value of `by`, `gap` apart; else as `lines`.
    """
    place_of = {value: i for i, value in enumerate(order)}
    for value, part, place, varied in _series(df[df[rows].isin(order)], by, None, markers, [""]):
        own = {"markersize": 5, "capsize": 2, "linewidth": 1} | style | varied | (look(value) if look else {})
        y = part[rows].map(place_of).astype(float) + gap * place
        ax.errorbar(part["mean"], y, xerr=errors(part), label=names(value), **own)
    ax.set_yticks(range(len(order)), order)


def label_ends(ax, ends, names=str):
    """Direct labels beside the right ends of lines, (value, y, colour), moved apart where they would overlap."""
    low, high = ax.get_ylim()
    gap, last = (high - low) * 0.06, -np.inf
    for value, y, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + gap)
        ax.annotate(names(value), (1, last), xycoords=ax.get_yaxis_transform(), xytext=(4, 0),
                    textcoords="offset points", color=colour, va="center", fontsize="small")


def ticks_at(ax, values, form="g"):
    """Ticks of x at the values that were run, and no others."""
    values = sorted(set(values))
    ax.set_xticks(values, [f"{value:{form}}" for value in values])
    ax.minorticks_off()


def legend_below(fig, ax, ncols=2, fontsize="small", also=()):
    """The legend of `ax`, and of the artists `also`, below all panels of the figure."""
    fig.legend(handles=[*ax.get_legend_handles_labels()[0], *also], loc="outside lower center", ncols=ncols,
               frameon=False, fontsize=fontsize)
