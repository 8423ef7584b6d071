"""Figures of notebook 01, how fragile attention is."""

import matplotlib.pyplot as plt
import seaborn as sns

from fvit.report.style import MARKERS, _label_ends, _points


def plot_overlap_by_eps(df, k, ax=None):
    """Top-k overlap against the attack radius, a panel per method; df: method, attack, eps, mean, low, high."""
    methods = list(dict.fromkeys(df["method"]))
    size = (3.4 * len(methods), 2.7)
    fig, axes = plt.subplots(1, len(methods), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for ax, method in zip(axes[0], methods, strict=True):
        ends = []
        attacks = df[df["method"] == method].groupby("attack", sort=False)
        for (attack, part), marker, colour in zip(attacks, MARKERS, sns.color_palette(), strict=False):
            _points(ax, part, part["eps"] * 255, marker=marker, color=colour, markersize=4)
            ends.append((attack, part["mean"].iloc[-1], colour))
        ax.set(xlabel="attack radius eps, in 1/255 (linf)", title=method, ylim=(0, 1.03))
        _label_ends(ax, ends)
    axes[0, 0].set_ylabel(f"top-{k} overlap, clean to attacked")
    return fig
