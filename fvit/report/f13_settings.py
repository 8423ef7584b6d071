"""Figures of notebook 13: what sigma, draws and k buy, and how strong the attacks are."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from fvit.records.words import made_on_itself
from fvit.report.style import (
    COLOURS,
    NO_INFORMATION,
    SHADE,
    errors,
    legend_below,
    lines,
    one_panel,
    panels_by,
    shade,
    threat_look,
    ticks_at,
)
from fvit.theory.intervals import interval_table

MEASURES = {"fresh noise": "no attack, other noise", "transferred attack": "transferred attack", "adaptive attack":
            "adaptive attack"}
LOOKS = {measure: threat_look("dds", measure.removesuffix(" attack")) for measure in MEASURES}
READINGS = {"relative_mass": "mass, relative to clean", "topk_overlap": "overlap"}  # of an attack: metric -> its label
FIRST = {"color": COLOURS["dds"], "marker": "o", "linestyle": "-"}  # of two lines of DDS
SECOND = {"color": "0.45", "marker": "s", "linestyle": "-."}


def measures(rows) -> pd.Series:
    """What each of the rows of notebook 13 measures, in its words: one of MEASURES, "fidelity" or "accuracy"."""
    attacked = np.where(made_on_itself(rows), "adaptive attack", "transferred attack")
    found = pd.Series(attacked, rows.index).mask(rows["aim"] == "fresh_noise", "fresh noise")
    return found.mask(rows["metric"] == "fidelity", "fidelity").mask(rows["metric"] == "right", "accuracy")


def by_setting(rows, setting: str) -> pd.DataFrame:
    """Mean of each of `measures` at each value of a setting, with its interval over photographs.

    rows      tidy rows with a column photograph
    setting   the column that was turned: "sigma", "n_samples", "k" or "level"
    returns   DataFrame setting, measure, mean, low, high, n
    """
    return interval_table(rows.assign(measure=measures(rows)), by=[setting, "measure"], groups="photograph")


def by_effort(rows) -> pd.DataFrame:
    """Mean of each metric at each level of each setting of an attack, `variant`, and its interval over photographs."""
    return interval_table(rows, by=["variant", "level", "metric"], groups="photograph")


def _log_ticks(ax, values):
    ax.set_xscale("log")
    ticks_at(ax, values)


def plot_path(df, k) -> plt.Figure:
    """What sigma buys and costs: a path through (fidelity, stability), its points labelled by sigma.

    df   sigma, measure ("fidelity", those of MEASURES, "accuracy", which is written), mean, low, high; a row of measure
         NO_INFORMATION shades its level
    """
    ax = one_panel(5.4, 4.0)
    for level in df[df["measure"] == NO_INFORMATION].itertuples():
        shade(ax, level.low, level.high, along="y", named=True)
    at = {measure: part.sort_values("sigma").set_index("sigma") for measure, part in df.groupby("measure")}
    x = at["fidelity"]
    for measure, name in MEASURES.items():
        if measure in at:
            y = at[measure]
            ax.errorbar(x["mean"], y["mean"], xerr=errors(x) if measure == "adaptive attack" else None, yerr=errors(y),
                        label=name, elinewidth=0.8, linewidth=1.5, markersize=6, **LOOKS[measure])
    ax.set(ylim=(0, 1.03), xlabel=f"fidelity: share of bare attention's top {k} in the clean map of DDS",
           ylabel=f"stability: share of the clean top {k} kept")
    ax.margins(x=0.14)
    points, right = x["mean"].sort_values(), at["accuracy"]["mean"] if "accuracy" in at else {}
    gap = np.diff(ax.get_xlim())[0] * 0.17  # labels stand in a row at the foot, moved apart
    steps = gap * np.arange(len(points))
    places = steps + np.maximum.accumulate(points - steps)
    places -= max(0, places.iloc[-1] + gap / 2 - ax.get_xlim()[1])
    for sigma, place in places.items():
        text = f"sigma {sigma:g}" + (f"\nright {right[sigma]:.2f}" if sigma in right else "")
        ax.annotate(text, (points[sigma], at["adaptive attack"]["mean"][sigma]), xytext=(place, 0.03), ha="center",
                    fontsize="small", arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.7})
    legend_below(ax.figure, ax, ncols=3)
    return ax.figure


def plot_ablation(df, x, xlabel, ylabel) -> plt.Figure:
    """Overlap against one setting, a line for each of MEASURES.

    df   the column named by x, measure, mean, low, high; a column seconds (of an image) is a second axis above; a row
         of measure NO_INFORMATION shades its level, several of them what it is at each x
    """
    ax = one_panel(4.8, 3.4)
    levels = df[df["measure"] == NO_INFORMATION]
    if len(levels) > 1:
        ax.fill_between(levels[x], levels["low"], levels["high"], color=SHADE, linewidth=0, label=NO_INFORMATION)
    for level in levels.itertuples() if len(levels) == 1 else ():
        shade(ax, level.low, level.high, along="y", named=True)
    df = df[df["measure"].isin(MEASURES)]
    lines(ax, df, "measure", x, shift=lambda values, place: values * 1.02**place, look=LOOKS.get, names=MEASURES.get)
    _log_ticks(ax, df[x])
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.03))
    if "seconds" in df:
        seconds = df.groupby(x)["seconds"].first()
        above = ax.secondary_xaxis("top")
        above.set_xticks(seconds.index, [f"{value:.2g}" for value in seconds], fontsize="small")
        above.minorticks_off()
        above.set_xlabel("seconds of an image", fontsize="small")
    legend_below(ax.figure, ax)
    return ax.figure


def plot_attack_strength(df, k) -> plt.Figure:
    """Attention mass and overlap left by attacks of more and more steps, draws and restarts, a panel each.

    df   variant ("steps", "draws", "restarts"), level (its setting), metric, mean, low, high
    """
    fig, panels = panels_by(df, "variant", 2.4, 2.9, ylabel=f"kept of the clean top-{k}")
    for ax, knob, part in panels:
        lines(ax, part, "metric", "level", names=READINGS.get,
              look=lambda metric: FIRST if metric == "topk_overlap" else SECOND,
              shift=lambda values, place: values * 1.02**place)  # so that no bar hides another
        _log_ticks(ax, part["level"])
        ax.set(xlabel=f"{knob} of the attack", ylim=(0, 1.03), title="")
    legend_below(fig, panels[0][0])
    return fig


def plot_plateau(df, k) -> plt.Figure:
    """Overlap left by attacks of more and more steps, draws and restarts, a panel each, a line for each rule of the
    steps. Shaded: the interval of the attack as it is, which a doubling at the plateau does not leave.

    df   of `convergence.plateau_table`
    """
    fig, panels = panels_by(df, "knob", 2.4, 2.9, ylabel=f"top-{k} overlap")
    for ax, knob, part in panels:
        lines(ax, part, "rule", "level", names=lambda rule: f"steps by the rule: {rule}",
              look=lambda rule: SECOND if rule == "apgd" else FIRST, shift=lambda values, place: values * 1.06**place)
        for row in part[part["level"] == part["base"]].head(1).itertuples():
            ax.axhspan(row.low, row.high, color=COLOURS["dds"], alpha=0.15, zorder=0, linewidth=0,
                       label="interval of the attack as it is")
        _log_ticks(ax, sorted(set(part["level"])))
        ax.set(xlabel=f"{knob} of the attack", ylim=(0, 1.03), title="")
    legend_below(fig, panels[0][0])
    return fig
