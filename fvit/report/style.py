"""What all figures share: one theme, sizes, markers, intervals, labels."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

WIDEST = 9.1  # inches of a figure; at figures.INLINE_WIDTH letters of 8 points ("small") still are 8 on the page
MARKERS = "osD^vX"  # varied with the colour, so that a grey print can be read


def set_theme() -> None:
    """One look for all figures, in matplotlib's own font so that it does not hang on the machine's."""
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind", font="DejaVu Sans")
    plt.rcParams.update({"pdf.fonttype": 42, "svg.hashsalt": "fvit", "image.cmap": "mako"})


def _axes(ax, size):
    return ax or plt.subplots(figsize=size, layout="constrained")[1]


def _errors(df):
    """Lengths of the bars below and above the means; rounding must not make one negative."""
    return np.maximum(np.stack([df["mean"] - df["low"], df["high"] - df["mean"]]), 0)


def _points(ax, df, x, **style):
    """Means with their intervals; df has columns mean, low, high."""
    ax.errorbar(x, df["mean"], yerr=_errors(df), capsize=2, linewidth=1.2, **style)


def _label_ends(ax, ends):
    """Direct labels (text, y, colour) beside the right ends of lines, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    gap, last = (high - low) * 0.06, -np.inf
    for text, y, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + gap)
        ax.annotate(text, (1, last), xycoords=ax.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points",
                    color=colour, va="center", fontsize="small")
