"""Figures of the notebooks on explanation methods: one function per figure, (df, ...) -> Figure, from tables only."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from fvit.report.style import MARKERS, WIDEST, _axes, _errors, _points


# Notebook 06: which explanation? -----------------------------------------------------------------------------------
def plot_pointing(df, ax=None):
    """How far each method points at the right digit, a row each in order of appearance, with the line of chance.

    df   method, group (a colour and marker each), mean, low, high
    """
    methods = list(dict.fromkeys(df["method"]))
    ax = _axes(ax, (5.6, 0.32 * len(methods) + 1.1))
    ax.axvline(0.5, color="0.3", linewidth=1, linestyle="--")
    ax.annotate("chance", (0.5, 1), xycoords=ax.get_xaxis_transform(), xytext=(0, 2), textcoords="offset points",
                ha="center", fontsize="small", color="0.3")
    groups = df.groupby("group", sort=False)
    for (group, part), marker, colour in zip(groups, MARKERS, sns.color_palette(), strict=False):
        y = [methods.index(method) for method in part["method"]]
        ax.errorbar(part["mean"], y, xerr=_errors(part), fmt=marker, color=colour, markersize=5, capsize=2,
                    linewidth=1.2, label=group)
        for value, at in zip(part["mean"], y, strict=True):
            ax.annotate(f"{value:.2f}", (1, at), xycoords=ax.get_yaxis_transform(), xytext=(4, 0),
                        textcoords="offset points", va="center", fontsize="small", color=colour)
    ax.set_yticks(range(len(methods)), methods)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the digits' mass on the digit of the map's own class")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=3)
    return ax.figure


def plot_cascade(df, ncols=4):
    """Likeness to the trained map as layers lose what they learnt, a panel per method.

    df   method, metric (a colour and marker each), stage (in order of appearance; "another scene" is a dotted level),
         mean, low, high
    """
    methods, reference = list(dict.fromkeys(df["method"])), "another scene"
    stages = [stage for stage in dict.fromkeys(df["stage"]) if stage != reference]
    nrows = -(-len(methods) // ncols)
    size = (min(2.35 * ncols, WIDEST), 2.1 * nrows + 0.5)
    fig, axes = plt.subplots(nrows, ncols, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
    for ax, method in zip(axes.flat, methods, strict=False):
        metrics = df[df["method"] == method].groupby("metric", sort=False)
        for (metric, part), marker, colour in zip(metrics, MARKERS, sns.color_palette(), strict=False):
            part = part.set_index("stage")
            ax.axhline(part.loc[reference, "mean"], color=colour, linestyle=":", linewidth=1.2)
            _points(ax, part.loc[stages], np.arange(len(stages)), marker=marker, color=colour, markersize=4,
                    label=metric)
        ax.axhline(0, color="0.3", linewidth=0.8)
        ax.set_title(method)
        ax.set_xticks(range(len(stages)), stages, rotation=60, ha="right", fontsize="small")
    for ax in list(axes.flat)[len(methods) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set(ylabel="likeness to trained map", ylim=(-0.7, 1.08))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    handles += [plt.Line2D([], [], color="0.3", linestyle=":")]
    fig.legend(handles, [*labels, f"dotted: {reference}, trained"], loc="outside lower center", ncols=3, frameon=False)
    return fig
