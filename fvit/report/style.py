"""What all figures, functions (df, ...) -> Figure, share: theme, markers, dashes; panels, lines, dots, legends."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

WIDEST = 9.1  # inches of a figure; at saving.INLINE_WIDTH letters of 8 points ("small") still are 8 on the page
MARKERS = "osD^vX"  # varied with the colour, as dashes are, so that a grey print can be read
COLOURS = {  # of a defence in all figures; those of contrasts.AXIS are told apart by all eyes
    "none": "#d55e00", "dds": "#0173b2", "denoise_only": "#593000", "noise_only": "#cc78bc", "blur": "#029e73",
    "blur_narrow": "#6fc4a5", "wavelet": "#aebf56", "cnn": "#4b2a85", "noise_blur": "#015c43", "noise_cnn": "#1b0a4a",
    "dds_published": "#56b4e9", "reference_chain": "#4d4d4d", "vit_noise": "#a65628", "vit_adversarial": "#e7298a",
    "constant_map": "#767676"}
OTHERS = ("#a50026", "#7f7f00", "#31688e", "#c51b7d")  # of a reader's own
SHADE = "0.87"
THREATS = {  # what was met -> marker and its face (None: the colour of the defence), dash of lines
    "clean": ("|", None, ":"), "fresh noise": ("|", None, ":"), "transferred": ("o", "white", "--"),
    "adaptive": ("o", None, "-")}
NO_INFORMATION = "no information"  # a condition: (low, high) is the overlap that maps have for nothing
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


def colour(defence, known=()) -> str:
    """The colour of a defence; of a reader's own one of OTHERS, by its place among the `known`."""
    own = [code for code in dict.fromkeys(known) if code not in COLOURS]
    return COLOURS[defence] if defence in COLOURS else OTHERS[own.index(defence) % len(OTHERS) if defence in own else 0]


def threat(condition: str) -> str:
    """Of "explanation, adaptive" what matters for the look: "adaptive"; what is a defence's own attack is adaptive."""
    last = condition.rpartition(", ")[2]
    return "adaptive" if last == "its own" else last


def aimed_at(condition: str) -> str:
    """Of "explanation, adaptive" what the attack aims at: "explanation"."""
    return condition.partition(", ")[0]


def threat_look(defence, met, known=()) -> dict:
    """The style of a line: colour of the defence, dash and face of the marker of what was met, one of THREATS."""
    (marker, face, dash), shade_of = THREATS[met], colour(defence, known)
    if met in ("clean", "fresh noise"):
        marker, shade_of = "s", "0.45"
    return {"color": shade_of, "linestyle": dash, "marker": marker, "markerfacecolor": face or shade_of}


def dumbbells(ax, df, rows, *, gap=0.3, names=str, apart=0.0, order=None):
    """In a row of `ax` for each value of column `rows`, from the top, a line for each defence: from what it has without
    an attack (a tick) or under the transferred one (hollow) to the adaptive one (full); intervals are thin.

    df      defence, condition (as of THREATS, or ending in one after ", "; others are left out; NO_INFORMATION shades
            its row from low to high), mean, low, high
    gap     between the defences of a row; apart: between the ends of a line, so that intervals do not cover each other
    """
    order = order or list(dict.fromkeys(df[rows]))
    df = df.assign(threat=df["condition"].map(threat), place=df[rows].map(order.index))
    for row in df[df["threat"] == NO_INFORMATION].itertuples():
        shade(ax, row.low, row.high, rows=(row.place - 0.5, row.place + 0.5))
    df = df[df["threat"].isin(THREATS)]
    for place, part in df.groupby("place"):
        sides = list(dict.fromkeys(part["defence"]))
        for i, side in enumerate(sides):
            own = part[part["defence"] == side].drop_duplicates("threat", keep="last").set_index("threat")
            own = own.loc[[name for name in THREATS if name in own.index]]
            y = place + gap * (i - (len(sides) - 1) / 2)
            shade_of = colour(side, df["defence"])
            attacked = own.drop("fresh noise", errors="ignore")
            heights = y + apart * (np.arange(len(attacked)) - (len(attacked) - 1) / 2)
            ax.plot(attacked["mean"], heights, color=shade_of, alpha=0.35, linewidth=3, zorder=2)
            for name, height in [*zip(attacked.index, heights, strict=True), ("fresh noise", y)]:
                if name not in own.index:
                    continue
                marker, face, _ = THREATS[name]
                tick = marker == "|"
                ax.errorbar(own.loc[[name], "mean"], [height], xerr=None if tick else errors(own.loc[[name]]),
                            color="0.25" if name == "fresh noise" else shade_of, marker=marker,
                            markerfacecolor=face or shade_of, markersize=13 if tick else 6, markeredgewidth=1.6,
                            elinewidth=1, capsize=0, linestyle="", zorder=4)
    ax.set_yticks(range(len(order)), [names(value) for value in order])
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


THREAT_SAID = {"clean": "no attack", "fresh noise": "no attack, other noise (the ceiling)", "transferred":
               "transferred attack", "adaptive": "adaptive attack, made on what it meets", NO_INFORMATION:
               "no information: what unrelated images share"}


def dumbbell_key(df, **said):
    """Handles of a legend of `dumbbells` for what `df` has; `said` says a threat or no_information in other words."""
    found, words = set(df["condition"].map(threat)), THREAT_SAID | {k.replace("_", " "): v for k, v in said.items()}
    key = [Line2D([], [], color="0.25", linestyle="", marker=marker, markerfacecolor=face or "0.25", label=words[name],
                  markeredgewidth=1.6, markersize=12 if marker == "|" else 6)
           for name, (marker, face, _) in THREATS.items() if name in found]
    level = df[df["condition"] == NO_INFORMATION]
    if len(level) and (level["low"] == level["high"]).all():
        return [*key, Line2D([], [], color="0.4", linestyle=":", label=words[NO_INFORMATION])]
    return key + [Patch(color=SHADE, label=words[NO_INFORMATION])] * bool(len(level))


def shade(ax, low, high, along="x", rows=None, named=False):
    """Shade the level of no information, from low to high, on axis `along`; in rows (from, to) of the axes, else all
    through; a level without width is a dotted line. `named`: what it is stands in it, on its left.
    """
    if rows:
        ax.fill_betweenx(rows, low, high, color=SHADE, zorder=0, linewidth=0)
        if low == high:
            ax.plot([low, low], rows, ":", color="0.4", linewidth=1.3, zorder=1)
    else:
        label = None if named else THREAT_SAID[NO_INFORMATION]
        (ax.axvspan if along == "x" else ax.axhspan)(low, high, color=SHADE, zorder=0, label=label)
    if named:
        ax.annotate("no information", (0.02, (low + high) / 2), xycoords=ax.get_yaxis_transform(), va="center",
                    fontsize="small", color="0.35")


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


def legend_below(fig, ax, ncols=2, fontsize="small", also=(), handles=None):
    """The legend of `ax`, or of `handles`, and of the artists `also`, below all panels of the figure."""
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    fig.legend(handles=[*handles, *also], loc="outside lower center", ncols=ncols, frameon=False, fontsize=fontsize)
