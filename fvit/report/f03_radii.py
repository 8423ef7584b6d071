"""Figures of notebook 03, when the top-k must survive: one function each, (df) -> Figure."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from fvit.report.style import MARKERS, _label_ends

DASHES = ("-", "--", "-.", ":")


def plot_simplex(df) -> plt.Figure:
    """Divergence over the triangle of maps of three tokens.

    df   token_1, token_2, token_3 (sum 1), divergence, broken, what ("grid", or the name of a single point)
    """
    fig, ax = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
    x, y = df["token_2"] + df["token_1"] / 2, df["token_1"] * 3**0.5 / 2
    grid = df["what"] == "grid"
    levels = [0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 10]
    filled = ax.tricontourf(x[grid], y[grid], df["divergence"][grid], levels=levels, cmap="mako",
                            norm=plt.matplotlib.colors.BoundaryNorm(levels, 256))
    tall = 3**0.5 / 2
    border = [(0.75, tall / 2), (0.5, tall / 3), (0.25, tall / 2)]  # where token 1 equals the larger of the others
    ax.fill(*zip(*border, (0, 0), (1, 0), strict=True), facecolor="none", hatch="//", edgecolor="white", linewidth=0)
    ax.plot(*zip(*border, strict=True), color="white", linewidth=1)
    for (_, point), marker in zip(df[~grid].iterrows(), "o*", strict=False):
        at = point["token_2"] + point["token_1"] / 2, point["token_1"] * tall
        ax.plot(*at, marker, color="white", markeredgecolor="black", markersize=9)
        ax.annotate(point["what"], at, xytext=(7, 5), textcoords="offset points", fontsize="small",
                    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85})
    corners = (("token 1", (0.5, tall), (0, 4), "center"), ("token 2", (1, 0), (0, -12), "right"),
               ("token 3", (0, 0), (0, -12), "left"))
    for text, at, shift, side in corners:
        ax.annotate(text, at, xytext=shift, textcoords="offset points", ha=side, fontsize="small",
                    annotation_clip=False)
    ax.set_aspect("equal")
    ax.set_axis_off()
    fig.colorbar(filled, ax=ax, shrink=0.8, label="divergence of order 2 from w (nats)", ticks=levels[:-1])
    return fig


def plot_counterexamples(df) -> plt.Figure:
    """Averaged attention of groups of tokens against the shift, a panel per example.

    df   example, kind "curve": rho, tokens (a label), share, top (bool); kind "radius": rho, variable (whose radius)
    """
    names = list(dict.fromkeys(df["example"]))
    fig, axes = plt.subplots(1, len(names), figsize=(4.1 * len(names), 3.1), layout="constrained")
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        part, ends = df[df["example"] == name], []
        for (tokens, line), colour in zip(part[part["kind"] == "curve"].groupby("tokens", sort=False),
                                          sns.color_palette(), strict=False):
            ax.plot(line["rho"], line["share"], "-" if line["top"].iloc[0] else "--", color=colour, linewidth=1.5)
            ends.append((tokens, line["share"].iloc[-1], colour))
        radii = part[part["kind"] == "radius"].sort_values("rho")
        for row, style in zip(radii.itertuples(), (":", "-.", "-"), strict=False):
            ax.axvline(row.rho, color="0.35", linestyle=style, linewidth=1, label=f"{row.variable}: {row.rho:.4f}")
        ax.set(xlabel="shift of the image, in units of sigma", title=f"example {name}", ylim=(0, None))
        _label_ends(ax, ends)
        ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=1, frameon=False)
    np.atleast_1d(axes)[0].set_ylabel("averaged attention of each token")
    return fig


def plot_overlap_by_radius(df) -> plt.Figure:
    """Guaranteed overlap against the radius, a panel per profile.

    df   profile, certificate, overlap, rho: the radius up to which that overlap is certain
    """
    profiles = list(dict.fromkeys(df["profile"]))
    fig, axes = plt.subplots(1, len(profiles), figsize=(3.4 * len(profiles), 2.7), sharey=True, squeeze=False,
                             layout="constrained")
    for ax, profile in zip(axes[0], profiles, strict=True):
        lines = df[df["profile"] == profile].groupby("certificate", sort=False)
        for (certificate, part), style, colour in zip(lines, DASHES, sns.color_palette(), strict=False):
            rho, overlap = [0, *part["rho"]], [*part["overlap"], 0]
            ax.step(rho, overlap, style, where="post", color=colour, label=certificate, linewidth=1.4)
        ax.set(xlabel="radius rho, in units of sigma", title=profile, ylim=(0, 1.03))
    axes[0, 0].set_ylabel("guaranteed overlap")
    axes[0, -1].legend(frameon=False)
    return fig


def plot_certified_share(df) -> plt.Figure:
    """Share of images certified against the radius.

    df   certificate, kind "radius" or "plugin" (dotted), radius, share
    """
    fig, ax = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
    certificates = list(dict.fromkeys(df["certificate"]))
    colours = dict(zip(certificates, sns.color_palette("colorblind", len(certificates)), strict=True))
    for i, ((kind, name), part) in enumerate(df.groupby(["kind", "certificate"], sort=False)):
        known = kind == "plugin"
        ax.plot(part["radius"], part["share"], ":" if known else DASHES[i % 3], color=colours[name], linewidth=1.6,
                marker=None if known else MARKERS[i % len(MARKERS)], markevery=15, markersize=4,
                label=f"{name}, exact mean (no guarantee)" if known else name)
    ax.set(xlabel="l2 radius, for images in [0, 1]", ylabel="share of scenes certified", ylim=(-0.02, 1.03))
    ax.legend(frameon=False, fontsize="small")
    return fig


def plot_radius_by_draws(df) -> plt.Figure:
    """Median radius against the overlap asked for, a panel per certificate, a line per number of draws.

    df   overlap, certificate, n_samples, radius
    """
    names = list(dict.fromkeys(df.sort_values("radius", ascending=False)["certificate"]))
    fig, axes = plt.subplots(1, len(names), figsize=(2.3 * len(names), 2.7), sharey=True, squeeze=False,
                             layout="constrained")
    for ax, name in zip(axes[0], names, strict=True):
        lines = df[df["certificate"] == name].groupby("n_samples")
        for (n, part), marker, colour in zip(lines, MARKERS, sns.color_palette(), strict=False):
            ax.plot(part["overlap"], part["radius"], marker=marker, markersize=4, color=colour, label=f"{n} draws")
        ax.set(xlabel="overlap to keep", title=name)
        ax.invert_xaxis()
    axes[0, 0].set_ylabel("median certified l2 radius")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="upper right")
    return fig
