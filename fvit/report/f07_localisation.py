"""Figures of notebook 07, scores with and without DDS under attack: one function each, (df) -> Figure."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from fvit.report.style import MARKERS, WIDEST, _errors, _points

SIDES = {"none": ("--", "white"), "dds": ("-", None)}  # smoothing -> dash, face of the markers (None: filled)
NAMES = {"none": "no smoothing", "dds": "DDS"}


def plot_scores_by_eps(df, score: str, ncols=4) -> plt.Figure:
    """A score against the attack radius, a panel per method, a line per smoothing and condition.

    df      method, smoothing ("none", "dds" or "constant map": a dotted level), condition, eps, mean, low, high
    score   its name, with its unit
    """
    methods = list(dict.fromkeys(df["method"]))
    ncols = min(ncols, len(methods))
    nrows = -(-len(methods) // ncols)
    fig, axes = plt.subplots(nrows, ncols, figsize=(min(2.2 * ncols + 0.4, WIDEST), 2.1 * nrows + 0.8), sharex=True,
                             sharey=True, squeeze=False, layout="constrained")
    for ax, method in zip(axes.flat, methods, strict=False):
        mine = df[df["method"] == method]
        for level in mine.loc[mine["smoothing"] == "constant map", "mean"].unique()[:1]:
            ax.axhline(level, color="0.4", linestyle=":", linewidth=1.2, label="constant map")
        lines = mine[mine["smoothing"] != "constant map"].groupby(["smoothing", "condition"], sort=False)
        for number, ((smoothing, condition), part) in enumerate(lines):
            part, x = part.sort_values("eps"), part["eps"].sort_values() * 255
            _points(ax, part, x + 0.16 * (number - (len(lines) - 1) / 2), label=f"{NAMES[smoothing]}: {condition}",
                    **_style(smoothing, condition, df))
        ax.set_title(method, fontsize="small")
        ax.set_xticks(sorted(df["eps"].unique() * 255))
    for ax in axes.flat[len(methods):]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(methods) - ncols):len(methods)]:
        ax.set_xlabel("attack radius, linf, in 1/255", fontsize="small")
        ax.tick_params(labelbottom=True)
    fig.supylabel(score, fontsize="small")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False,
               fontsize="small")
    return fig


def _style(smoothing, condition, df):
    """Colour of the side, marker of the condition; the markers of one side are open, so that a grey print is read."""
    conditions = list(dict.fromkeys(df.loc[df["smoothing"] != "constant map", "condition"]))
    colour = sns.color_palette()[list(SIDES).index(smoothing)]
    dash, face = SIDES[smoothing]
    return {"color": colour, "linestyle": dash, "marker": MARKERS[conditions.index(condition)], "markersize": 4,
            "markerfacecolor": face or colour}


def plot_overlap_by_method(df, k: int) -> plt.Figure:
    """Top-k overlap with one's own clean map, a row per method, a marker per series.

    df   method, smoothing, condition, mean, low, high. A condition that starts with "control" is drawn in grey
    """
    methods, series = list(dict.fromkeys(df["method"])), list(df.groupby(["smoothing", "condition"], sort=False))
    conditions = list(dict.fromkeys(df["condition"]))
    fig, ax = plt.subplots(figsize=(6.2, 0.62 * len(methods) + 1.7), layout="constrained")
    for number, ((smoothing, condition), part) in enumerate(series):
        part = part.set_index("method").reindex(methods)
        colour = "0.45" if condition.startswith("control") else sns.color_palette()[list(SIDES).index(smoothing)]
        marker = (MARKERS + "P*h")[conditions.index(condition)]
        y = np.arange(len(methods)) + 0.11 * (number - (len(series) - 1) / 2)
        ax.errorbar(part["mean"], y, xerr=_errors(part), fmt=marker, color=colour, markersize=4.5, capsize=1.5,
                    linewidth=1, markerfacecolor=SIDES[smoothing][1] or colour,
                    label=f"{NAMES[smoothing]}: {condition}")
    for y in np.arange(len(methods) - 1) + 0.5:
        ax.axhline(y, color="0.85", linewidth=0.8)
    ax.grid(axis="y", visible=False)
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.axvline(1, color="0.4", linestyle="--", linewidth=1, label="constant map (stable, and says nothing)")
    ax.set(xlim=(-0.02, 1.03), xlabel=f"top-{k} overlap")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize="x-small")
    return fig


def plot_class_explained(df, k: int) -> plt.Figure:
    """Top-k overlap with the class fixed and with the class predicted anew; a panel per smoothing.

    df   method, smoothing, explained (two values, fixed first), mean, low, high
    """
    sides, methods = list(dict.fromkeys(df["smoothing"])), list(dict.fromkeys(df["method"]))
    kinds = list(dict.fromkeys(df["explained"]))
    fig, axes = plt.subplots(1, len(sides), figsize=(3.3 * len(sides), 0.42 * len(methods) + 1.5), sharey=True,
                             squeeze=False, layout="constrained")
    for ax, side in zip(axes[0], sides, strict=True):
        found = [df[(df["smoothing"] == side) & (df["explained"] == kind)].set_index("method").reindex(methods)
                 for kind in kinds]
        y = np.arange(len(methods))
        for part, kind, marker, colour, shift in zip(found, kinds, MARKERS, sns.color_palette(), (-0.1, 0.1),
                                                     strict=False):
            ax.errorbar(part["mean"], y + shift, xerr=_errors(part), fmt=marker, color=colour, markersize=5,
                        capsize=2, linewidth=1, label=kind)
        ax.set_title(NAMES[side], fontsize="small")
        ax.set(xlim=(-0.02, 1.03), xlabel=f"top-{k} overlap")
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False,
               fontsize="small")
    return fig
