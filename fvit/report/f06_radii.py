"""Figures of notebook 06, when the top-k must survive."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fvit.report.style import DASHES, label_ends, legend_below, lines, one_panel, panels_by


def simplex_rows(triangle, divergence, broken, w, nearest, least) -> pd.DataFrame:
    """The table of `plot_simplex`, of maps at multiples of 1/60: a fifth as fine as a search in steps of 1/300.

    triangle     (maps, 3) all that were searched; divergence, broken: (maps,) of each
    w, nearest   (3,) the map itself, and the nearest broken one, at divergence `least`
    """
    columns = ["token_1", "token_2", "token_3"]
    coarse = (np.abs(60 * triangle - np.rint(60 * triangle)) < 1e-6).all(1)
    grid = pd.DataFrame(triangle[coarse], columns=columns).assign(
        divergence=np.minimum(divergence, 9)[coarse], broken=np.asarray(broken)[coarse], what="grid")
    points = pd.DataFrame([w, nearest], columns=columns).assign(
        divergence=[0, least], broken=False, what=["w", "nearest"])
    return pd.concat([grid, points], ignore_index=True)


def plot_simplex(df) -> plt.Figure:
    """Divergence over the triangle of maps of three tokens.

    df   token_1, token_2, token_3 (sum 1), divergence, broken, what ("grid", or the name of a single point)
    """
    ax = one_panel(4.6, 3.6)
    x, y = df["token_2"] + df["token_1"] / 2, df["token_1"] * 3**0.5 / 2
    grid = df["what"] == "grid"
    levels = [0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 10]
    filled = ax.tricontourf(x[grid], y[grid], df["divergence"][grid], levels=levels, cmap="mako",
                            norm=plt.matplotlib.colors.BoundaryNorm(levels, 256))
    tall = 3**0.5 / 2
    border = [(0.75, tall / 2), (0.5, tall / 3), (0.25, tall / 2)]  # where token 1 equals the larger of the others
    ax.fill(*zip(*border, (0, 0), (1, 0), strict=True), facecolor="none", hatch="//", edgecolor="white", linewidth=0)
    ax.plot(*zip(*border, strict=True), color="white", linewidth=1)
    for (i, point), marker in zip(df[~grid].iterrows(), "o*", strict=False):
        ax.plot(x[i], y[i], marker, color="white", markeredgecolor="black", markersize=9)
        ax.annotate(point["what"], (x[i], y[i]), xytext=(7, 5), textcoords="offset points", fontsize="small",
                    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85})
    corners = (("token 1", (0.5, tall), (0, 4), "center"), ("token 2", (1, 0), (0, -12), "right"),
               ("token 3", (0, 0), (0, -12), "left"))
    for text, at, shift, side in corners:
        ax.annotate(text, at, xytext=shift, textcoords="offset points", ha=side, fontsize="small",
                    annotation_clip=False)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.figure.colorbar(filled, ax=ax, shrink=0.8, label="divergence of order 2 from w (nats)", ticks=levels[:-1])
    return ax.figure


def plot_counterexamples(df) -> plt.Figure:
    """Averaged attention of groups of tokens against the shift, a panel per example.

    df   example, kind "curve": rho, tokens (a label), share, top (bool); kind "radius": rho, variable (whose radius)
    """
    fig, panels = panels_by(df, "example", 4.1, 3.1, sharey=False, ylabel="averaged attention of each token")
    for ax, name, part in panels:
        curves = part[part["kind"] == "curve"]
        top = curves.groupby("tokens")["top"].first()
        ends = lines(ax, curves, "tokens", "rho", "share", markers=None, linewidth=1.5,
                     look=lambda tokens, top=top: {"linestyle": "-" if top[tokens] else "--", "label": None})
        radii = part[part["kind"] == "radius"].sort_values("rho")
        radii = [ax.axvline(row.rho, color="0.35", linestyle=dash, linewidth=1, label=f"{row.variable}: {row.rho:.4f}")
                 for row, dash in zip(radii.itertuples(), (":", "-.", "-"), strict=False)]
        ax.set(xlabel="shift of the image, in units of sigma", title=f"example {name}", ylim=(0, None))
        label_ends(ax, ends)
        ax.legend(handles=radii, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False)
    return fig


STRIPES = {"token 1": "#0173b2", "token 2": "#de8f05", "both": "#5b7f7a", "half of both": "#8fb0ab"}


def plot_strips(df) -> plt.Figure:
    """Shares of the attention as parts of strips, one strip below the other; what is right of them are other tokens.

    df   strip (its name), part (a word of STRIPES), share; in order from the top and from the left
    """
    names = list(dict.fromkeys(df["strip"]))
    ax = one_panel(6.2, 0.5 * len(names) + 0.8)
    limit = 1.02 * df.groupby("strip")["share"].sum().max()
    for y, name in enumerate(names):
        part = df[df["strip"] == name]
        starts = part["share"].cumsum() - part["share"]
        for row, start in zip(part.itertuples(), starts, strict=True):
            ax.barh(y, row.share, left=start, height=0.62, color=STRIPES[row.part], edgecolor="white", linewidth=1.5)
            if row.share > 0.06 * limit:
                ax.annotate(f"{row.share:.3f}", (start + row.share / 2, y), ha="center", va="center",
                            fontsize="small", color="black" if row.part in ("token 2", "half of both") else "white")
        ax.annotate(", ".join(dict.fromkeys(part["part"])), (part["share"].sum(), y), xytext=(5, 0), va="center",
                    textcoords="offset points", fontsize="small", annotation_clip=False)
    ax.set(xlim=(0, limit), ylim=(len(names) - 0.5, -0.5), xlabel="share of the attention")
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="y", visible=False)
    return ax.figure


def plot_overlap_by_radius(df) -> plt.Figure:
    """Guaranteed overlap against the radius, a panel per profile.

    df   profile, certificate, overlap, rho: the radius up to which that overlap is certain
    """
    fig, panels = panels_by(df, "profile", 3.4, 2.7, ylabel="guaranteed overlap")
    for ax, _, part in panels:
        first = part.groupby("certificate", sort=False).head(1).assign(rho=0)
        last = part.groupby("certificate", sort=False).tail(1).assign(overlap=0)
        lines(ax, pd.concat([first, part, last]), "certificate", "rho", "overlap", markers=None, dashes=DASHES,
              drawstyle="steps-pre", linewidth=1.4)
        ax.set(xlabel="radius rho, in units of sigma", ylim=(0, 1.03))
    legend_below(fig, panels[0][0], ncols=3)
    return fig
