"""Figures of notebook 06, when the top-k must survive."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D

from fvit.report.style import DASHES, label_ends, legend_below, lines, one_panel, panels_by
from fvit.theory.intervals import rate_interval


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
    panels[-1][0].legend(frameon=False)
    return fig


def plot_certified_share(df) -> plt.Figure:
    """Share of images certified against the radius, the certificates that reach farthest first in the legend below.

    df   certificate, kind "radius" or "plugin" (dotted), radius, share
    """
    ax = one_panel(5.2, 3.9)
    farthest = df.groupby(["kind", "certificate"])["share"].transform("sum")
    df = df.assign(farthest=-farthest).sort_values(["kind", "farthest", "radius"], ascending=[False, True, True])

    def look(series):
        kind, certificate = series
        return _look(certificate) | ({"linestyle": ":", "marker": None} if kind == "plugin" else {})

    lines(ax, df, ["kind", "certificate"], "radius", "share", look=look, linewidth=1.6, markevery=15,
          names=lambda series: series[1] + ", exact mean (no guarantee)" * (series[0] == "plugin"))
    last = df[df["share"] > 0]["radius"].max()
    ax.set(xlabel="l2 radius, for images in [0, 1]", ylabel="share of scenes certified", ylim=(-0.02, 1.03),
           xlim=(-0.01, min(df["radius"].max(), 1.1 * last) if last > 0 else None))
    legend_below(ax.figure, ax)
    return ax.figure


LOOKS = {"votes": ("#0173b2", "o", "-"), "clipped": ("#d55e00", "^", "--"), "cdf": ("#029e73", "D", "-."),
         "renyi": ("#cc78bc", "v", (0, (3, 1, 1, 1))), "sharp": ("#949494", "s", (0, (5, 2)))}  # of a certificate


def _look(certificate):
    return dict(zip(("color", "marker", "linestyle"), LOOKS.get(certificate, ("0.3", "P", "-")), strict=True))


def plot_radius_by_draws(df) -> plt.Figure:
    """Median radius against the overlap asked for: a band for each certificate, from the fewest to the most draws.

    df   overlap, certificate, n_samples, radius
    """
    ax = one_panel(5.4, 3.3)
    few, many = df["n_samples"].min(), df["n_samples"].max()
    ends = []
    for certificate, part in df.groupby("certificate", sort=False):
        wide = part.pivot(index="overlap", columns="n_samples", values="radius").sort_index(ascending=False)
        look = _look(certificate)
        ax.fill_between(wide.index, wide.min(axis=1), wide.max(axis=1), color=look["color"], alpha=0.15, linewidth=0)
        for n in sorted(wide):
            ax.plot(wide.index, wide[n], markersize=5, linewidth=1.6 if n == many else 1, **look | {
                "linestyle": {few: ":", many: "-"}.get(n, "--"),
                "markerfacecolor": look["color"] if n == many else "white"})
        ends.append((certificate, wide[many].iloc[-1], look["color"]))
    ax.set(xlabel="overlap that is to be kept for certain", ylabel="median certified l2 radius", ylim=(-0.01, None))
    ax.set_xticks(sorted(df["overlap"].unique()))
    ax.invert_xaxis()
    label_ends(ax, ends)
    keys = [Line2D([], [], color="0.3", marker="o", markersize=5, markerfacecolor="0.3" if n == many else "white",
                   linestyle={few: ":", many: "-"}.get(n, "--"), label=f"{n} draws") for n in
            sorted(df["n_samples"].unique())]
    legend_below(ax.figure, ax, ncols=len(keys), handles=keys)
    return ax.figure


CERTIFIED = {"label_radius": "prediction right and certified", "radius": "top-k certified", "joint_radius": "both"}


def certified_accuracy(rows, photograph: dict[str, str], radii) -> pd.DataFrame:
    """The certified-accuracy curve (Cohen et al. 2019) of the prediction, of the top-k, and of both on one image.

    rows         of `certificate_rows` by one certificate, at one overlap asked for and one number of draws
    photograph   image id -> photograph, or other group: the first image of each counts, so that units are independent
                 and the interval of a share, at each radius by itself, is exact
    radii        l2, in [0, 1] pixel units
    returns      DataFrame certified (as of CERTIFIED), radius, mean (share of images), low, high, n

    Raises ValueError where an image has not one row of each metric, or no photograph.
    """
    value = rows[rows["metric"].isin([*CERTIFIED, "right"])].pivot(index="metric", columns="image_id", values="value")
    first = rows.drop_duplicates("image_id").assign(group=lambda df: df["image_id"].map(photograph))
    if first["group"].isna().any():
        raise ValueError(f"image {first.loc[first['group'].isna(), 'image_id'].iloc[0]} has no photograph; wanted one "
                         "for each image")
    value = value.reindex(index=[*CERTIFIED, "right"], columns=first.drop_duplicates("group")["image_id"])
    if value.isna().any(axis=None):
        raise ValueError("an image lacks a row of radius, label_radius, joint_radius or right; wanted one of each, as "
                         "of fvit.experiments.certificate_rows")
    found = []
    for metric, said in CERTIFIED.items():
        sure = value.loc[metric].where((value.loc["right"] == 1) | (metric == "radius"), -1.0)
        found += [[said, radius, *(share := rate_interval(int((sure > radius).sum()), len(sure))), share.n]
                  for radius in radii]
    return pd.DataFrame(found, columns=["certified", "radius", "mean", "low", "high", "n"])


def plot_certified_accuracy(df) -> plt.Figure:
    """Share of images certified against the radius, with exact intervals.

    df   of `certified_accuracy`
    """
    ax = one_panel(5.2, 3.0)
    lines(ax, df, "certified", "radius", dashes=DASHES[:3], markers=None, intervals="band", linewidth=1.6)
    ax.set(xlabel="l2 radius, for images in [0, 1]", ylabel="share of images", ylim=(-0.02, 1.03))
    ax.legend(frameon=False, fontsize="small")
    return ax.figure
