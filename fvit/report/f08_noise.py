"""Figures of notebook 08, is Gaussian noise nearly the best."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MultipleLocator
from scipy.stats import norm

from fvit.report.style import DASHES, label_ends, lines, one_panel, panels_by, ticks_at
from fvit.theory.noise import gaussian_variance


def plot_noise_by_divergence(df):
    """Variance over the Gaussian's against the divergence: what the best noise saves, in numbers; named noises grey.

    df   noise, divergence, relative; "best possible" and "lower bound" stand out, other noises are thin
    """
    fig = _over_the_gaussian(df, "noise", "divergence", (4.8, 3.6), markersize=3.5, ylim=(0, None),
                             xlim=(df["divergence"].min() / 1.8, df["divergence"].max() * 1.25),
                             xlabel="divergence allowed (nats)", ylabel="variance / Gaussian variance", look=_of_noise)
    ax, bound = fig.axes[0], df[df["noise"] == "lower bound"]
    ax.fill_between(bound["divergence"], bound["relative"], color="0.9", linewidth=0, zorder=0)
    ax.annotate("no noise is here", (0.03, 0.05), xycoords="axes fraction", fontsize="small", color="0.35")
    best = df[df["noise"] == "best possible"]
    ax.fill_between(best["divergence"], best["relative"], 1, color=BEST, alpha=0.25, linewidth=0, zorder=0)
    if len(best):
        ax.annotate("can be\nsaved", (best["divergence"].max(), 0.98), (-4, 0), textcoords="offset points", ha="right",
                    va="top", fontsize="small", color=BEST)
    for at in best.itertuples():
        ax.annotate(f"{at.relative:.2f}", (at.divergence, at.relative), (-3, -5), textcoords="offset points",
                    ha="right", va="top", fontsize="small", color=BEST, fontweight="bold", path_effects=[HALO])
    return fig


BEST = "#0173b2"
HALO = withStroke(linewidth=2, foreground="white")


def _of_noise(noise):
    known = {"best possible": {"color": BEST, "linewidth": 2.4, "linestyle": "-", "marker": "o", "zorder": 4},
             "lower bound": {"color": "0.35", "linewidth": 1.4, "linestyle": "--", "marker": None}}
    return known.get(noise, {"color": "0.55", "linewidth": 1})


def density_rows(best, order, within=3.2):
    """Rows of `plot_noise_densities`: the best noises, {divergence: OptimalNoise}, and Gaussians of equal divergence.

    within   radii from 0; densities below a millionth are left out
    """
    rows = []
    for divergence, found in best.items():
        at = found.position[np.abs(found.position) <= within]
        width = np.sqrt(gaussian_variance(order, divergence))
        curves = {"best possible": np.exp(found.log_density[np.abs(found.position) <= within]),
                  "Gaussian": norm.pdf(at, scale=width)}
        rows += [pd.DataFrame({"divergence": divergence, "noise": name, "position": at, "density": density})
                 for name, density in curves.items()]
    return pd.concat(rows)[lambda df: df["density"] > 1e-6]


def plot_noise_densities(df):
    """Densities on a log scale, a panel per divergence; df: divergence, noise, position (in radii), density."""
    fig, panels = panels_by(df, "divergence", 3, 2.6, ylabel="density")
    for ax, divergence, part in panels:
        lines(ax, part, "noise", "position", "density", markers=None, dashes=DASHES, linewidth=1.3)
        ax.set(yscale="log", xlabel="noise z (in radii R)", title=f"divergence {divergence:g}")
        ax.xaxis.set_major_locator(MultipleLocator(1))
    panels[-1][0].legend(frameon=False, fontsize="small", loc="upper right")
    return fig


def plot_gap_by_dim(df):
    """Least E||z||^2 over the Gaussian's by dimension, a line per divergence; df: divergence, dim, relative."""
    return _over_the_gaussian(df, "divergence", "dim", (4.4, 2.8), "divergence {:g}".format, ylim=(None, 1.03),
                              xlabel="dimension d", ylabel="best noise / Gaussian, mean of $||z||_2^2$")


def plot_max_norm(df):
    """What a noise costs against its exponent, over the Gaussian's (exponent 2); df: shape, quantity, relative."""
    return _over_the_gaussian(df, "quantity", "shape", (4.6, 2.8), log=False, ylim=(0, None), ylabel="over the "
                              "Gaussian's", xlabel="exponent p of exp(-|z / b|^p); 2 is Gaussian")


def _over_the_gaussian(df, by, x, size, names=str, log=True, markersize=4, look=None, **axes):
    """A line of `relative` against `x` for each value of column `by`, and the Gaussian's at 1, named on a log axis."""
    ax = one_panel(*size)
    ax.set_xscale("log" if log else "linear")
    ends = lines(ax, df, by, x, "relative", dashes=DASHES, markersize=markersize, look=look)
    ax.axhline(1, color="0.3", linewidth=1)
    ticks_at(ax, df[x])
    ax.set(**axes)
    ends = [(names(value), height, colour) for value, height, colour in ends]
    label_ends(ax, [*ends, ("Gaussian", 1, "0.3")] if log else ends)
    return ax.figure


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
