"""Figures of notebook 11, do predictions hold."""

import matplotlib.pyplot as plt
import numpy as np

from fvit.records.words import method_said, said
from fvit.report.style import label_ends, legend_below, lines, panels_by, threat_look


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


def plot_holm(df) -> plt.Figure:
    """P-values of a family in their order, and the line under which they stand after Holm: a panel per family.

    df   threat ("transferred", "adaptive"), method, kind ("positive", "negative"), eps, p in [0, 1], stands (bool)
    """
    fig, panels = panels_by(df, "threat", 3.9, 3.4, extra=(0.6, 0.4), ylabel="p-value of DDS minus bare")
    least = max(df["p"].min(), 1e-12)
    for ax, threat, part in panels:
        part = part.sort_values("p", kind="stable").assign(p=part["p"].clip(lower=least))
        part["place"] = np.arange(1, len(part) + 1)
        for stands, face, words in ((True, "0.15", "stands"), (False, "white", "does not stand")):
            own = part[part["stands"] == stands]
            ax.plot(own["place"], own["p"], "o", color="0.15", markerfacecolor=face, label=words)
        ax.plot(part["place"], 0.05 / part["place"].to_numpy()[::-1], color="#d55e00", label="Holm's line")
        ax.plot(part["place"], np.full(len(part), 0.05), ":", color="0.4", label="0.05, for a test alone")
        for row in part[part["stands"]].itertuples():
            met = "clean" if row.eps == 0 else "attacked"
            ax.annotate(f"{method_said(row.method)}, {row.kind} test, {met}", (row.place, row.p), xytext=(7, 0),
                        textcoords="offset points", fontsize="small", va="center")
        ax.set(yscale="log", title=f"{threat} attack", xlim=(0, len(part) + 1),
               xlabel="place of the p-value, from the least", xticks=[1, *range(5, len(part) + 1, 5)])
    legend_below(fig, panels[0][0], ncols=4)
    return fig
