"""Figures of notebook 08, does it rank pixels better."""

import matplotlib.pyplot as plt

from fvit.records.words import said
from fvit.report.style import DASHES, MARKERS, WIDEST, legend_below, lines, panels_by

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
              names=said)
        ax.set(ylim=(-0.03, 1.03), xticks=[0, 0.5, 1])
    legend_below(fig, panels[0][0], ncols=len(panels[0][0].lines))
    return fig


def plot_auc_by_radius(df, convention) -> plt.Figure:
    """Area under the curves against the attack radius: a column per method, a row per test.

    df           method, line (what the map is of, and which attack), explained ("fixed" is drawn solid, the other
                 dashed and hollow), kind ("positive" or "negative"), eps, mean, low, high; clean maps at eps 0
    convention   of the area, for the label
    """
    methods, names = list(dict.fromkeys(df["method"])), list(dict.fromkeys(df["line"]))
    place = df["line"].map(names.index) - 1
    df = df.assign(x=255 * df["eps"] + 0.12 * place * (df["eps"] > 0)).sort_values("eps", kind="stable")
    fig, panels = _grid(methods, 2.3, 4.9, "row", "attack radius, linf, in 1/255", f" AUC, {convention}", "small")
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]

    def look(series):
        i, solid = names.index(series[0]), series[1] == "fixed"
        return {"color": colours[i], "marker": MARKERS[i], "linestyle": "-" if solid else "--",
                "zorder": 3 if solid else 2, "markerfacecolor": colours[i] if solid else "white"}

    for ax, test, method in panels:
        part = df[(df["kind"] == test) & (df["method"] == method)]
        lines(ax, part, ["line", "explained"], "x", look=look, elinewidth=0.8,
              names=lambda series: series[0] + ", class re-predicted" * (series[1] != "fixed"))
        ax.set_xticks(sorted({round(255 * eps) for eps in df["eps"]}))
    drawn = {bars.get_label(): bars for ax, _, _ in panels for bars in ax.containers}
    drawn = sorted(drawn.values(), key=lambda bars: bars.get_label().endswith("re-predicted"))
    fig.legend(handles=drawn, loc="outside lower center", ncols=min(3, len(drawn)), frameon=False, fontsize="small")
    return fig


def plot_accuracy(df) -> plt.Figure:
    """Robust accuracy against the attack radius, a panel per kind of attack.

    df   threat ("transferred", "adaptive"), defence, eps, robust, low, high; clean accuracy at eps 0
    """
    fig, panels = panels_by(df.assign(mean=df["robust"], x=255 * df["eps"]), "threat", 3.5, 3.0,
                            ylabel="robust accuracy\n(right before and after)")
    for ax, _, part in panels:
        lines(ax, part.sort_values("eps", kind="stable"), "defence", "x", dashes=DASHES[0:2] + DASHES[3:4],
              markersize=5, linewidth=1.3, names=said, shift=lambda x, place: x + 0.12 * place)
        ax.set(xlabel="attack radius, 1/255 (linf)", ylim=(-0.03, 1.03),
               xticks=sorted({round(255 * eps) for eps in df["eps"]}))
    panels[0][0].legend(frameon=False, fontsize="small", loc="lower left")
    return fig
