"""Figures of notebook 12, what each part of DDS buys."""

import matplotlib.pyplot as plt

from fvit.records.words import said
from fvit.report import panels
from fvit.report.style import (
    NO_INFORMATION,
    THREATS,
    WIDEST,
    dots,
    dumbbell_key,
    dumbbells,
    legend_below,
    one_panel,
    panels_by,
    shade,
    threat,
)


def plot_defences(df, k, order=None):
    """What each defence keeps of its top-k, from the transferred to the adaptive attack, a row each.

    df      defence, condition, mean, low, high as of `style.dumbbells`; condition "fidelity" is printed beside the row
    order   codes of the defences from the top, by default those of df
    """
    ax = one_panel(5.6, 0.5 * df["defence"].nunique() + 1.4)
    _defences(ax, df, k, order)
    legend_below(ax.figure, ax, ncols=1, handles=dumbbell_key(df))
    return ax.figure


def _defences(ax, df, k, order=None):
    """The rows of `plot_defences` in `ax`."""
    order = list(order or dict.fromkeys(df.loc[df["condition"] != NO_INFORMATION, "defence"]))
    shown = df[df["defence"].isin(order)].sort_values("defence", key=lambda d: d.map(order.index), kind="stable")
    for level in df[df["condition"] == NO_INFORMATION].itertuples():
        shade(ax, level.low, level.high)
    twice = (shown["defence"] == "none") & (shown["condition"].map(threat) == "transferred")  # its own, too
    dumbbells(ax, shown[~twice], "defence", names=said, apart=0.26)
    for row in shown[~twice].itertuples():
        if (met := threat(row.condition)) in BESIDE:
            ax.annotate(f"{row.mean:.2f}", (row.mean, order.index(row.defence) + BESIDE[met]), ha="center", va="center",
                        fontsize="small", color="0.25")
    fidelity = shown[shown["condition"] == "fidelity"].set_index("defence")["mean"]
    for place, defence in enumerate(order):
        if defence in fidelity:
            ax.annotate(f"{fidelity[defence]:.2f}", (1, place), xycoords=ax.get_yaxis_transform(), xytext=(6, 0),
                        textcoords="offset points", va="center", fontsize="small")
    if len(fidelity):
        ax.annotate("like bare,\nno attack", (1, 1), xycoords="axes fraction", xytext=(0, 3),
                    textcoords="offset points", fontsize="small", va="bottom")
    ax.set(xlim=(0, 1.02), xlabel=f"share of the clean top {k} that is kept")


BESIDE = {"transferred": -0.36, "adaptive": 0.38}  # where their means are written, above and below a dumbbell


def plot_headline(df, k):
    """Left: one image under three attacks, its maps over it; right: `plot_defences`.

    df   rows of panels.encode, panels OVERLAYS and the images they lie on; then rows of `plot_defences`
    """
    pictures, table = panels.decode(df[df["panel"].notna()]), df[df["panel"].isna()]
    fig = plt.figure(figsize=(WIDEST, max(4.3, 0.5 * table["defence"].nunique() + 1.3)), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(3.7, 5.4))
    kept = table.assign(condition=table["condition"].map(threat)).pivot_table(
        index="defence", columns="condition", values="mean")
    fig.suptitle(f"Under attack the bare ViT keeps {kept.loc['none', 'adaptive']:.2f} of its top {k} tokens; DDS keeps "
                 f"{kept.loc['dds', 'transferred']:.2f}, and {kept.loc['dds', 'adaptive']:.2f} where the attack knows "
                 "DDS", fontsize="medium")
    scale = panels.shared_scale([pictures[name] for name in OVERLAYS])
    for ax, (name, (on, against, title)) in zip(left.subplots(2, 2).flat, OVERLAYS.items(), strict=True):
        panels.draw_panel(ax, pictures[name], scale, pictures[on])
        kept = panels.outline(ax, pictures[name], pictures[against], k)
        ax.set_title(title.format(k=k) + (f"\nkeeps {kept:.2f}" if name != against else ""), fontsize="small")
    left.legend(handles=panels.outline_key(k), loc="outside lower center", ncols=3, frameon=False, fontsize="small",
                columnspacing=1, handlelength=2.2)
    _defences(right.subplots(), table, k)
    key = dumbbell_key(table, no_information="no information (unrelated images)")
    right.legend(handles=key, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return fig


OVERLAYS = {  # panel of a map -> panel of its image, panel of the map it is held against, title
    "bare, clean": ("clean image", "bare, clean", "clean:\nthe top {k} tokens"),
    "bare, attacked": ("attacked image", "bare, clean", "attacked, bare"),
    "dds, transferred": ("attacked image", "dds, clean", "the same image, DDS"),
    "dds, adaptive": ("image attacked through DDS", "dds, clean", "attacked through DDS")}


def plot_parts(df) -> plt.Figure:
    """What each part of a defence buys, with it minus without it, about a zero line: for the map, and for predictions.

    df   of `contrasts.what_buys`: question, with, without, measure, threat, difference, low, high; what is bought
         without an attack is left out
    """
    df = df[df["threat"] != "none"].assign(
        mean=df["difference"], row=df["question"] + "\n" + df["with"].map(said) + " minus " + df["without"].map(said))
    order = list(dict.fromkeys(df["row"]))
    fig, axes = panels_by(df, "measure", 3.1, 0.46 * len(order) + 1.5, extra=(2.9, 0), sharex=True)
    looks = {met: {"color": "0.25", "marker": "o", "markerfacecolor": THREATS[met][1] or "0.25", "linestyle": ""}
             for met in df["threat"]}  # of two defences, hence of neither's colour
    for ax, measure, part in axes:
        ax.axvline(0, color="0.2", linewidth=1.2)
        dots(ax, part, "row", order, "threat", gap=0.26, look=looks.get)
        ax.set_title(SHARES[measure], fontsize="medium", pad=20)
        ax.set(ylim=(len(order) - 0.5, -0.5), xlabel="with it minus without it, paired")
        ax.tick_params(axis="y", labelsize="small")
        ax.grid(axis="y", visible=False)
        for text, side, place in (("keeps less", "right", -6), ("keeps more", "left", 6)):
            ax.annotate(text, (0, 1), xycoords=("data", "axes fraction"), xytext=(place, 4), ha=side,
                        textcoords="offset points", fontsize="small", color="0.35")
    legend_below(fig, axes[0][0], handles=dumbbell_key(df.assign(condition=df["threat"])))
    return fig


SHARES = {"map": "the map: share of its top tokens kept", "prediction": "the prediction: right before and after"}
