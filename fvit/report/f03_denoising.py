"""Figures of notebook 03, denoising and what it buys."""

import matplotlib.pyplot as plt

from fvit.records.words import said
from fvit.report import panels
from fvit.report.style import (
    COLOURS,
    NO_INFORMATION,
    WIDEST,
    colour,
    dumbbell_key,
    dumbbells,
    label_ends,
    legend_below,
    lines,
    one_panel,
    shade,
    threat,
    ticks_at,
)


def plot_psnr(df):
    """Left: PSNR against the noise width, before and after one call. Right: what more calls change in it.

    df   image, sigma, mean, low, high, minus: "" for the PSNR, "one shot" for its difference to that of one call
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.0), layout="constrained")
    looks = {"noisy": {"color": "0.45", "linestyle": ":"}, "one shot": {"color": COLOURS["denoise_only"]}}
    ends = lines(left, df[df["minus"] == ""], "image", "sigma", look=lambda image: looks.get(image, {}))
    label_ends(left, ends)
    right.axhline(0, color=COLOURS["denoise_only"], linewidth=1.4)
    right.annotate("one shot", (0.02, 0), xycoords=right.get_yaxis_transform(), xytext=(0, 3),
                   textcoords="offset points", fontsize="small", color=COLOURS["denoise_only"])
    ends = lines(right, df[df["minus"] != ""], "image", "sigma", colours=["0.25", "#5e3c99"], markers="s^",
                 dashes=["--", "-"], shift=lambda x, place: x * 1.05 ** (2 * place))
    label_ends(right, ends)
    for ax, label in ((left, "PSNR to the clean image (dB)"), (right, "PSNR minus that of one shot (dB)")):
        ax.set(xscale="log", xlabel="noise std sigma, [0, 1] units", ylabel=label)
        ticks_at(ax, df["sigma"], ".2g")
    return fig


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
    for tick, defence in zip(ax.get_yticklabels(), order, strict=True):
        tick.set_color(colour(defence, order))
    fidelity = shown[shown["condition"] == "fidelity"].set_index("defence")["mean"]
    for place, defence in enumerate(order):
        if defence in fidelity:
            ax.annotate(f"{fidelity[defence]:.2f}", (1, place), xycoords=ax.get_yaxis_transform(), xytext=(6, 0),
                        textcoords="offset points", va="center", fontsize="small")
    if len(fidelity):
        ax.annotate("like bare,\nno attack", (1, 1), xycoords="axes fraction", xytext=(0, 3),
                    textcoords="offset points", fontsize="small", va="bottom")
    ax.set(xlim=(0, 1.02), xlabel=f"share of the clean top {k} that is kept")


def plot_headline(df, k):
    """Left: one image under three attacks, its maps over it; right: `plot_defences`.

    df   rows of panels.encode, panels OVERLAYS and the images they lie on; then rows of `plot_defences`
    """
    pictures, table = panels.decode(df[df["panel"].notna()]), df[df["panel"].isna()]
    fig = plt.figure(figsize=(WIDEST, 4.3), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(3.7, 5.4))
    kept = table.assign(condition=table["condition"].map(threat)).pivot_table(
        index="defence", columns="condition", values="mean")
    fig.suptitle(f"Under attack the bare ViT keeps {kept.loc['none', 'adaptive']:.0%} of its top {k} tokens; DDS keeps "
                 f"{kept.loc['dds', 'transferred']:.0%}, and {kept.loc['dds', 'adaptive']:.0%} where the attack knows "
                 "DDS", fontsize="medium")
    scale = panels.shared_scale([pictures[name] for name in OVERLAYS])
    for ax, (name, (on, against, title)) in zip(left.subplots(2, 2).flat, OVERLAYS.items(), strict=True):
        panels.draw_panel(ax, pictures[name], scale, pictures[on])
        kept = panels.outline(ax, pictures[name], pictures[against], k)
        ax.set_title(title.format(k=k) + (f"\nkeeps {kept:.2f}" if name != against else ""), fontsize="small")
    left.legend(handles=panels.outline_key(k), loc="outside lower center", ncols=3, frameon=False, fontsize="small",
                columnspacing=1, handlelength=2.2)
    _defences(right.subplots(), table, k)
    right.legend(handles=dumbbell_key(table), loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return fig


OVERLAYS = {  # panel of a map -> panel of its image, panel of the map it is held against, title
    "bare, clean": ("clean image", "bare, clean", "clean:\nthe top {k} tokens"),
    "bare, attacked": ("attacked image", "bare, clean", "attacked, bare"),
    "dds, transferred": ("attacked image", "dds, clean", "the same image, DDS"),
    "dds, adaptive": ("image attacked through DDS", "dds, clean", "attacked through DDS")}
