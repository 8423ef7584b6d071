"""Figures of notebook 08, does it rank pixels better: one function each, (df) -> Figure."""

import matplotlib.pyplot as plt
import seaborn as sns

from fvit.report.style import MARKERS, WIDEST, _errors

KINDS = ("positive", "negative")
BETTER = {"positive": "lower is better", "negative": "higher is better"}


def plot_clean_curves(df, controls) -> plt.Figure:
    """Share still right against the share of pixels removed: a column per method, a row per kind.

    df         method, smoothing, kind, removed (0 ... 1), mean, low, high
    controls   names of methods that are drawn in grey in every panel, without intervals
    """
    methods = [m for m in dict.fromkeys(df["method"]) if m not in controls]
    fig, axes = plt.subplots(2, len(methods), figsize=(min(2.1 * len(methods) + 0.4, WIDEST), 4.6), sharex=True,
                             sharey=True, squeeze=False, layout="constrained")
    for row, kind in zip(axes, KINDS, strict=True):
        for ax, method in zip(row, methods, strict=True):
            for control, style in zip(controls, ("-", "--", ":"), strict=False):
                part = df[(df["method"] == control) & (df["kind"] == kind)]
                ax.plot(part["removed"], part["mean"], style, color="0.45", linewidth=1.1, label=control)
            lines = df[(df["method"] == method) & (df["kind"] == kind)].groupby("smoothing", sort=False)
            for (smoothing, part), marker, colour in zip(lines, MARKERS, sns.color_palette(), strict=False):
                ax.plot(part["removed"], part["mean"], marker=marker, markersize=3, linewidth=1.3, color=colour,
                        label=smoothing)
                ax.fill_between(part["removed"], part["low"], part["high"], color=colour, alpha=0.18, linewidth=0)
            ax.set(ylim=(-0.03, 1.03), title=method if kind == KINDS[0] else None, xticks=[0, 0.5, 1])
            ax.set_xlabel("share of pixels removed" if kind == KINDS[1] else None, fontsize="small")
        row[0].set_ylabel(f"{kind}: share still right\n({BETTER[kind]})")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
    return fig


def plot_auc_by_radius(df, convention) -> plt.Figure:
    """Area under the curves against the attack radius: a column per method, a row per kind.

    df           method, line (what the map is of, and which attack), explained ("fixed" is drawn solid, the other
                 dashed and hollow), kind, eps, mean, low, high; clean maps at eps 0
    convention   of the area, for the label
    """
    methods, lines = list(dict.fromkeys(df["method"])), list(dict.fromkeys(df["line"]))
    fig, axes = plt.subplots(2, len(methods), figsize=(min(2.3 * len(methods) + 0.4, WIDEST), 4.9), sharex=True,
                             sharey="row", squeeze=False, layout="constrained")
    shown = {}
    for row, kind in zip(axes, KINDS, strict=True):
        for ax, method in zip(row, methods, strict=True):
            for i, (line, marker, colour) in enumerate(zip(lines, MARKERS, sns.color_palette(), strict=False)):
                for explained in dict.fromkeys(df["explained"]):
                    where = (df["method"] == method) & (df["line"] == line) & (df["kind"] == kind)
                    part = df[where & (df["explained"] == explained)].sort_values("eps")
                    if part.empty:
                        continue
                    solid = explained == "fixed"
                    x = 255 * part["eps"] + 0.12 * (i - 1) * (part["eps"] > 0)  # bars beside each other
                    points = ax.errorbar(x, part["mean"], yerr=_errors(part), color=colour, marker=marker, capsize=2,
                                         markersize=4, linewidth=1.2, elinewidth=0.8, linestyle="-" if solid else "--",
                                         zorder=3 if solid else 2,
                                         markerfacecolor=colour if solid else "white")
                    shown.setdefault(line if solid else f"{line}, class re-predicted", points)
            if kind == KINDS[0]:
                ax.set_title(method)
            else:
                ax.set_xlabel("attack radius, linf, in 1/255", fontsize="small")
                ax.set_xticks(sorted({round(255 * eps) for eps in df["eps"]}))
        row[0].set_ylabel(f"{kind} AUC, {convention}\n({BETTER[kind]})", fontsize="small")
    names = sorted(shown, key=lambda name: (name.endswith("re-predicted"), list(shown).index(name)))
    fig.legend([shown[name] for name in names], names, loc="outside lower center", ncols=min(3, len(names)),
               frameon=False, fontsize="small")
    return fig


def plot_accuracy(df) -> plt.Figure:
    """Robust accuracy against the attack radius, a panel per kind of attack.

    df   panel ("transferred", "adaptive"), smoothing, eps, robust, low, high; clean accuracy at eps 0
    """
    panels, models = list(dict.fromkeys(df["panel"])), list(dict.fromkeys(df["smoothing"]))
    fig, axes = plt.subplots(1, len(panels), figsize=(3.5 * len(panels), 3.0), sharey=True, squeeze=False,
                             layout="constrained")
    for ax, panel in zip(axes[0], panels, strict=True):
        for i, (model, marker, colour) in enumerate(zip(models, MARKERS, sns.color_palette(), strict=False)):
            part = df[(df["panel"] == panel) & (df["smoothing"] == model)].sort_values("eps")
            x = 255 * part["eps"] + 0.12 * (i - 1)
            ax.errorbar(x, part["robust"], yerr=_errors(part.rename(columns={"robust": "mean"})), marker=marker,
                        color=colour, markersize=5, capsize=2, linewidth=1.3, linestyle=("-", "--", ":")[i % 3],
                        label=model)
        ax.set(xlabel="attack radius, 1/255 (linf)", title=panel, ylim=(-0.03, 1.03),
               xticks=sorted({round(255 * eps) for eps in df["eps"]}))
    axes[0, 0].set_ylabel("robust accuracy\n(right before and after)")
    axes[0, 0].legend(frameon=False, fontsize="small", loc="lower left")
    return fig
