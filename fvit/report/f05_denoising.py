"""Figures of notebook 05, denoising and what it buys."""

from fvit.records.words import said
from fvit.report.style import dots, label_ends, lines, one_panel, ticks_at


def plot_psnr(df):
    """PSNR against the noise width, a line per image version; df: image, sigma, mean, low, high."""
    ax = one_panel(4.2, 2.8)
    ends = lines(ax, df, "image", "sigma")
    ax.set(xscale="log", xlabel="noise std sigma, [0, 1] units", ylabel="PSNR to the clean image (dB)")
    ticks_at(ax, df["sigma"], ".2g")
    label_ends(ax, ends)
    return ax.figure


def plot_defences(df, order, k):
    """Top-k overlap by defence (a row for each of `order`) and condition (markers).

    df   defence, condition, mean, low, high
    """
    ax = one_panel(5.4, 0.55 * len(order) + 1.2)
    dots(ax, df, "defence", order, "condition")
    ax.set_yticks(range(len(order)), [said(defence) for defence in order])
    ax.invert_yaxis()
    ax.set(xlim=(-0.02, 1.03), xlabel=f"top-{k} overlap")
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.45, -0.22), ncols=2)
    return ax.figure
