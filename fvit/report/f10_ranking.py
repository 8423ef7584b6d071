"""Figures of notebook 10, does it rank pixels better."""

import matplotlib.pyplot as plt
import pandas as pd

from fvit.records.words import method_said, said
from fvit.report.panels import decode, draw_panel, shared_scale
from fvit.report.style import (
    WIDEST,
    colour,
    dots,
    legend_below,
    lines,
    one_panel,
    threat_look,
)

BETTER = {"positive": "lower is better", "negative": "higher is better"}  # the two tests, by their kind
FIRST = {"positive": "greatest", "negative": "least"}  # values, which go first
MET = {"clean": "no attack", "transferred": "the attack on bare, for both", "adaptive": "for DDS one made through it"}


def plot_test(df) -> plt.Figure:
    """One image as its pixels go in the order of a map: a row per test; where the ViT errs, a dashed frame.

    df   rows of `panels.encode`; the panels "image" and "map", then those of images with columns test ("positive",
         "negative"), removed (share, in (0, 1)), says (text), probability, right (bool)
    """
    pictures, left = decode(df), df.dropna(subset="test").drop_duplicates("panel")
    n_shares = left.groupby("test").size().max()
    fig, axes = plt.subplots(2, 1 + n_shares, figsize=(min(1.72 * (1 + n_shares), WIDEST), 4.3), layout="constrained")
    scale = shared_scale([pictures["map"]])
    draw_panel(axes[0, 0], pictures["image"], None)
    draw_panel(axes[1, 0], pictures["map"], scale, pictures["image"])
    axes[0, 0].set_title("the image", fontsize="small")
    axes[1, 0].set_title("its map", fontsize="small")
    bar = fig.colorbar(scale, cax=axes[1, 0].inset_axes([0.05, -0.1, 0.9, 0.05]), orientation="horizontal")
    bar.set_label("share of the map", fontsize="small")
    bar.ax.tick_params(labelsize="small")
    for row, (test, first) in zip(axes, FIRST.items(), strict=True):
        for ax, panel in zip(row[1:], left[left["test"] == test].itertuples(), strict=True):
            draw_panel(ax, pictures[panel.panel], None)
            ax.set_title(f"{100 * panel.removed:.0f} % gone:\n“{panel.says}”, {panel.probability:.2f}",
                         fontsize="small", fontweight="normal" if panel.right else "bold")
            if not panel.right:
                ax.add_patch(plt.Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour("none"), linewidth=3,
                                           linestyle=(0, (2, 1)), transform=ax.transAxes, clip_on=False))
        row[1].annotate(f"{test} test:\n{first} first", (-0.12, 0.5), xycoords="axes fraction", rotation=90,
                        ha="center", va="center", fontsize="small")
    return fig


def plot_clean_curves(df, controls) -> plt.Figure:
    """Share still right against the share of pixels removed: a column per method, a row per test.

    df         method, defence, kind (the test: "positive" or "negative"), removed (0 ... 1), mean, low, high
    controls   values of `method` that are drawn in grey in every panel, without intervals
    """
    methods = [m for m in dict.fromkeys(df["method"]) if m not in controls]
    fig, axes = plt.subplots(2, len(methods), figsize=(min(2.1 * len(methods) + 0.4, WIDEST), 4.6), sharex=True,
                             sharey=True, squeeze=False, layout="constrained")
    for ax, test in zip(axes[:, 0], BETTER, strict=True):
        ax.set_ylabel(f"{test}: share still right\n({BETTER[test]})")
    for row, test in zip(axes, BETTER, strict=True):
        for ax, method in zip(row, methods, strict=True):
            _clean_curves(ax, df[df["kind"] == test], method, controls)
    for top, bottom, method in zip(*axes, methods, strict=True):
        top.set_title(method_said(method))
        bottom.set_xlabel("share of pixels removed", fontsize="small")
    legend_below(fig, axes[0, 0], ncols=len(axes[0, 0].lines))
    return fig


def _clean_curves(ax, rows, method, controls):
    grey = rows[rows["method"].isin(controls)].sort_values("method", key=lambda c: c.map(list(controls).index))
    lines(ax, grey, "method", "removed", intervals="", colours=["0.45"], markers=None, dashes=("-", "--", ":"),
          linewidth=1.1, names=method_said)
    lines(ax, rows[rows["method"] == method], "defence", "removed", intervals="band", markersize=3, linewidth=1.3,
          names=said, look=lambda defence: {"color": colour(defence, rows["defence"])})
    ax.set(ylim=(-0.03, 1.03), xticks=[0, 0.5, 1])


def plot_area_gain(df) -> plt.Figure:
    """What DDS adds to the area under the perturbation curves, in its better direction, around a line at zero: a block
    of rows per test, the negative one above, and in it a row per method.

    df   of `contrasts.area_gains`: kind ("positive" or "negative"), method, condition ("clean", "transferred",
         "adaptive"), difference, low, high (DDS minus bare, image by image)
    """
    sign = df["kind"].map({"negative": 1, "positive": -1})
    gain = pd.DataFrame({
        "row": df["kind"] + df["method"], "condition": df["condition"], "mean": sign * df["difference"],
        "low": df["low"].where(sign > 0, -df["high"]), "high": df["high"].where(sign > 0, -df["low"])})
    methods = sorted(dict.fromkeys(df["method"]), key=lambda method: method != "vta")  # that of the title first
    order = [kind + method for kind in ("negative", "positive") for method in (" ", *methods)]  # " ": the block's name
    ax = one_panel(6.4, 0.36 * len(order) + 1.5)
    ax.axvline(0, color="0.2", linewidth=1.2)
    looks = {met: threat_look("dds", met) | {"linestyle": ""} for met in MET}
    dots(ax, gain, "row", order, "condition", gap=0.22, names=MET.get, look=looks.get)
    ax.set_yticks(range(len(order)), [method_said(row[8:]) for row in order])  # both names have eight letters
    for i, row in enumerate(order):
        if row.endswith(" "):
            ax.annotate(f"{row[:8]} test", (0, i), xycoords=ax.get_yaxis_transform(), xytext=(-4, 0), ha="right",
                        va="center", textcoords="offset points", fontweight="bold", fontsize="small")
            ax.axhline(i - 0.5, color="0.6", linewidth=0.8)
    ax.grid(axis="y", visible=False)
    ax.set(ylim=(len(order) - 0.5, -0.5), xlabel="what DDS gains over bare, in area under the curve, image by image")
    for side, ha, x in (("worse", "right", -6), ("better", "left", 6)):
        ax.annotate(f"DDS ranks {side}", (0, 1), xycoords=("data", "axes fraction"), xytext=(x, 4), ha=ha,
                    textcoords="offset points", fontsize="small", color="0.35")
    legend_below(ax.figure, ax, ncols=3)
    return ax.figure
