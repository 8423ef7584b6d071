"""Figures of notebook 07, what draws can certify."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from fvit.report.style import DASHES, label_ends, legend_below, lines, one_panel, panels_by, ticks_at
from fvit.theory.intervals import rate_interval

LOOKS = {"votes": ("#0173b2", "-"), "clipped": ("#d55e00", "--"), "cdf": ("#029e73", "-."),
         "renyi": ("#b0529c", (0, (3, 1, 1, 1))), "sharp": ("#767676", (0, (5, 2)))}  # colour and dash of a certificate


def plot_votes(df) -> plt.Figure:
    """Votes in order, a bar for each token: dark and hatched are the two that decide, from left to right.

    df   place (from 1), vote (share of draws), top (bool: in the shown set), decides (bool)
    """
    ax = one_panel(5.4, 2.7)
    colours = {(True, True): "#0173b2", (True, False): "#a6cbe3", (False, True): "#d55e00", (False, False): "#f0c9a8"}
    for row in df.itertuples():
        ax.bar(row.place, row.vote, color=colours[row.top, row.decides], hatch="//" * row.decides, edgecolor="white")
        ax.annotate(f"{row.vote:.2f}", (row.place, row.vote), xytext=(0, 2), textcoords="offset points", ha="center",
                    fontsize="small", weight="bold" if row.decides else "normal")
    edge = df.loc[df["top"], "place"].max() + 0.5
    ax.axvline(edge, color="0.35", linestyle=":", linewidth=1)
    for side, text in ((-1, "the shown set"), (1, "outside")):
        ax.annotate(text, (edge, 1.13), xytext=(6 * side, 0), textcoords="offset points", fontsize="small",
                    ha="right" if side < 0 else "left", va="center", color="0.25")
    ax.set(xlabel="tokens, in the order of their votes", ylabel="share of the draws", ylim=(0, 1.2))
    ax.set_xticks(df["place"])
    ax.grid(axis="x", visible=False)
    return ax.figure


GUARANTEES = {"radius": "guaranteed, from the draws", "plugin": "were the mean exact (no guarantee)"}


def plot_certified_share(df) -> plt.Figure:
    """Share of images certified against the radius, a panel for each kind, each curve named beside it.

    df   certificate, kind "radius" or "plugin" (as of GUARANTEES; the second dotted), radius, share; certificates that
         reach no image are named in a corner
    """
    last = df[df["share"] > 0]["radius"].max()
    limit = min(df["radius"].max(), 1.1 * last) if last > 0 else df["radius"].max()
    df = df.assign(kind=pd.Categorical(df["kind"], list(GUARANTEES))).sort_values(["kind", "radius"], kind="stable")
    fig, panels = panels_by(df.astype({"kind": str}), "kind", 4.4, 3.0, ylabel="share of images certified")
    for ax, kind, part in panels:
        order = part.groupby("certificate")["share"].sum().sort_values()
        style = {"linestyle": ":"} if kind == "plugin" else {}
        for name in order.index:
            own = part[part["certificate"] == name]
            ax.plot(own["radius"], own["share"], linewidth=1.8, **_look(name) | style)
        ax.set(title=GUARANTEES[kind], xlabel="l2 radius, for images in [0, 1]", ylim=(-0.02, 1.03),
               xlim=(-0.01, limit))
        _name_curves(ax, part, order[order > 0].index, limit)
        if none := ", ".join(order[order == 0].index):
            ax.annotate(f"no image: {none}", (0.98, 0.95), xycoords="axes fraction", ha="right", va="top",
                        fontsize="small", color="0.3")
    return fig


def _name_curves(ax, df, names, limit):
    """Names of falling curves, the one that reaches farthest on top, each right of all curves that it would cover."""
    wide, gap = 0.14 * limit, 0.025 * limit
    for i, name in enumerate(names):
        level = 0.15 + 0.75 * (i + 0.5) / len(names)
        ends = {other: df[(df["certificate"] == other) & (df["share"] >= level)]["radius"].max() for other in names}
        ends = {other: 0.0 if np.isnan(end) else end for other, end in ends.items()}
        x = ends[name]
        for end in sorted(ends.values()):
            x = max(x, end) if end < x + gap + wide else x
        colour = _look(name)["color"]
        ax.annotate(name, (ends[name], level), xytext=(x + gap, level), color=colour, va="center", fontsize="small",
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0})


def _look(certificate):
    return dict(zip(("color", "linestyle"), LOOKS.get(certificate, ("0.3", "-")), strict=True))


def plot_radius_by_draws(df) -> plt.Figure:
    """Median radius against the draws that bound, a panel for each certificate and a line for each overlap asked for.

    df   overlap, certificate, n_samples, radius; the certificate that reaches farthest is drawn first
    """
    overlaps = sorted(df["overlap"].unique())
    shades = dict(zip(overlaps, sns.color_palette("mako", len(overlaps) + 1)[::-1][1:], strict=True))
    farthest = -df.groupby("certificate")["radius"].transform("max")
    df = df.assign(farthest=farthest).sort_values(["farthest", "certificate", "overlap", "n_samples"])
    fig, panels = panels_by(df, "certificate", 2.5, 3.0, ylabel="median certified l2 radius")
    top = 1.08 * df["radius"].max() or 0.1
    for i, (ax, _, part) in enumerate(panels):
        ax.set(ylim=(-0.02 * top, top), xlabel="draws that bound")
        ends = lines(ax, part, "overlap", "n_samples", "radius", look=lambda overlap: {"color": shades[overlap]},
                     linewidth=1.4)
        ticks_at(ax, df["n_samples"])
        if part["radius"].max() > 0:
            said = {overlaps[0]: "overlap "} if i == 0 else {}
            label_ends(ax, ends, lambda value, said=said: f"{said.get(value, '')}{value:g}")
        else:
            ax.annotate("none", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="0.35")
    return fig


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
    legend_below(ax.figure, ax, ncols=3)
    return ax.figure
