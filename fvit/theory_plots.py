"""Figures of the theory notebooks 03 and 04: one function per figure, (df, ax=None) -> Figure, from tables only."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.ticker import MultipleLocator

from fvit.plots import MARKERS, _axes, _label_ends

# Notebook 04: is Gaussian noise nearly the best? -------------------------------------------------------------------

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))


def plot_noise_by_divergence(df, ax=None):
    """Variance over the Gaussian's against the divergence, a line per noise; df: noise, divergence, relative."""
    ax = _axes(ax, (5.2, 3.0))
    ends = []
    styles = zip(MARKERS, DASHES, sns.color_palette(), strict=False)
    for (name, part), (marker, dash, colour) in zip(df.groupby("noise", sort=False), styles, strict=False):
        ax.plot(part["divergence"], part["relative"], linestyle=dash, marker=marker, color=colour, markersize=3.5)
        ends.append((name, part["relative"].iloc[-1], colour))
    ax.axhline(1, color="0.3", linewidth=1)
    levels = sorted(df["divergence"].unique())
    ax.set(xscale="log", ylim=(0, None), xlabel="divergence allowed (nats)", ylabel="variance / Gaussian variance")
    ax.set_xticks(levels, [f"{v:g}" for v in levels])
    ax.minorticks_off()
    _label_ends(ax, [*ends, ("Gaussian", 1, "0.3")])
    return ax.figure


def plot_noise_densities(df):
    """Densities on a log scale, a panel per divergence; df: divergence, noise, position (in radii), density."""
    panels = df.groupby("divergence", sort=False)
    fig, axes = plt.subplots(1, panels.ngroups, figsize=(3.1 * panels.ngroups, 2.6), sharey=True, squeeze=False,
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
    ends = []
    lines = zip(df.groupby("divergence", sort=False), MARKERS, DASHES, sns.color_palette(), strict=False)
    for (divergence, part), marker, dash, colour in lines:
        ax.plot(part["dim"], part["relative"], linestyle=dash, marker=marker, color=colour, markersize=4)
        ends.append((f"divergence {divergence:g}", part["relative"].iloc[-1], colour))
    ax.axhline(1, color="0.3", linewidth=1)
    dims = sorted(df["dim"].unique())
    ax.set(xscale="log", ylim=(None, 1.03), xlabel="dimension d", ylabel="best noise / Gaussian, mean of $||z||_2^2$")
    ax.set_xticks(dims, [str(d) for d in dims])
    ax.minorticks_off()
    _label_ends(ax, [*ends, ("Gaussian", 1, "0.3")])
    return ax.figure


def plot_max_norm(df, ax=None):
    """What a noise costs against its exponent, over the Gaussian's (exponent 2); df: shape, quantity, relative."""
    ax = _axes(ax, (4.6, 2.8))
    ends = []
    lines = zip(df.groupby("quantity", sort=False), MARKERS, DASHES, sns.color_palette(), strict=False)
    for (name, part), marker, dash, colour in lines:
        ax.plot(part["shape"], part["relative"], linestyle=dash, marker=marker, color=colour, markersize=4)
        ends.append((name, part["relative"].iloc[-1], colour))
    ax.axhline(1, color="0.3", linewidth=1)
    shapes = sorted(df["shape"].unique())
    ax.set(ylim=(0, None), xlabel="exponent p of exp(-|z / b|^p); 2 is Gaussian", ylabel="over the Gaussian's")
    ax.set_xticks(shapes, [f"{v:g}" for v in shapes])
    _label_ends(ax, ends)
    return ax.figure
