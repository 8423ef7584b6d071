"""Figures of notebook 05, denoising and what it buys."""

import numpy as np
import seaborn as sns

from fvit.report.style import MARKERS, _axes, _errors, _label_ends, _points


def plot_psnr(df, ax=None):
    """PSNR against the noise width, a line per image version; df: image, sigma, mean, low, high."""
    ax = _axes(ax, (4.2, 2.8))
    ends = []
    images = df.groupby("image", sort=False)
    for (image, part), marker, colour in zip(images, MARKERS, sns.color_palette(), strict=False):
        _points(ax, part, part["sigma"], marker=marker, color=colour, markersize=4)
        ends.append((image, part["mean"].iloc[-1], colour))
    ax.set(xscale="log", xlabel="noise std sigma, [0, 1] units", ylabel="PSNR to the clean image (dB)")
    levels = sorted(df["sigma"].unique())
    ax.set_xticks(levels, [f"{s:.2g}" for s in levels])
    ax.minorticks_off()
    _label_ends(ax, ends)
    return ax.figure


def plot_smoothings(df, order, k, ax=None):
    """Top-k overlap by smoothing (rows) and attack (markers); df: smoothing, attack, mean, low, high."""
    ax = _axes(ax, (5.4, 0.55 * len(order) + 1.2))
    attacks = list(dict.fromkeys(df["attack"]))
    for i, (attack, marker, colour) in enumerate(zip(attacks, MARKERS, sns.color_palette(), strict=False)):
        part = df[df["attack"] == attack].set_index("smoothing").reindex(order)
        y = np.arange(len(order)) + 0.16 * (i - (len(attacks) - 1) / 2)
        style = {"color": colour, "markersize": 5, "capsize": 2, "linewidth": 1}
        ax.errorbar(part["mean"], y, xerr=_errors(part), fmt=marker, label=attack, **style)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.set(xlim=(-0.02, 1.03), xlabel=f"top-{k} overlap")
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.45, -0.22), ncols=2)
    return ax.figure
