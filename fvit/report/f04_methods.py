"""Figures of notebook 04, which explanation."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from fvit.report.panels import decode, draw_panel, shared_scale
from fvit.report.style import WIDEST, dots, legend_below, lines, one_panel, panels_by


def plot_both_classes(df, titles, label="share of the map") -> plt.Figure:
    """The two maps of every method over the scene, and their difference, three panels a method, two methods a row.

    df       rows of `panels.encode`: "scene"; masks "mask 0", "mask 1" of the digits; "METHOD 0", "METHOD 1"
    titles   {panel: its title}; that of a METHOD stands above the difference, in red where the first map is greater
    """
    pictures = decode(df)
    methods = [name[:-2] for name in pictures if name.endswith(" 0") and name != "mask 0"]
    masks, nrows = [pictures["mask 0"], pictures["mask 1"]], -(-len(methods) // 2)
    fig = plt.figure(figsize=(WIDEST, 1.68 * nrows + 0.4), layout="constrained")
    blocks = fig.subfigures(nrows, 2, squeeze=False, wspace=0.04)
    for block in list(blocks.flat)[len(methods):]:
        block.set_visible(False)
    for block, method in zip(blocks.flat, methods, strict=False):
        maps = [pictures[f"{method} {i}"] for i in (0, 1)]
        of_both = shared_scale(maps)
        signed = ScalarMappable(Normalize(-of_both.norm.vmax, of_both.norm.vmax), "coolwarm")
        for i, (ax, heat) in enumerate(zip(block.subplots(1, 3), (*maps, maps[0] - maps[1]), strict=True)):
            draw_panel(ax, heat, signed if i == 2 else of_both, pictures["scene"])
            for digit, mask in enumerate(masks):
                rows, columns = ((np.arange(n) + 0.5) / n for n in mask.shape)
                asked = digit == i or (i == 2 and digit == 0)
                ax.contour(columns, 1 - rows, mask, [0.5], colors=["black"], linewidths=[1.2 if asked else 0.8],
                           linestyles=["solid" if asked else (0, (2, 1.5))])
            ax.set_title(titles[f"{method} {i}" if i < 2 else method], fontsize="small")
    return fig


def plot_pointing(df):
    """How far each method points at the right digit, a row each in order of appearance, with the line of chance.

    df   method, group (a colour and marker each), mean, low, high
    """
    ax = one_panel(5.6, 0.32 * len(df) + 1.1)
    ax.axvline(0.5, color="0.3", linewidth=1, linestyle="--")
    ax.annotate("chance", (0.5, 1), xycoords=ax.get_xaxis_transform(), xytext=(0, 2), textcoords="offset points",
                ha="center", fontsize="small", color="0.3")
    dots(ax, df, "method", list(df["method"]), "group", gap=0, linewidth=1.2)
    for y, value in enumerate(df["mean"]):
        ax.annotate(f"{value:.2f}", (1, y), xycoords=ax.get_yaxis_transform(), xytext=(4, 0), color="0.3",
                    textcoords="offset points", va="center", fontsize="small")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the digits' mass on the digit of the map's own class")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=3)
    return ax.figure


def plot_cascade(df, k, ncols=4):
    """Likeness to the trained map as layers lose what they learnt, a panel per method.

    df   method, metric (a colour and marker each), variant (the stages in order of appearance; "another scene" is a
         dotted level), mean, low, high
    """
    reference, said = "another scene", {"rank_correlation": "rank correlation", "topk_overlap": f"top-{k} overlap"}
    stages = [stage for stage in dict.fromkeys(df["variant"]) if stage != reference]
    fig, panels = panels_by(df, "method", 2.35, 2.1, ncols=ncols, extra=(0, 0.5), sharex=True)
    for ax, _, part in panels:
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
