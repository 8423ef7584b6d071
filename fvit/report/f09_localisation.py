"""Figures of notebook 09, does DDS localise better."""

import matplotlib.pyplot as plt

from fvit.records.words import said
from fvit.report.style import (
    NO_INFORMATION,
    WIDEST,
    aimed_at,
    colour,
    dots,
    dumbbell_key,
    dumbbells,
    legend_below,
    one_panel,
)


def _sides(df):
    """Handles that name the defences of df by their colours."""
    sides = list(dict.fromkeys(df.loc[df["condition"] != NO_INFORMATION, "defence"]))
    return [plt.Line2D([], [], color=colour(side, sides), linewidth=4, label=said(side)) for side in sides]


def plot_scores(df, score: str) -> plt.Figure:
    """A score of every method, a row each, under attacks of one radius: a panel for what the attack aims at.

    df      method, defence, condition ("clean", "explanation, transferred", ...), mean, low, high, as of
            `style.dumbbells`; rows of NO_INFORMATION are the score of a constant map
    score   its name, with its unit
    """
    aims = [aim for aim in ("explanation", "prediction") if aim in set(df["condition"].map(aimed_at))]
    sides = df.loc[df["condition"] != NO_INFORMATION, "defence"].nunique()
    height = (0.2 + 0.17 * sides) * df["method"].nunique() + 1.5
    fig, axes = plt.subplots(1, len(aims), figsize=(WIDEST, height), sharey=True, sharex=True, squeeze=False,
                             layout="constrained")
    for ax, aim in zip(axes[0], aims, strict=True):
        part = df[df["condition"].isin(["clean", NO_INFORMATION]) | (df["condition"].map(aimed_at) == aim)]
        dumbbells(ax, part, "method", gap=0.62 / sides, apart=0.24 / sides, order=list(dict.fromkeys(df["method"])))
        ax.set(xlabel=score, title=f"attack on the {aim}")
        _rules(ax)
    legend_below(fig, axes[0, 0], ncols=3, handles=[*_sides(df), *dumbbell_key(
        df, no_information="what a constant map scores")])
    return fig


def _rules(ax):
    """Lines between the rows."""
    for y in range(len(ax.get_yticks()) - 1):
        ax.axhline(y + 0.5, color="0.8", linewidth=0.8, zorder=1)


def plot_overlap_by_method(df, k: int) -> plt.Figure:
    """Top-k overlap with one's own clean map, a row per method: what of it each attack leaves.

    df   method, defence, condition, mean, low, high, as of `style.dumbbells`
    """
    sides = df.loc[~df["condition"].isin([NO_INFORMATION, "fidelity"]), "defence"].nunique()
    ax = one_panel(6.6, (0.2 + 0.17 * sides) * df["method"].nunique() + 1.8)
    dumbbells(ax, df, "method", gap=0.62 / sides, apart=0.24 / sides)
    _rules(ax)
    ax.set(xlim=(-0.02, 1.03), xlabel=f"share of the clean top {k} that is kept")
    legend_below(ax.figure, ax, ncols=2, handles=[*_sides(df), *dumbbell_key(df)])
    return ax.figure


def plot_class_explained(df, k: int) -> plt.Figure:
    """Top-k overlap with the class fixed (full) and with the class predicted anew (hollow); a row per method.

    df   method, defence, explained ("fixed", then "re-predicted"), mean, low, high
    """
    methods, sides = list(dict.fromkeys(df["method"])), list(dict.fromkeys(df["defence"]))
    names = {"fixed": "class fixed", "re-predicted": "class predicted anew"}
    ax = one_panel(5.8, 0.62 * len(methods) + 1.5)

    def look(series):
        shade_of = colour(series[0], sides)
        return {"color": shade_of, "markerfacecolor": shade_of if series[1] == "fixed" else "white",
                "marker": "os"[sides.index(series[0]) % 2]}

    dots(ax, df, "method", methods, ["defence", "explained"], gap=0.17, look=look,
         names=lambda series: f"{said(series[0])}, {names[series[1]]}")
    _rules(ax)
    ax.grid(axis="y", visible=False)
    ax.set(xlim=(-0.02, 1.03), ylim=(len(methods) - 0.5, -0.5), xlabel=f"share of the clean top {k} that is kept")
    legend_below(ax.figure, ax)
    return ax.figure
