"""Figures of notebook 01, how fragile attention is."""

from fvit.records.words import AIMS
from fvit.report.style import label_ends, lines, panels_by


def plot_overlap_by_eps(df, k):
    """Top-k overlap against the attack radius, a panel per method; df: method, aim, eps, mean, low, high."""
    fig, panels = panels_by(df, "method", 3.4, 2.7, ylabel=f"top-{k} overlap, clean to attacked")
    for ax, _, part in panels:
        ends = lines(ax, part.assign(eps=255 * part["eps"]), "aim", "eps")
        ax.set(xlabel="attack radius eps, in 1/255 (linf)", ylim=(0, 1.03))
        label_ends(ax, ends, AIMS.get)
    return fig
