"""Figures of notebook 10, does it rank pixels better."""

import matplotlib.pyplot as plt
import pandas as pd

from fvit.records.words import said
from fvit.report.style import (
    WIDEST,
    colour,
    dots,
    label_ends,
    legend_below,
    lines,
    one_panel,
    panels_by,
    threat_look,
)

BETTER = {"positive": "lower is better", "negative": "higher is better"}  # the two tests, by their kind


def _grid(methods, width, height, sharey, xlabel, ylabel, fontsize=None):
    """Figure, and (axes, test, method) of each panel: a column per method, a row per test, which `ylabel` names."""
    fig, axes = plt.subplots(2, len(methods), figsize=(min(width * len(methods) + 0.4, WIDEST), height), sharex=True,
                             sharey=sharey, squeeze=False, layout="constrained")
    for ax, method in zip(axes[0], methods, strict=True):
        ax.set_title(method)
    for ax, test in zip(axes[:, 0], BETTER, strict=True):
        ax.set_ylabel(f"{test}{ylabel}\n({BETTER[test]})", fontsize=fontsize)
    for ax in axes[1]:
        ax.set_xlabel(xlabel, fontsize="small")
    return fig, [(ax, test, method) for row, test in zip(axes, BETTER, strict=True)
                 for ax, method in zip(row, methods, strict=True)]


def plot_clean_curves(df, controls) -> plt.Figure:
    """Share still right against the share of pixels removed: a column per method, a row per test.

    df         method, defence, kind (the test: "positive" or "negative"), removed (0 ... 1), mean, low, high
    controls   values of `method` that are drawn in grey in every panel, without intervals
    """
    methods = [m for m in dict.fromkeys(df["method"]) if m not in controls]
    fig, panels = _grid(methods, 2.1, 4.6, True, "share of pixels removed", ": share still right")
    for ax, test, method in panels:
        rows = df[df["kind"] == test]
        grey = rows[rows["method"].isin(controls)].sort_values("method", key=lambda c: c.map(list(controls).index))
        lines(ax, grey, "method", "removed", intervals="", colours=["0.45"], markers=None, dashes=("-", "--", ":"),
              linewidth=1.1, names=lambda name: name.replace("_", " "))
        lines(ax, rows[rows["method"] == method], "defence", "removed", intervals="band", markersize=3, linewidth=1.3,
              names=said, look=lambda defence: {"color": colour(defence, df["defence"])})
        ax.set(ylim=(-0.03, 1.03), xticks=[0, 0.5, 1])
    legend_below(fig, panels[0][0], ncols=len(panels[0][0].lines))
    return fig


def plot_area_gain(df) -> plt.Figure:
    """What DDS adds to the area under the perturbation curves, in its better direction: a row per test and method.

    df   kind ("positive" or "negative"), method, condition ("clean", "transferred", "adaptive"), difference, low, high
         (DDS minus bare, image by image), n
    """
    sign = df["kind"].map({"negative": 1, "positive": -1})
    names = df["method"].map(lambda name: name.replace("_", " "))
    gain = pd.DataFrame({"row": df["kind"] + " test: " + names, "condition":
                         df["condition"], "defence": "dds", "mean": sign * df["difference"],
                         "low": df["low"].where(sign > 0, -df["high"]), "high": df["high"].where(sign > 0, -df["low"])})
    order = [row for kind in BETTER for row in dict.fromkeys(gain["row"]) if row.startswith(kind)][::-1]
    order = sorted(order, key=lambda row: not row.startswith("negative"))
    ax = one_panel(6.4, 0.42 * len(order) + 1.5)
    ax.axvline(0, color="0.2", linewidth=1.2)
    looks = {met: threat_look("dds", met) | {"linestyle": ""} for met in MET}
    dots(ax, gain, "row", order, "condition", gap=0.2, names=MET.get, look=looks.get)
    ax.axhline(sum(row.startswith("negative") for row in order) - 0.5, color="0.6", linewidth=0.8)
    ax.grid(axis="y", visible=False)
    ax.set(ylim=(len(order) - 0.5, -0.5),
           xlabel="what DDS gains over bare, in area under the curve, paired")
    ax.annotate("DDS ranks worse", (0, 1), xycoords=("data", "axes fraction"), xytext=(-6, 4), ha="right",
                textcoords="offset points", fontsize="small", color="0.35")
    ax.annotate("DDS ranks better", (0, 1), xycoords=("data", "axes fraction"), xytext=(6, 4),
                textcoords="offset points", fontsize="small", color="0.35")
    legend_below(ax.figure, ax, ncols=3)
    return ax.figure


MET = {"clean": "no attack", "transferred": "the attack on bare, for both", "adaptive": "for DDS one made through it"}


def plot_accuracy(df) -> plt.Figure:
    """Robust accuracy against the attack radius, a panel per kind of attack; only of images met at every radius.

    df   threat ("transferred", "adaptive"), defence, eps, robust, low, high; clean accuracy at eps 0
    """
    fig, panels = panels_by(df.assign(mean=df["robust"], x=255 * df["eps"]), "threat", 3.7, 3.0, extra=(0.8, 0),
                            ylabel="right before and after")
    for ax, threat, part in panels:
        looks = {defence: threat_look(defence, threat, df["defence"]) for defence in part["defence"]}
        ends = lines(ax, part.sort_values("eps", kind="stable"), "defence", "x", markersize=5, linewidth=1.5,
                     shift=lambda x, place: x + 0.12 * place, look=looks.get)
        ax.set(xlabel="attack radius, 1/255 (linf)", ylim=(-0.03, 1.03), title=f"{threat} attack",
               xticks=sorted({round(255 * eps) for eps in df["eps"]}))
        label_ends(ax, ends, said)
    return fig
