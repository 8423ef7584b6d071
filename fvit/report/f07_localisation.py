"""Figures of notebook 07, scores with and without DDS under attack."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from fvit.records.words import said
from fvit.report.style import MARKERS, dots, legend_below, lines, one_panel, panels_by

SIDES = {"none": ("--", "white"), "dds": ("-", None)}  # defence -> dash, face of the markers (None: filled)
OTHERS = "-.", None  # the same of other defences


def plot_scores_by_eps(df, score: str, ncols=4) -> plt.Figure:
    """A score against the attack radius, a panel per method, a line per defence and condition.

    df      method, defence ("none", "dds" or "constant_map": a dotted level), condition, eps, mean, low, high
    score   its name, with its unit
    """
    methods = list(dict.fromkeys(df["method"]))
    fig, panels = panels_by(df, "method", 2.2, 2.1, ncols=ncols, extra=(0.4, 0.8), sharex=True)
    for number, (ax, method, part) in enumerate(panels):
        for level in part.loc[part["defence"] == "constant_map", "mean"].unique()[:1]:
            ax.axhline(level, color="0.4", linestyle=":", linewidth=1.2, label=said("constant_map"))
        part = part[part["defence"] != "constant_map"].sort_values("eps", kind="stable")
        lines(ax, part.assign(eps=255 * part["eps"]), ["defence", "condition"], "eps", names=_name,
              look=_look(df), shift=lambda eps, place: eps + 0.16 * place)
        ax.set_title(method, fontsize="small")
        ax.set_xticks(sorted(df["eps"].unique() * 255))
        if number >= len(methods) - ncols:
            ax.set_xlabel("attack radius, linf, in 1/255", fontsize="small")
            ax.tick_params(labelbottom=True)
    fig.supylabel(score, fontsize="small")
    legend_below(fig, panels[0][0])
    return fig


def _name(series):
    return f"{said(series[0])}: {series[1]}"


def _look(df):
    """Series -> colour of the side, marker of the condition; one side's markers are open, so that a grey print is read.

    A condition that starts with "control" is grey.
    """
    conditions = list(dict.fromkeys(df.loc[df["defence"] != "constant_map", "condition"]))

    sides = list(dict.fromkeys([*SIDES, *df["defence"]]))
    colours = dict(zip([side for side in sides if side != "constant_map"], cycle(sns.color_palette()), strict=False))

    def look(series):
        defence, condition = series
        dash, face = SIDES.get(defence, OTHERS)
        colour = "0.45" if condition.startswith("control") else colours[defence]
        return {"color": colour, "linestyle": dash, "markerfacecolor": face or colour,
                "marker": (MARKERS + "P*h")[conditions.index(condition)]}

    return look


def plot_overlap_by_method(df, k: int) -> plt.Figure:
    """Top-k overlap with one's own clean map, a row per method, a marker per series.

    df   method, defence, condition, mean, low, high. A condition that starts with "control" is drawn in grey
    """
    methods, look = list(dict.fromkeys(df["method"])), _look(df)
    ax = one_panel(6.2, 0.62 * len(methods) + 1.7)
    dots(ax, df, "method", methods, ["defence", "condition"], gap=0.11, names=_name, markersize=4.5, capsize=1.5,
         look=lambda series: look(series) | {"linestyle": ""})
    for y in np.arange(len(methods) - 1) + 0.5:
        ax.axhline(y, color="0.85", linewidth=0.8)
    ax.grid(axis="y", visible=False)
    ax.axvline(1, color="0.4", linestyle="--", linewidth=1, label="constant map (stable, and says nothing)")
    ax.set(xlim=(-0.02, 1.03), ylim=(len(methods) - 0.5, -0.5), xlabel=f"top-{k} overlap")
    legend_below(ax.figure, ax, fontsize="x-small")
    return ax.figure


def plot_class_explained(df, k: int) -> plt.Figure:
    """Top-k overlap with the class fixed and with the class predicted anew; a panel per defence.

    df   method, defence, explained ("fixed", then "re-predicted"), mean, low, high
    """
    methods = list(dict.fromkeys(df["method"]))
    names = {"fixed": "class fixed", "re-predicted": "class predicted anew"}
    fig, panels = panels_by(df, "defence", 3.3, 0.42 * len(methods) + 1.5)
    for ax, defence, part in panels:
        dots(ax, part, "method", methods, "explained", gap=0.2, names=names.get)
        ax.set_title(said(defence), fontsize="small")
        ax.set(xlim=(-0.02, 1.03), ylim=(len(methods) - 0.5, -0.5), xlabel=f"top-{k} overlap")
    legend_below(fig, panels[0][0])
    return fig
