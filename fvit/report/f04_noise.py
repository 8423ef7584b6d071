"""Figures of notebook 04, is Gaussian noise nearly the best: one function each, (df, ax=None) -> Figure."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import MultipleLocator

from fvit.report.style import MARKERS, _axes, _label_ends

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))


def plot_noise_by_divergence(df, ax=None):
    """Variance over the Gaussian's against the divergence, a line per noise; df: noise, divergence, relative."""
    ax = _axes(ax, (5.2, 3.0))
    ends = _lines_over_the_gaussian(ax, df, "noise", "divergence", markersize=3.5)
    ax.set(xscale="log", ylim=(0, None), xlabel="divergence allowed (nats)", ylabel="variance / Gaussian variance")
    _ticks_at_the_points(ax, df["divergence"])
    _label_ends(ax, [*ends, ("Gaussian", 1, "0.3")])
    return ax.figure


def plot_noise_densities(df):
    """Densities on a log scale, a panel per divergence; df: divergence, noise, position (in radii), density."""
    panels = df.groupby("divergence", sort=False)
    fig, axes = plt.subplots(1, panels.ngroups, figsize=(3 * panels.ngroups, 2.6), sharey=True, squeeze=False,
                             layout="constrained")
    for ax, (divergence, rows) in zip(axes[0], panels, strict=True):
        lines = zip(rows.groupby("noise", sort=False), DASHES, sns.color_palette(), strict=False)
        for (name, part), dash, colour in lines:
            ax.plot(part["position"], part["density"], linestyle=dash, color=colour, linewidth=1.3, label=name)
        ax.set(yscale="log", xlabel="noise z (in radii R)", title=f"divergence {divergence:g}")
        ax.xaxis.set_major_locator(MultipleLocator(1))
    axes[0, 0].set_ylabel("density")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper right")
    return fig


def plot_gap_by_dim(df, ax=None):
    """Least E||z||^2 over the Gaussian's by dimension, a line per divergence; df: divergence, dim, relative."""
    ax = _axes(ax, (4.4, 2.8))
    ends = _lines_over_the_gaussian(ax, df, "divergence", "dim")
    ax.set(xscale="log", ylim=(None, 1.03), xlabel="dimension d", ylabel="best noise / Gaussian, mean of $||z||_2^2$")
    _ticks_at_the_points(ax, df["dim"])
    ends = [(f"divergence {divergence:g}", height, colour) for divergence, height, colour in ends]
    _label_ends(ax, [*ends, ("Gaussian", 1, "0.3")])
    return ax.figure


def plot_max_norm(df, ax=None):
    """What a noise costs against its exponent, over the Gaussian's (exponent 2); df: shape, quantity, relative."""
    ax = _axes(ax, (4.6, 2.8))
    ends = _lines_over_the_gaussian(ax, df, "quantity", "shape")
    ax.set(ylim=(0, None), xlabel="exponent p of exp(-|z / b|^p); 2 is Gaussian", ylabel="over the Gaussian's")
    _ticks_at_the_points(ax, df["shape"])
    _label_ends(ax, ends)
    return ax.figure


def _lines_over_the_gaussian(ax, df, by, x, markersize=4):
    """A line of `relative` against `x` for each value of column `by`, and one at 1; returns (value, height, colour)."""
    ends = []
    lines = zip(df.groupby(by, sort=False), MARKERS, DASHES, sns.color_palette(), strict=False)
    for (value, part), marker, dash, colour in lines:
        ax.plot(part[x], part["relative"], linestyle=dash, marker=marker, color=colour, markersize=markersize)
        ends.append((value, part["relative"].iloc[-1], colour))
    ax.axhline(1, color="0.3", linewidth=1)
    return ends


def _ticks_at_the_points(ax, values):
    ticks = sorted(values.unique())
    ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
    ax.minorticks_off()


def plot_noise_pair(df):
    """A noise beside its copy moved by R, and their log-ratio; df: position (in R), density, moved, log_ratio."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.5), layout="constrained", gridspec_kw={"wspace": 0.1})
    for column, label, dash in (("density", "x + z", "-"), ("moved", "x + R + z", "--")):
        left.plot(df["position"], df[column], dash, label=label, linewidth=1.4)
    left.fill_between(df["position"], np.minimum(df["density"], df["moved"]), color="0.85")
    left.set(xlabel="position (in radii R)", ylabel="density", ylim=(0, None))
    left.legend(frameon=False, fontsize="small")
    right.plot(df["position"], df["log_ratio"], color="0.25", linewidth=1.4)
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(xlabel="position (in radii R)", ylabel="log-ratio (nats)", ylim=(-8, 8))
    return fig
