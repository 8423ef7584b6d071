"""Figures of notebook 05, sanity checks: does a map answer the question, and does it read what was learnt?"""

from matplotlib.lines import Line2D

from fvit.records.words import method_said
from fvit.report.style import dots, legend_below, lines, one_panel, panels_by


def plot_pointing(df):
    """How far each method points at the right digit, a row each in order of appearance, with the line of chance.

    df   method, group (a colour and marker each), mean, low, high
    """
    ax = one_panel(5.6, 0.32 * len(df) + 1.1)
    ax.axvline(0.5, color="0.3", linewidth=1, linestyle="--")
    ax.annotate("chance", (0.5, 1), xycoords=ax.get_xaxis_transform(), xytext=(0, 2), textcoords="offset points",
                ha="center", fontsize="small", color="0.3")
    dots(ax, df, "method", list(df["method"]), "group", gap=0, linewidth=1.2)
    ax.set_yticks(range(len(df)), df["method"].map(method_said))
    for y, value in enumerate(df["mean"]):
        ax.annotate(f"{value:.2f}", (1, y), xycoords=ax.get_yaxis_transform(), xytext=(4, 0), color="0.3",
                    textcoords="offset points", va="center", fontsize="small")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the digits' mass on the digit of the map's own class")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=3)
    return ax.figure


def plot_cascade(df, k, ncols=3):
    """Likeness to the trained map as layers lose what they learnt, a panel per method.

    df   method, metric (a colour and marker each), variant (the stages in order of appearance; "another scene" is a
         dotted level), mean, low, high
    """
    reference, said = "another scene", {"rank_correlation": "rank correlation", "topk_overlap": f"top-{k} overlap"}
    stages = [stage for stage in dict.fromkeys(df["variant"]) if stage != reference]
    fig, panels = panels_by(df, "method", 2.35, 2.1, ncols=ncols, extra=(0, 0.5), sharex=True)
    for ax, method, part in panels:
        ax.set_title(method_said(method))
        levels = part[part["variant"] == reference].set_index("metric")["mean"]
        steps = part[part["variant"] != reference]
        steps = steps.assign(place=steps["variant"].map(stages.index)).sort_values("place", kind="stable")
        for metric, _, colour in lines(ax, steps, "metric", "place", names=lambda metric: said.get(metric, metric)):
            ax.axhline(levels[metric], color=colour, linestyle=":", linewidth=1.2)
        ax.axhline(0, color="0.3", linewidth=0.8)
        ax.set_xticks(range(len(stages)), stages, rotation=60, ha="right", fontsize="small")
        if ax.get_subplotspec().is_first_col():
            ax.set(ylabel="likeness to trained map", ylim=(-0.7, 1.08))
    dotted = Line2D([], [], color="0.3", linestyle=":", label=f"dotted: {reference}, trained")
    legend_below(fig, panels[0][0], ncols=3, fontsize=None, also=[dotted])
    return fig
